package build

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"distro.internal/shared/filetree"
	"distro.internal/shared/rootfs"
)

// A root is the tree of an image while it is put together: first what the packages bring, then what the configuration
// makes of it. It remembers which files still are exactly what their package has, because those lie in the package's
// segment already.
type root struct {
	*rootfs.Assembled // its Files lose what changes
	parts             []*part
	base              *base     // what lies beneath; nil when nothing does
	notes             []string  // what a disk would have and this tree has not
	when              time.Time // of everything that is made here: when the newest package was built
}

// newRoot puts the packages together, in install order, those of the base image first.
func newRoot(parts []*part, db rootfs.Database, beneath *base) (*root, error) {
	r := &root{parts: parts, base: beneath}
	o := rootfs.AssembleOptions{Database: db}
	if beneath != nil {
		r.parts = slices.Concat(beneath.parts, parts)
		o.Database, o.Beneath = beneath.join(db), beneath.tree
	}
	parts = r.parts
	packages := make([]rootfs.Opened, len(parts))
	for i, p := range parts {
		packages[i] = rootfs.Opened{Package: p.Package, Scripts: p.Scripts, Files: p.Files}
		if when := time.Unix(p.Package.BuildDate, 0).UTC(); when.After(r.when) {
			r.when = when
		}
	}
	o.Time = r.when
	var err error
	r.Assembled, err = rootfs.Assemble(packages, o)
	return r, err
}

// put adds an entry of our own, or replaces one. Its parents may lead through links of the tree; its own name is not
// followed. Missing parents are made 0755, for root.
func (r *root) put(e filetree.Entry) error {
	name, err := r.locate(e.Path)
	if err != nil {
		return err
	}
	if e.ModTime.IsZero() {
		e.ModTime = r.when
	}
	if have, ok := r.Tree.Lookup(name); ok && have.IsRegular() {
		r.release(have)
	}
	delete(r.Files, name)
	return rootfs.Place(r.Tree, e)
}

// generate puts what rootfs makes of the tree.
func (r *root) generate(what func(*filetree.Tree, time.Time) ([]filetree.Entry, error)) error {
	es, err := what(r.Tree, r.when)
	if err != nil {
		return err
	}
	for _, e := range es {
		if err := r.put(e); err != nil {
			return err
		}
	}
	return nil
}

// file adds a regular file of our own.
func (r *root) file(name string, mode fs.FileMode, content []byte) error {
	return r.put(filetree.Entry{Path: name, Mode: mode, Size: int64(len(content)), Open: filetree.Bytes(content)})
}

// locate is the path with the links in its parents followed inside the tree.
func (r *root) locate(name string) (string, error) { return rootfs.Locate(r.Tree, name) }

// edit changes the metadata of what has the name. All names of a file are changed with it.
func (r *root) edit(name string, change func(*filetree.Entry)) error {
	located, err := r.locate(name)
	if err != nil {
		return err
	}
	e, ok := r.Tree.Lookup(located)
	if !ok {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if e.HardLink {
		if e, ok = r.Tree.Lookup(e.Link); !ok {
			return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
	}
	change(e)
	delete(r.Files, e.Path)
	if !e.IsRegular() {
		return nil
	}
	for link := range r.namesOf(e) {
		link.Mode, link.UID, link.GID = e.Mode, e.UID, e.GID
		delete(r.Files, link.Path)
	}
	return nil
}

// namesOf yields the hard links to a file.
func (r *root) namesOf(e *filetree.Entry) func(func(*filetree.Entry) bool) {
	return func(yield func(*filetree.Entry) bool) {
		for link := range r.Tree.All() {
			if link.HardLink && link.Link == e.Path && !yield(link) {
				return
			}
		}
	}
}

// release hands the content of a file that is to be replaced to its other names.
func (r *root) release(e *filetree.Entry) {
	first := ""
	for link := range r.namesOf(e) {
		delete(r.Files, link.Path)
		if first != "" {
			link.Link = first
			continue
		}
		first = link.Path
		own := *e
		own.Path = link.Path
		*link = own
	}
}

// read returns the content of a file of the tree, links followed; nil when there is none.
func (r *root) read(name string) ([]byte, error) {
	b, err := r.Tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// has reports whether the path leads to something.
func (r *root) has(name string) bool {
	_, ok := r.Tree.Resolve(name)
	return ok
}

// readLines returns the lines of a file that are not empty; none when there is no file.
func (r *root) readLines(name string) ([]string, error) {
	b, err := r.read(name)
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(b), func(c rune) bool { return c == '\n' }), nil
}
