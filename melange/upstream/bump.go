package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// Bump is how a recipe's text becomes that of another version.
type Bump struct {
	Version apk.Version
	Commit  string             // that the version is at; empty: the servers of the repositories are asked
	Plan    recipe.PlanOptions // what the recipe's texts depend on
	Sources *source.Store      // what the files of the version are fetched through
}

// A Bumped recipe is the new text, and what is new in it.
type Bumped struct {
	Name    string      `json:"name"`
	From    apk.Version `json:"from"` // with the epoch
	To      apk.Version `json:"to"`
	Changes []Change    `json:"changes"`
	Text    []byte      `json:"-"`
}

// A Change is a value of a recipe that is another now.
type Change struct {
	Line int    `json:"line"`
	Key  string `json:"key"`
	Old  string `json:"old,omitempty"` // empty: the key is new
	New  string `json:"new"`
}

func (c Change) String() string {
	if c.Old == "" {
		return fmt.Sprintf("line %d: %s: %s", c.Line, c.Key, c.New)
	}
	return fmt.Sprintf("line %d: %s: %s -> %s", c.Line, c.Key, c.Old, c.New)
}

var hexCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Recipe makes a recipe one of another version: the version itself, epoch 0, and for each source that the version is part
// of its digests or its commit. Asked for the version that it has, the recipe gets the next epoch, and of sources only the
// commit that is given. All else in the text stays, byte for byte.
//
// Which sources the version is part of is not read from how they are written: it is those whose files, tags or branches
// have other names with another version.
func (b Bump) Recipe(ctx context.Context, file string, text []byte) (*Bumped, error) {
	switch {
	case !b.Version.Valid():
		return nil, fmt.Errorf("%q is not a version", b.Version)
	case strings.Contains(string(b.Version), "-r"):
		return nil, fmt.Errorf("version %s has a release number: that is what epoch: is for", b.Version)
	case b.Commit != "" && !hexCommit.MatchString(b.Commit):
		return nil, fmt.Errorf("a commit is 40 hexadecimal digits, found %q", b.Commit)
	}
	r, err := readHead(file, text)
	if err != nil {
		return nil, err
	}
	same := r.version.Value == string(b.Version)
	epoch := uint64(0)
	if same {
		epoch = r.epochNumber() + 1
	}
	w := &writer{Bumped: Bumped{Name: r.name, From: fullVersion(r.version.Value, r.epochNumber()), To: fullVersion(string(b.Version), epoch)}}
	if w.Text, err = w.head(text, r, string(b.Version), epoch); err != nil {
		return nil, err
	}
	if same && b.Commit == "" {
		return &w.Bumped, nil
	}
	if same {
		text, err = new(writer).head(text, r, someOther(r.version.Value), epoch)
	}
	if err == nil {
		err = b.sources(ctx, file, w, text, same)
	}
	return &w.Bumped, err
}

// sources changes what the new text says of sources. old is the text of some other version; same says that the version
// is not new.
func (b Bump) sources(ctx context.Context, file string, w *writer, old []byte, same bool) error {
	before, err := b.pins(file, old)
	if err != nil {
		return err
	}
	after, err := b.pins(file, w.Text)
	if err != nil {
		return err
	}
	if len(before) != len(after) {
		return fmt.Errorf("%s: which steps there are depends on the version: this cannot be changed by a program", file)
	}
	derived := make([]recipe.Pin, 0, len(after))
	for i, p := range after {
		if o := before[i]; o.URI != p.URI || o.Tag != p.Tag || o.Branch != p.Branch {
			p.Pos = o.Pos // as people have it before them
			derived = append(derived, p)
		}
	}
	if own := checkouts(after); b.Commit != "" && len(checkouts(derived)) == 0 && len(own) == 1 {
		derived = append(derived, own...) // it is of a branch, and there is no other that could be meant
	}
	return w.edit(file, func(e *edit) error {
		given := ""
		for _, p := range derived {
			if p.Err != nil {
				return p.Err
			}
			switch {
			case p.Kind == recipe.SourceFetch && same: // nothing says that it is another
			case p.Kind == recipe.SourceFetch:
				err = b.file(ctx, e, p)
			default:
				given = cmp.Or(given, p.URI)
				err = b.commit(ctx, e, p, given)
			}
			if err != nil {
				return &document.Error{Pos: p.Pos, Text: err.Error()}
			}
		}
		return nil
	})
}

func (b Bump) pins(file string, text []byte) ([]recipe.Pin, error) {
	r, err := recipe.Parse(file, text, recipe.ParseOptions{})
	if err != nil {
		return nil, err
	}
	return r.Pins(b.Plan)
}

// checkouts are the git sources among pins, each step once.
func checkouts(pins []recipe.Pin) []recipe.Pin {
	var list []recipe.Pin
	seen := map[document.Pos]bool{}
	for _, p := range pins {
		if p.Kind == recipe.SourceGit && !seen[p.Pos] {
			seen[p.Pos] = true
			list = append(list, p)
		}
	}
	return list
}

