// Package filetree is a Linux file tree as a value: names, metadata and a way to open each file's bytes.
//
// It knows how a tree is written to and read from a tar stream, taken from and put into a host directory,
// and seen as an fs.FS. Ownership, special modes, devices, hard links and extended attributes live in the
// tree, never on a disk that might not be able to hold them. It knows nothing of packages or images.
package filetree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
)

// An Entry is one name in a tree.
type Entry struct {
	Path               string      // relative, slash-separated, clean; never "" or "."
	Mode               fs.FileMode // type, permissions, setuid, setgid, sticky
	UID, GID           int
	User, Group        string    // names of the owners where they are known
	ModTime            time.Time // whole seconds; the zero time is written as 1970-01-01
	Size               int64     // of regular files, in bytes
	Link               string    // target of a symbolic link; of a hard link the Path of the first name
	HardLink           bool      // Mode is then that of the regular file that Link names
	DevMajor, DevMinor uint32
	Xattrs             map[string]string // name ("security.capability") to raw value

	// Open returns the content of a regular file. Nil means empty. Hard links have none:
	// see Tree.Open.
	Open func() (io.ReadCloser, error)
}

// IsRegular reports whether e holds content of its own: a regular file that is no hard link.
func (e *Entry) IsRegular() bool { return e.Mode.IsRegular() && !e.HardLink }

// Bytes is the Open function of content that is in memory.
func Bytes(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return memory{bytes.NewReader(b)}, nil }
}

// memory is content that can also be sought in, which io.NopCloser would hide.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// A Tree is a set of entries in which every parent is a directory that is an entry itself.
// Any number of goroutines may read one; writing needs exclusion.
type Tree struct {
	root node
	size int
}

// node keeps its children sorted by name, so that iteration needs no state and no sorting.
type node struct {
	name     string
	entry    Entry
	children []*node
}

// New returns an empty tree.
func New() *Tree {
	return &Tree{root: node{entry: Entry{Path: ".", Mode: fs.ModeDir | 0o755}}}
}

func (n *node) search(name string) (int, bool) {
	return slices.BinarySearchFunc(n.children, name, func(c *node, name string) int {
		return cmp.Compare(c.name, name)
	})
}

func (n *node) child(name string) *node {
	if i, ok := n.search(name); ok {
		return n.children[i]
	}
	return nil
}

// ErrNotDir is the cause when an entry would need a parent that is no directory.
var ErrNotDir = errors.New("parent is not a directory")

// Put adds e or replaces the entry of the same path. Missing parents are added as 0755 directories of
// root. A directory that replaces a directory leaves what is below in place; one with something below
// cannot be replaced by anything else.
func (t *Tree) Put(e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	dir, name := &t.root, e.Path
	for {
		first, rest, more := strings.Cut(name, "/")
		if !more {
			break
		}
		next := dir.child(first)
		if next == nil {
			parent := e.Path[:len(e.Path)-len(rest)-1]
			next = t.insert(dir, first, Entry{Path: parent, Mode: fs.ModeDir | 0o755})
		}
		if !next.entry.Mode.IsDir() {
			return fmt.Errorf("adding %s: %s: %w", e.Path, next.entry.Path, ErrNotDir)
		}
		dir, name = next, rest
	}
	old := dir.child(name)
	switch {
	case old == nil:
		t.insert(dir, name, e)
	case len(old.children) > 0 && !e.Mode.IsDir():
		return fmt.Errorf("adding %s: a directory that is not empty is there", e.Path)
	default:
		old.entry = e
	}
	return nil
}

func (t *Tree) insert(dir *node, name string, e Entry) *node {
	i, _ := dir.search(name)
	n := &node{name: name, entry: e}
	dir.children = slices.Insert(dir.children, i, n)
	t.size++
	return n
}

// Remove takes away the entry of the path with everything below it.
func (t *Tree) Remove(name string) {
	dir := &t.root
	if parent := path.Dir(name); parent != "." {
		dir = t.find(parent)
	}
	if dir == nil {
		return
	}
	if i, ok := dir.search(path.Base(name)); ok {
		dir.children[i].walk(func(*Entry) bool { t.size--; return true })
		dir.children = slices.Delete(dir.children, i, i+1)
	}
}

// Lookup returns the entry of exactly this path; no link is followed. Its metadata may be changed
// in place, its Path must not.
func (t *Tree) Lookup(name string) (*Entry, bool) {
	if n := t.find(name); n != nil && n != &t.root {
		return &n.entry, true
	}
	return nil, false
}

func (t *Tree) find(name string) *node {
	if name == "." {
		return &t.root
	}
	n := &t.root
	for part := range strings.SplitSeq(name, "/") {
		if n = n.child(part); n == nil {
			return nil
		}
	}
	return n
}

