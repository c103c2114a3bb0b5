package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/document"
)

func sourcePopCommand(s surroundings) *cobra.Command {
	var o sourceOptions
	c := &cobra.Command{
		Use:   "pop RECIPE [DIR]",
		Short: "Make the commits in a work tree of git the recipe's patches",
		Long: `Make the commits in a work tree that "melange source get" has made the patches
of the recipe: files in its folder, and the list in the recipe. A commit that is
as it came from a patch leaves the file alone; another is written over it, or to
a file of its own; patches without a commit go.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.pop(c.Context(), s, args)
		},
	}
	o.register(c.Flags())
	return c
}

// A commit of a work tree is one patch.
type commit struct {
	hash, name string
	step       int // among the recipe's patch steps
	unchanged  bool
}

func (o *sourceOptions) pop(ctx context.Context, s surroundings, args []string) error {
	file := args[0]
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	steps, err := o.patchSteps(file)
	if err != nil {
		return err
	}
	p := &popped{workTree: workTree{dir: o.dir(args, plans[0])}, file: file, local: o.localDir(file, plans[0]), steps: steps}
	if i := slices.IndexFunc(plans[0].Sources, func(s recipe.Source) bool { return s.Kind == recipe.SourceGit && s.Output == plans[0].Name }); i >= 0 {
		p.base = &plans[0].Sources[i]
		p.root = p.base.Directory
	} else {
		p.root = "."
	}
	if len(plans[0].Sources) > 0 && p.base == nil {
		p.base = &plans[0].Sources[0]
	}
	if err := p.read(ctx); err != nil {
		return err
	}
	changed, err := p.recipe(text)
	if err != nil {
		return err
	}
	if err := p.write(ctx); err != nil {
		return err
	}
	if string(changed) != string(text) {
		if err := replaceText(file, changed); err != nil {
			return err
		}
	}
	if err := p.clean(); err != nil {
		return err
	}
	for _, c := range p.commits {
		word := "written"
		if c.unchanged {
			word = "as it was"
		}
		fmt.Fprintf(s.stdout, "%s: %s\n", c.name, word)
	}
	for _, name := range p.gone {
		fmt.Fprintf(s.stdout, "%s: removed\n", name)
	}
	return nil
}

// popped is a recipe on the way to its new patches.
type popped struct {
	workTree
	file, local string
	steps       []recipe.PatchStep
	base        *recipe.Source // after whose step patches come when the recipe has none yet
	commits     []commit
	before      [][]string // the patches of each step, as they were
	gone        []string
}

// read lists the commits, with the patch and the step that each belongs to.
func (p *popped) read(ctx context.Context) error {
	if merges, err := p.git(ctx, "rev-list", "--merges", baseRef+"..HEAD"); err != nil {
		return fmt.Errorf("%w\n%s is no work tree that melange source get has made", err, p.dir)
	} else if merges != "" {
		return fmt.Errorf("%s: commit %.12s is a merge, which is no patch", p.dir, merges)
	}
	hashes, err := p.git(ctx, "rev-list", "--reverse", baseRef+"..HEAD")
	if err != nil {
		return err
	}
	for _, step := range p.steps {
		names, err := patchesOf(p.local, step)
		if err != nil {
			return err
		}
		p.before = append(p.before, names)
	}
	step := 0
	for hash := range strings.FieldsSeq(hashes) {
		c, err := p.commit(ctx, hash)
		if err != nil {
			return err
		}
		for i, names := range p.before {
			if slices.Contains(baseNames(names), c.name) {
				if i < step {
					return fmt.Errorf("%s comes after patches that the recipe applies later", c.name)
				}
				step = i
			}
		}
		c.step = step
		p.commits = append(p.commits, c)
	}
	return nil
}

func baseNames(names []string) []string {
	var list []string
	for _, n := range names {
		list = append(list, path.Base(n))
	}
	return list
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// commit names a commit: by its trailer, else by its subject.
func (p *popped) commit(ctx context.Context, hash string) (commit, error) {
	c := commit{hash: hash}
	trailer, err := p.git(ctx, "log", "-1", "--format=%(trailers:key="+patchName+",valueonly)", hash)
	if err != nil {
		return c, err
	}
	if c.name = strings.TrimSpace(trailer); c.name == "" {
		subject, err := p.git(ctx, "log", "-1", "--format=%s", hash)
		if err != nil {
			return c, err
		}
		c.name = strings.Trim(notInFileName.ReplaceAllString(subject, "-"), "-.") + ".patch"
	}
	if c.name != path.Base(c.name) || strings.ContainsAny(c.name, " \t\n") || c.name == ".." {
		return c, fmt.Errorf("commit %.12s: %q is no name for a patch", hash, c.name)
	}
	if slices.ContainsFunc(p.commits, func(other commit) bool { return other.name == c.name }) {
		return c, fmt.Errorf("two commits are the patch %s", c.name)
	}
	was, err := p.git(ctx, "for-each-ref", "--format=%(objectname)", patchRefs+c.name)
	c.unchanged = strings.TrimSpace(was) == hash
	return c, err
}

// path is where a commit's patch lies in the recipe's folder.
func (p *popped) path(c commit) string {
	if c.step < len(p.before) {
		for _, name := range p.before[c.step] {
			if path.Base(name) == c.name {
				return name
			}
		}
		if s := p.steps[c.step]; s.Series != "" {
			return path.Join(path.Dir(s.Series), c.name)
		} else if len(s.Patches) > 0 {
			return path.Join(path.Dir(s.Patches[0]), c.name)
		}
	}
	return c.name
}

// write writes the patches whose commits are others now.
func (p *popped) write(ctx context.Context) error {
	for _, c := range p.commits {
		if c.unchanged {
			continue
		}
		text, err := p.format(ctx, c)
		if err != nil {
			return err
		}
		name := filepath.Join(p.local, filepath.FromSlash(p.path(c)))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := atomicfile.Write(name, 0o644, atomicfile.Bytes([]byte(text))); err != nil {
			return err
		}
	}
	for i, s := range p.steps {
		if s.Series == "" || slices.Equal(p.before[i], p.names(i)) {
			continue
		}
		text := strings.Join(relative(path.Dir(s.Series), p.names(i)), "\n") + "\n"
		if err := atomicfile.Write(filepath.Join(p.local, filepath.FromSlash(s.Series)), 0o644, atomicfile.Bytes([]byte(text))); err != nil {
			return err
		}
	}
	return nil
}

// format is the patch of a commit, as its step wants it.
func (p *popped) format(ctx context.Context, c commit) (string, error) {
	args := []string{"format-patch", "-1", "--stdout", "--zero-commit", "--no-signature", "--no-numbered"}
	if c.step < len(p.steps) {
		s := p.steps[c.step]
		dir, err := below(p.root, s.Dir)
		if err != nil {
			return "", err
		}
		if dir != "." {
			args = append(args, "--relative="+dir)
		}
		switch s.Strip {
		case 0:
			args = append(args, "--no-prefix")
		case 1:
		default:
			return "", fmt.Errorf("%s: strip-components is %d: there is no writing patches for that", s.Pos, s.Strip)
		}
	}
	text, err := p.git(ctx, append(args, c.hash)...)
	return withoutTrailer.ReplaceAllString(text, "\n"), err
}

var withoutTrailer = regexp.MustCompile(`\n(\n)?` + patchName + `: .*\n`)

// names are the patches of a step from now on.
func (p *popped) names(step int) (names []string) {
	for _, c := range p.commits {
		if c.step == step {
			names = append(names, p.path(c))
		}
	}
	return names
}

func relative(dir string, names []string) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = n
		if rel, err := filepath.Rel(dir, n); err == nil {
			list[i] = filepath.ToSlash(rel)
		}
	}
	return list
}

// recipe is the text with the lists of patches as they are from now on.
func (p *popped) recipe(text []byte) ([]byte, error) {
	doc, err := document.Parse(p.file, text)
	if err != nil {
		return nil, err
	}
	e := doc.Edit()
	for i, s := range p.steps {
		names := p.names(i)
		switch {
		case s.Series != "" || slices.Equal(names, p.before[i]):
		case len(names) == 0:
			return nil, fmt.Errorf("%s: the step would have no patch left: take it out of the recipe first", s.Pos)
		case strings.Contains(s.List.Value, "${{"):
			return nil, fmt.Errorf("%s: the list of patches is made of variables: this cannot be changed by a program", s.Pos)
		default:
			e.Set(s.List.Pos, listed(s.List.Value, relative(s.Dir, names)))
		}
	}
	if len(p.steps) == 0 && len(p.commits) > 0 {
		if p.base == nil {
			return nil, errors.New("the recipe has no step that patches could come after")
		}
		e.AddItem(p.base.Pos, "uses: patch\nwith:\n  patches: |\n    "+strings.Join(p.names(0), "\n    ")+"\n")
	}
	return e.Bytes()
}

// listed writes names as the list was written before: in a line, or one a line.
func listed(was string, names []string) string {
	if strings.Contains(strings.TrimSpace(was), "\n") || strings.HasSuffix(was, "\n") {
		return strings.Join(names, "\n") + "\n"
	}
	return strings.Join(names, " ")
}

// clean removes the patches that are no commits any more.
func (p *popped) clean() error {
	for i, names := range p.before {
		for _, name := range names {
			if slices.Contains(p.names(i), name) {
				continue
			}
			err := os.Remove(filepath.Join(p.local, filepath.FromSlash(name)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			p.gone = append(p.gone, path.Base(name))
		}
	}
	return nil
}
