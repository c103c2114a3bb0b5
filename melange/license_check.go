package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
	"distro.internal/shared/document"
)

type licenseOptions struct {
	planFlags
	cacheDir  string
	deep, fix bool
}

func licenseCheckCommand(s surroundings) *cobra.Command {
	var o licenseOptions
	c := &cobra.Command{
		Use:   "license-check RECIPE",
		Short: "Compare the licences that a recipe declares with the licence files of its sources",
		Long: `Compare the licences that a recipe declares with the texts of the licence files
in its sources: those at the top and one folder below it, or with --deep all. A
text that is no licence's, or that nobody declared, is an error; so is a
declared licence of which there is no text. The text of a GNU licence does not
tell whether later versions may be chosen: either is right.

With --fix what was found is declared: in the place of the one declared licence
when that was found nowhere and there is one to put there, else beside what
there is.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.check(c.Context(), s, args[0])
		},
	}
	f := c.Flags()
	o.register(f)
	f.StringVar(&o.cacheDir, "cache-dir", s.cache, "folder for sources")
	f.BoolVar(&o.deep, "deep", false, "look in all folders")
	f.BoolVar(&o.fix, "fix", false, "change what the recipe declares")
	return c
}

func (o *licenseOptions) check(ctx context.Context, s surroundings, file string) error {
	r, err := readRecipe(file)
	if err != nil {
		return err
	}
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "licenses-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, err := sourceStore(o.cacheDir)
	if err != nil {
		return err
	}
	sources := slices.DeleteFunc(slices.Clone(plans[0].Sources), recipe.Source.Locked)
	store.FilesOnly = true
	if _, err := store.Prepare(ctx, sources, dir, ""); err != nil {
		return err
	}
	texts, err := licenseTexts(os.DirFS(dir), o.deep)
	if err != nil {
		return err
	}
	c := compareLicenses(r.Package.Copyright, texts)
	c.print(s.stdout)
	if c.wrong == 0 {
		return nil
	}
	if !o.fix {
		return fmt.Errorf("%s: %s", file, count(c.wrong, "difference"))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	fixed, left, err := c.fix(file, text)
	if err != nil {
		return err
	}
	if err := replaceText(file, fixed); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%s: %s left, for people", file, count(left, "difference"))
	}
	return nil
}

// A licenseText is a file with the licences that stand in it; none when it could not be told.
type licenseText struct {
	file     string
	licenses []string
}

var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|unlicen[cs]e|mit-license|gpl|lgpl)([-_. ].*)?$|^.*[-_. ]licen[cs]e(\.txt|\.md)?$`)

// code is what files with such names can be besides licences.
var code = []string{".go", ".c", ".h", ".py", ".rb", ".js", ".ts", ".rs", ".java", ".html", ".json", ".yaml", ".yml", ".sh", ".pl", ".php", ".css", ".svg", ".png"}

// covered is how much of a text must be a licence's, in per cent, when it is not known as one for other reasons.
const covered = 50

func licenseTexts(tree fs.FS, deep bool) ([]licenseText, error) {
	var texts []licenseText
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		depth := strings.Count(name, "/")
		if d.IsDir() {
			if !deep && (depth > 0 || d.Name() == "vendor" || d.Name() == "node_modules") && name != "." {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !licenseName.MatchString(d.Name()) || slices.Contains(code, strings.ToLower(path.Ext(name))) {
			return nil
		}
		data, err := readStart(tree, name)
		if err != nil {
			return err
		}
		texts = append(texts, licenseText{name, licensesIn(data)})
		return nil
	})
	return texts, err
}

// longestText is more than any licence has: what is longer is judged by its beginning.
const longestText = 4 << 20

func readStart(tree fs.FS, name string) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, longestText))
}