// Resolve returns the entry that the path leads to as the kernel would walk it with the tree as its
// root: symbolic links are followed and ".." stops at the top. The top itself is no entry.
func (t *Tree) Resolve(name string) (*Entry, bool) {
	if n, _ := t.walkLinks(name, true); n != nil && n != &t.root {
		return &n.entry, true
	}
	return nil, false
}

// maxLinks is how many symbolic links the kernel follows in one path.
const maxLinks = 40

var errLoop = errors.New("too many levels of symbolic links")

// walkLinks walks the path through symbolic links; the last one only when follow is set.
func (t *Tree) walkLinks(name string, follow bool) (*node, error) {
	at := []*node{&t.root}
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		dir := at[len(at)-1]
		if part != "" && !dir.entry.Mode.IsDir() {
			return nil, fs.ErrNotExist
		}
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		next := dir.child(part)
		if next == nil {
			return nil, fs.ErrNotExist
		}
		if next.entry.Mode.Type() != fs.ModeSymlink || (!follow && len(rest) == 0) {
			at = append(at, next)
			continue
		}
		if links++; links > maxLinks {
			return nil, errLoop
		}
		if path.IsAbs(next.entry.Link) {
			at = at[:1]
		}
		rest = slices.Concat(strings.Split(next.entry.Link, "/"), rest)
	}
	return at[len(at)-1], nil
}

// All yields the entries parents first, each directory's in lexical order, as filepath.WalkDir does.
// The tree must not gain or lose entries meanwhile.
func (t *Tree) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, n := range t.root.children {
			if !n.walk(yield) {
				return
			}
		}
	}
}

func (n *node) walk(yield func(*Entry) bool) bool {
	if !yield(&n.entry) {
		return false
	}
	for _, c := range n.children {
		if !c.walk(yield) {
			return false
		}
	}
	return true
}

// Len is the number of entries.
func (t *Tree) Len() int { return t.size }

// Children yields the entries directly in the directory, in lexical order; "." is the top.
func (t *Tree) Children(dir string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		n := t.find(dir)
		if n == nil {
			return
		}
		for _, c := range n.children {
			if !yield(&c.entry) {
				return
			}
		}
	}
}

// Below yields what is below the directory, at any depth, in the order of All.
func (t *Tree) Below(dir string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		n := t.find(dir)
		if n == nil {
			return
		}
		for _, c := range n.children {
			if !c.walk(yield) {
				return
			}
		}
	}
}

// Open returns the content of e, for a hard link that of the file it names.
func (t *Tree) Open(e *Entry) (io.ReadCloser, error) {
	if e.HardLink {
		target, err := t.linked(e)
		if err != nil {
			return nil, err
		}
		e = target
	}
	if !e.Mode.IsRegular() {
		return nil, fmt.Errorf("opening %s: not a regular file", e.Path)
	}
	if e.Open == nil {
		return Bytes(nil)()
	}
	return e.Open()
}

// ReadFile returns the whole content of the file that the path leads to, links followed.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	e, ok := t.Resolve(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	r, err := t.Open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// linked returns the regular file that the hard link e names.
func (t *Tree) linked(e *Entry) (*Entry, error) {
	target, ok := t.Lookup(e.Link)
	if !ok || !target.IsRegular() {
		return nil, fmt.Errorf("hard link %s: %s is no regular file of the tree", e.Path, e.Link)
	}
	return target, nil
}

func (e *Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch e.Mode.Type() {
	case 0, fs.ModeDir, fs.ModeNamedPipe, fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
	case fs.ModeSymlink:
		if e.Link == "" || strings.IndexByte(e.Link, 0) >= 0 {
			return fmt.Errorf("symbolic link %s: bad target %q", e.Path, e.Link)
		}
	default:
		return fmt.Errorf("%s: files of type %s have no place in a tree", e.Path, e.Mode.Type())
	}
	if e.HardLink {
		if !e.Mode.IsRegular() {
			return fmt.Errorf("hard link %s: not to a regular file", e.Path)
		}
		if err := checkPath(e.Link); err != nil {
			return fmt.Errorf("hard link %s: %w", e.Path, err)
		}
	}
	if e.Size < 0 {
		return fmt.Errorf("%s: negative size", e.Path)
	}
	return nil
}

// checkPath refuses every name that is not already in the one canonical spelling.
func checkPath(name string) error {
	if len(name) > maxPath || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("bad path %.100q", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || len(part) > maxName {
			return fmt.Errorf("bad path %.100q", name)
		}
	}
	return nil
}

// The kernel's limits: nothing longer can be unpacked anywhere.
const (
	maxPath = 4096
	maxName = 255
)
