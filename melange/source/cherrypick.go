package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/utils/diff"
	"github.com/sergi/go-diff/diffmatchpatch"

	"distro.internal/melange/recipe"
)

// What a commit changed is brought to files that differ from those it was made for, as "git cherry-pick" does it: a
// merge of three. The base is a file before the commit, and both the commit and the files at hand are changes to it.
// Where they change different lines, both are done; where they change the same lines, or lines that touch, to different
// ones, nobody but a person can tell what is meant, and it is an error.

// pick brings the change of a commit to the files that were written.
func (c *checkout) pick(p recipe.CherryPick) error {
	from, err := c.store.pickRepository(c.ctx, c.src, p)
	if err != nil {
		return err
	}
	before, after, err := from.change()
	if err != nil {
		return err
	}
	changes, err := object.DiffTreeWithOptions(c.ctx, before, after, nil)
	if err != nil {
		return err
	}
	for _, change := range changes {
		if err := c.merge(from, change); err != nil {
			return fmt.Errorf("%s: %w", nameOf(change), err)
		}
	}
	if c.git == nil {
		return nil
	}
	picked, err := from.CommitObject(from.commit)
	if err != nil {
		return err
	}
	c.head, err = c.git.commitPick(c.repo, c.head, picked)
	return err
}

func nameOf(change *object.Change) string {
	if change.To.Name != "" {
		return change.To.Name
	}
	return change.From.Name
}

// change is the tree before a commit, and the one after it.
func (r *repository) change() (before, after *object.Tree, err error) {
	commit, err := r.CommitObject(r.commit)
	if err != nil {
		return nil, nil, err
	}
	if after, err = commit.Tree(); err != nil {
		return nil, nil, err
	}
	switch commit.NumParents() {
	case 0:
		return nil, after, nil
	case 1:
		parent, err := commit.Parent(0)
		if err != nil {
			return nil, nil, err
		}
		before, err = parent.Tree()
		return before, after, err
	}
	return nil, nil, errors.New("it is a merge, which is no single change")
}

// A version is a file at one time.
type version struct {
	there bool
	mode  filemode.FileMode
	data  []byte
}

func (r *repository) version(e object.ChangeEntry) (version, error) {
	if e.Name == "" {
		return version{}, nil
	}
	if e.TreeEntry.Mode == filemode.Submodule {
		return version{}, errors.New("a submodule is changed, which is not supported")
	}
	data, err := r.read(plumbing.BlobObject, e.TreeEntry.Hash)
	return version{true, e.TreeEntry.Mode, data}, err
}

// current is a file as it was written, or left by the picks before.
func (c *checkout) current(name string) (version, error) {
	info, err := c.dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return version{}, nil
	case err != nil:
		return version{}, err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := c.dir.Readlink(name)
		return version{true, filemode.Symlink, []byte(target)}, err
	case !info.Mode().IsRegular():
		return version{}, errors.New("it is no file here")
	}
	f, err := c.dir.Open(name)
	if err != nil {
		return version{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	mode := filemode.Regular
	if info.Mode()&0o111 != 0 {
		mode = filemode.Executable
	}
	return version{true, mode, c.inCommit(name, mode, data)}, err
}

func (c *checkout) merge(from *repository, change *object.Change) error {
	name := nameOf(change)
	if slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool { return !isPlainName(s) }) {
		return errors.New("it is no name for a file")
	}
	if !c.wanted(name, false) {
		return nil
	}
	base, err := from.version(change.From)
	if err != nil {
		return err
	}
	theirs, err := from.version(change.To)
	if err != nil {
		return err
	}
	ours, err := c.current(name)
	if err != nil {
		return err
	}
	merged, err := mergeVersions(base, ours, theirs)
	if err != nil || merged.same(ours) {
		return err
	}
	if err := c.note(name, merged); err != nil {
		return err
	}
	return c.replace(name, merged)
}

// note tells git of a file that was changed.
func (c *checkout) note(name string, v version) error {
	if c.git == nil {
		return nil
	}
	if !v.there {
		delete(c.git.files, name)
		return nil
	}
	o := new(plumbing.MemoryObject)
	o.SetType(plumbing.BlobObject)
	if _, err := o.Write(v.data); err != nil {
		return err
	}
	hash, err := c.repo.Storer.SetEncodedObject(o)
	c.git.add(name, v.mode, hash, len(c.inWorkTree(name, v.mode, v.data)), true)
	return err
}

func (v version) same(o version) bool {
	return v.there == o.there && v.mode == o.mode && bytes.Equal(v.data, o.data)
}

// mergeVersions is ours with the change from base to theirs.
func mergeVersions(base, ours, theirs version) (version, error) {
	switch {
	case ours.same(base):
		return theirs, nil
	case ours.same(theirs):
		return ours, nil
	case !ours.there:
		return version{}, errors.New("it is changed by the commit, and not there")
	case !theirs.there:
		return version{}, errors.New("it is removed by the commit, and other here than the commit knows it")
	case !base.there:
		return version{}, errors.New("it is new in the commit, and there already with other content")
	}
	merged := version{there: true, mode: ours.mode}
	if ours.mode == base.mode {
		merged.mode = theirs.mode
	}
	switch {
	case bytes.Equal(ours.data, base.data):
		merged.data = theirs.data
		return merged, nil
	case bytes.Equal(theirs.data, base.data):
		merged.data = ours.data
		return merged, nil
	case merged.mode == filemode.Symlink || bytes.IndexByte(base.data, 0) >= 0:
		return version{}, errors.New("it is no text, and other here than the commit knows it")
	}
	text, err := merge3(string(base.data), string(ours.data), string(theirs.data))
	merged.data = []byte(text)
	return merged, err
}