func licensesIn(text []byte) []string {
	scanned := licensecheck.Scan(text)
	if scanned.Percent < covered && !slices.ContainsFunc(scanned.Match, func(m licensecheck.Match) bool { return !m.IsURL }) {
		return nil
	}
	var ids []string
	for _, m := range scanned.Match {
		if !m.IsURL && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// A licenseComparison is what is declared beside what is there.
type licenseComparison struct {
	declared   []declaredLicense
	copyright  []recipe.Copyright
	texts      []licenseText
	undeclared []undeclaredLicense
	wrong      int
}

type declaredLicense struct {
	id    string
	entry int // in copyright
	found bool
}

type undeclaredLicense struct{ id, file string }

var licenseWord = regexp.MustCompile(`[A-Za-z0-9.+-]+`)

// declaredLicenses are the names in SPDX expressions. Exceptions are no licences.
func declaredLicenses(copyright []recipe.Copyright) (list []declaredLicense) {
	for i, c := range copyright {
		words := licenseWord.FindAllString(c.License.Value, -1)
		for n, w := range words {
			if operator := slices.Contains([]string{"AND", "OR", "WITH"}, w); operator || n > 0 && words[n-1] == "WITH" {
				continue
			}
			list = append(list, declaredLicense{id: w, entry: i})
		}
	}
	return list
}

// sameLicense leaves aside what the text of a licence does not say.
func sameLicense(a, b string) bool {
	plain := func(id string) string {
		for _, end := range []string{"-only", "-or-later", "+"} {
			id = strings.TrimSuffix(id, end)
		}
		return strings.ToLower(id)
	}
	return plain(a) == plain(b)
}

func compareLicenses(copyright []recipe.Copyright, texts []licenseText) *licenseComparison {
	c := &licenseComparison{declared: declaredLicenses(copyright), copyright: copyright, texts: texts}
	for _, t := range texts {
		for _, id := range t.licenses {
			known := slices.ContainsFunc(copyright, func(e recipe.Copyright) bool { return e.DetectionOverride.Value == id })
			for i := range c.declared {
				if sameLicense(c.declared[i].id, id) {
					c.declared[i].found, known = true, true
				}
			}
			if !known && !slices.ContainsFunc(c.undeclared, func(u undeclaredLicense) bool { return u.id == id }) {
				c.undeclared = append(c.undeclared, undeclaredLicense{id, t.file})
			}
		}
	}
	c.wrong = len(c.undeclared)
	for _, d := range c.declared {
		if !d.found && c.checkable(d) {
			c.wrong++
		}
	}
	return c
}

// checkable reports whether a text could be expected of a declared licence: somebody says where it is, or there are texts
// at all.
func (c *licenseComparison) checkable(d declaredLicense) bool {
	e := c.copyright[d.entry]
	return len(c.texts) > 0 && e.DetectionOverride.Value == "" && !strings.HasPrefix(d.id, "LicenseRef-") && d.id != "PROPRIETARY"
}

func (c *licenseComparison) print(w io.Writer) {
	if len(c.texts) == 0 {
		fmt.Fprintln(w, "no licence file in the sources")
	}
	for _, t := range c.texts {
		fmt.Fprintf(w, "%s: %s\n", t.file, cmp.Or(strings.Join(t.licenses, ", "), "no licence that is known"))
	}
	for _, u := range c.undeclared {
		fmt.Fprintf(w, "%s: %s is not declared\n", u.file, u.id)
	}
	for _, d := range c.declared {
		if !d.found && c.checkable(d) {
			fmt.Fprintf(w, "%s: %s is declared, and no licence file has it\n", c.copyright[d.entry].License.Pos, d.id)
		}
	}
}

// fix declares what was found, and counts what it leaves.
func (c *licenseComparison) fix(file string, text []byte) (fixed []byte, left int, err error) {
	doc, err := document.Parse(file, text)
	if err != nil {
		return nil, 0, err
	}
	e := doc.Edit()
	add := c.undeclared
	left = c.wrong - len(add)
	if len(c.declared) == 1 && left == 1 && len(add) == 1 && !ambiguous(add[0].id) {
		e.Set(c.copyright[0].License.Pos, add[0].id)
		add, left = nil, 0
	}
	for _, u := range add {
		if ambiguous(u.id) || len(c.copyright) == 0 {
			left++
			continue
		}
		e.AddItem(itemPos(doc, len(c.copyright)-1), "license: "+u.id+"\nlicense-path: "+u.file+"\n")
	}
	fixed, err = e.Bytes()
	return fixed, left, err
}

// ambiguous licences have a text that does not tell their name.
func ambiguous(id string) bool {
	return strings.HasPrefix(id, "GPL-") || strings.HasPrefix(id, "LGPL-") || strings.HasPrefix(id, "AGPL-") || strings.HasPrefix(id, "GFDL-")
}

// itemPos is where an entry of package.copyright begins.
func itemPos(doc *document.Document, n int) document.Pos {
	var r struct {
		Package struct{ Copyright []document.Node }
	}
	if doc.DecodeKnown(&r) != nil || n >= len(r.Package.Copyright) {
		return document.Pos{File: doc.File()}
	}
	return r.Package.Copyright[n].Pos()
}