// file writes the digests of the file that a step names now.
func (b Bump) file(ctx context.Context, e *edit, p recipe.Pin) error {
	if p.Unpinned {
		return nil
	}
	name, err := b.Sources.File(ctx, recipe.Source{Kind: recipe.SourceFetch, URI: p.URI})
	if err != nil {
		return err
	}
	if p.SHA256.Pos.Line == 0 && p.SHA512.Pos.Line == 0 {
		digest, err := digestOf(name, sha256.New())
		if err == nil {
			e.add(p.With.Pos, "expected-sha256", digest)
		}
		return err
	}
	for _, d := range []struct {
		key     string
		written document.String
		hash    hash.Hash
	}{{"expected-sha256", p.SHA256, sha256.New()}, {"expected-sha512", p.SHA512, sha512.New()}} {
		if d.written.Pos.Line == 0 {
			continue
		}
		digest, err := digestOf(name, d.hash)
		if err != nil {
			return err
		}
		if err := e.set(d.key, d.written, digest); err != nil {
			return err
		}
	}
	return nil
}

func digestOf(name string, h hash.Hash) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// commit writes the commit that a step names now: the given one, if the step is of the repository that it was given for.
func (b Bump) commit(ctx context.Context, e *edit, p recipe.Pin, given string) error {
	commit := b.Commit
	if commit == "" || p.URI != given {
		refs, err := source.Refs(ctx, p.URI)
		if err != nil {
			return err
		}
		name := "refs/heads/" + p.Branch
		if p.Tag != "" {
			name = "refs/tags/" + p.Tag
		}
		var ok bool
		if commit, ok = refs[name]; !ok {
			return fmt.Errorf("%s has no %s", p.URI, name)
		}
	}
	if p.Commit.Pos.Line == 0 {
		e.add(p.With.Pos, p.Commits, commit)
		return nil
	}
	return e.set(p.Commits, p.Commit, commit)
}

// A head is what a bump changes in any case.
type head struct {
	name           string
	version, epoch document.String
}

func readHead(file string, text []byte) (head, error) {
	doc, err := document.Parse(file, text)
	if err != nil {
		return head{}, err
	}
	var r struct {
		Package struct{ Name, Version, Epoch document.String }
	}
	if err := doc.DecodeKnown(&r); err != nil {
		return head{}, err
	}
	p := r.Package
	var errs document.ErrorList
	if p.Version.Pos.Line == 0 {
		errs.Add(document.Pos{File: file}, "", "the package has no version")
	} else if strings.Contains(p.Version.Value, "${{") {
		errs.Add(p.Version.Pos, "", "the version is made of variables: this cannot be changed by a program")
	}
	if _, err := strconv.ParseUint(cmp.Or(p.Epoch.Value, "0"), 10, 64); err != nil {
		errs.Add(p.Epoch.Pos, "", "epoch %q is not a whole number", p.Epoch.Value)
	}
	return head{p.Name.Value, p.Version, p.Epoch}, errs.Err()
}

func (h head) epochNumber() uint64 {
	n, _ := strconv.ParseUint(h.epoch.Value, 10, 64) // checked
	return n
}

func fullVersion(version string, epoch uint64) apk.Version {
	return apk.Version(fmt.Sprintf("%s-r%d", version, epoch))
}

var number = regexp.MustCompile(`[0-9]+`)

// someOther is a version that has no number in common with another.
func someOther(version string) string { return number.ReplaceAllString(version, "9$0") }

// A writer collects the changes to a text.
type writer struct{ Bumped }

// head gives a text another version and epoch.
func (w *writer) head(text []byte, r head, version string, epoch uint64) ([]byte, error) {
	w.Text = text
	err := w.edit(r.version.Pos.File, func(e *edit) error {
		if err := e.set("version", r.version, version); err != nil {
			return err
		}
		number := strconv.FormatUint(epoch, 10)
		if r.epoch.Pos.Line > 0 {
			return e.set("epoch", r.epoch, number)
		}
		e.add(r.version.Pos, "epoch", number)
		return nil
	})
	return w.Text, err
}

// edit changes the text that there is so far.
func (w *writer) edit(file string, change func(*edit) error) error {
	doc, err := document.Parse(file, w.Text)
	if err != nil {
		return err
	}
	e := &edit{writer: w, editor: doc.Edit(), done: map[document.Pos]string{}}
	if err := change(e); err != nil {
		return err
	}
	text, err := e.editor.Bytes()
	if err == nil {
		w.Text = text
	}
	return err
}

// An edit remembers what it has changed: what a ranged subpackage names, it names several times.
type edit struct {
	*writer
	editor *document.Editor
	done   map[document.Pos]string // by the place of the value; what follows one is at the place behind it
}

func (e *edit) set(key string, old document.String, value string) error {
	if strings.Contains(old.Value, "${{") {
		return fmt.Errorf("%s is made of variables, in line %d: this cannot be changed by a program", key, old.Pos.Line)
	}
	if was, ok := e.done[old.Pos]; ok {
		if was != value {
			return fmt.Errorf("%s in line %d would have to be %s and %s", key, old.Pos.Line, was, value)
		}
		return nil
	}
	e.done[old.Pos] = value
	if old.Value == value {
		return nil
	}
	e.editor.Set(old.Pos, value)
	e.Changes = append(e.Changes, Change{old.Pos.Line, key, old.Value, value})
	return nil
}

func (e *edit) add(after document.Pos, key, value string) {
	behind := after
	behind.Col = -after.Col
	if _, ok := e.done[behind]; ok {
		return
	}
	e.done[behind] = value
	e.editor.Add(after, key, value)
	e.Changes = append(e.Changes, Change{after.Line + 1, key, "", value})
}