// A hunk replaces the lines from start to end of the base.
type hunk struct {
	start, end int
	lines      []string
}

// merge3 does to a text both of the changes.
func merge3(base, ours, theirs string) (string, error) {
	lines := splitLines(base)
	a, b := hunks(base, ours), hunks(base, theirs)
	var out []string
	at := 0
	for len(a) > 0 || len(b) > 0 {
		group := takeGroup(&a, &b)
		out = append(out, lines[at:group.start]...)
		mine, yours := group.apply(lines, group.ours), group.apply(lines, group.theirs)
		switch {
		case len(group.theirs) == 0 || slices.Equal(mine, yours):
			out = append(out, mine...)
		case len(group.ours) == 0:
			out = append(out, yours...)
		default:
			return "", fmt.Errorf("line %d and those after it are other here than the commit knows them", len(out)+1)
		}
		at = group.end
	}
	return strings.Join(append(out, lines[at:]...), ""), nil
}

// A group is hunks of both sides that overlap or touch.
type group struct {
	start, end   int
	ours, theirs []hunk
}

// takeGroup takes what comes first from both sides.
func takeGroup(a, b *[]hunk) group {
	first := *a
	if len(first) == 0 || len(*b) > 0 && (*b)[0].start < first[0].start {
		first = *b
	}
	g := group{start: first[0].start, end: first[0].start}
	for grown := true; grown; {
		grown = false
		for _, side := range []struct{ from, to *[]hunk }{{a, &g.ours}, {b, &g.theirs}} {
			for len(*side.from) > 0 && (*side.from)[0].start <= g.end {
				h := (*side.from)[0]
				*side.from, *side.to = (*side.from)[1:], append(*side.to, h)
				g.end, grown = max(g.end, h.end), true
			}
		}
	}
	return g
}

// apply is the lines of the group after the hunks of one side.
func (g group) apply(lines []string, hunks []hunk) []string {
	var out []string
	at := g.start
	for _, h := range hunks {
		out = append(append(out, lines[at:h.start]...), h.lines...)
		at = h.end
	}
	return append(out, lines[at:g.end]...)
}

// hunks are the changes from one text to another.
func hunks(from, to string) []hunk {
	var list []hunk
	at, open := 0, false
	for _, d := range diff.Do(from, to) {
		lines := splitLines(d.Text)
		if d.Type == diffmatchpatch.DiffEqual {
			at, open = at+len(lines), false
			continue
		}
		if !open {
			list, open = append(list, hunk{start: at, end: at}), true
		}
		h := &list[len(list)-1]
		if d.Type == diffmatchpatch.DiffDelete {
			at += len(lines)
			h.end = at
		} else {
			h.lines = append(h.lines, lines...)
		}
	}
	return settle(splitLines(from), list)
}

// settle moves what is only added or only removed down, as far as the same lines follow: where equal lines leave a choice
// of which of them is meant, git means the last, and both sides have to mean the same.
func settle(base []string, list []hunk) []hunk {
	for i := len(list) - 1; i >= 0; i-- {
		h, limit := &list[i], len(base)
		if i+1 < len(list) {
			limit = list[i+1].start
		}
		for h.end < limit {
			if h.start == h.end && h.lines[0] == base[h.end] {
				h.lines = append(slices.Clone(h.lines[1:]), h.lines[0])
			} else if len(h.lines) > 0 || base[h.start] != base[h.end] {
				break
			}
			h.start, h.end = h.start+1, h.end+1
		}
		if i+1 < len(list) && h.end == limit {
			next := list[i+1]
			*h = hunk{h.start, next.end, append(slices.Clone(h.lines), next.lines...)}
			list = slices.Delete(list, i+1, i+2)
		}
	}
	return list
}

func splitLines(s string) []string {
	return slices.Collect(strings.Lines(s))
}

// replace writes a file anew, or removes it with the folders that it leaves empty.
func (c *checkout) replace(name string, v version) error {
	if err := c.dir.RemoveAll(name); err != nil {
		return err
	}
	dir := path.Dir(name)
	if v.there {
		v.data = c.inWorkTree(name, v.mode, v.data)
		if err := c.write(name, v); err != nil {
			return err
		}
	} else {
		for dir != "." && c.dir.Remove(dir) == nil {
			dir = path.Dir(dir)
		}
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if err := c.dir.Chtimes(dir, c.time, c.time); err != nil {
			return err
		}
	}
	return nil
}

// write writes a file that is not there.
func (c *checkout) write(name string, v version) error {
	if err := c.dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch v.mode {
	case filemode.Symlink:
		return c.symlink(string(v.data), name)
	case filemode.Executable:
		return writeInto(c.dir, name, 0o755, c.time, bytes.NewReader(v.data))
	}
	return writeInto(c.dir, name, 0o644, c.time, bytes.NewReader(v.data))
}
