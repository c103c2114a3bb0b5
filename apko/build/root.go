package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// A root is the tree of an image while it is put together: first what the packages bring, then what the configuration
// makes of it. It remembers which files still are exactly what their package has, because those lie in the package's
// segment already.
type root struct {
	tree  *filetree.Tree
	parts []*part
	db    apk.Installed
	home  map[string]place  // path of every file that is in the segment of a part, unchanged
	links map[string]string // symbolic links that stand where some package has a directory, to where they lead
	notes []string          // what a disk would have and this tree has not
	when  time.Time         // of everything that is made here: when the newest package was built
}

// place is a file of a part.
type place struct{ part, file int }

// newRoot puts the packages together, in install order.
func newRoot(parts []*part) (*root, error) {
	r := &root{tree: filetree.New(), parts: parts, home: make(map[string]place)}
	r.findMergedDirectories()
	for i, p := range parts {
		if err := r.install(i); err != nil {
			return nil, fmt.Errorf("package %s-%s: %w", p.Package.Name, p.Package.Version, err)
		}
		if when := time.Unix(p.Package.BuildDate, 0).UTC(); when.After(r.when) {
			r.when = when
		}
	}
	return r, r.checkHardLinks()
}

// findMergedDirectories finds the links like lib -> usr/lib, that a package has where others have a directory. On a disk
// apk writes through them; in a layer every path has to be where it leads, since no link is followed there.
func (r *root) findMergedDirectories() {
	directories := make(map[string]bool)
	for _, p := range r.parts {
		for i := range p.Files {
			f := &p.Files[i]
			if f.Mode.IsDir() {
				directories[f.Path] = true
			}
			for dir := path.Dir(f.Path); dir != "." && !directories[dir]; dir = path.Dir(dir) {
				directories[dir] = true
			}
		}
	}
	for _, p := range r.parts {
		for i := range p.Files {
			f := &p.Files[i]
			if f.Mode.Type() == fs.ModeSymlink && directories[f.Path] {
				if r.links == nil {
					r.links = make(map[string]string)
				}
				r.links[f.Path] = f.Link
			}
		}
	}
}

// canonical is the path without merged directories in its parents, and with last also as itself.
func (r *root) canonical(name string, last bool) (string, error) {
	if len(r.links) == 0 {
		return name, nil
	}
	done, rest := "", name
	for links := 0; rest != ""; {
		part, more, _ := strings.Cut(rest, "/")
		done = path.Join(done, part)
		rest = more
		target, merged := r.links[done]
		if !merged || rest == "" && !last {
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%s: too many levels of symbolic links", name)
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(done), target)
		}
		done, rest = "", strings.TrimPrefix(path.Join(target, rest), "/")
	}
	return done, nil
}

// install adds one package: to the database, which decides whose a file is that two have, and to the tree.
func (r *root) install(i int) error {
	p := r.parts[i]
	installed := &apk.InstalledPackage{Package: p.Package, Scripts: p.Scripts}
	names := make([]string, len(p.Files))
	for j := range p.Files {
		f := &p.Files[j]
		name, err := r.canonical(f.Path, f.Mode.IsDir())
		if err != nil {
			return err
		}
		names[j] = name
		e := f.Entry
		e.Path = name
		if !f.Mode.IsDir() && r.sameFile(name, f) {
			continue
		}
		installed.Files = append(installed.Files, apk.NameOf(&e, f.Sum))
	}
	kept, err := r.db.Add(installed)
	if err != nil {
		return err
	}
	skip := make(map[string]bool, len(kept))
	for _, name := range kept {
		skip[name] = true
	}
	for j := range p.Files {
		f := &p.Files[j]
		if skip[names[j]] || !f.Mode.IsDir() && r.sameFile(names[j], f) {
			continue
		}
		if err := r.place(i, j, names[j]); err != nil {
			return err
		}
	}
	return nil
}

// sameFile reports whether a package installed before has the very same file there: two owners, no conflict.
func (r *root) sameFile(name string, f *packed) bool {
	at, ok := r.home[name]
	if !ok || f.Sum.IsZero() || f.HardLink {
		return false
	}
	have := &r.parts[at.part].Files[at.file]
	return have.Sum == f.Sum && have.Mode == f.Mode && have.UID == f.UID && have.GID == f.GID && have.Link == f.Link && !have.HardLink
}

func (r *root) place(i, j int, name string) error {
	f := &r.parts[i].Files[j]
	e := f.Entry
	e.Path = name
	if f.Mode.IsDir() {
		return r.putDirectory(e)
	}
	if e.HardLink {
		var err error
		if e.Link, err = r.canonical(e.Link, false); err != nil {
			return err
		}
	}
	if e.IsRegular() {
		e.Open = r.parts[i].open(*f)
	}
	if _, isDir := r.links[name]; isDir && f.Mode.Type() != fs.ModeSymlink {
		return fmt.Errorf("%s: another package has a directory or link there", name)
	}
	if err := r.tree.Put(e); err != nil {
		return err
	}
	r.home[name] = place{i, j}
	return nil
}

// putDirectory lets the directory of the package installed last win, as apk does.
func (r *root) putDirectory(e filetree.Entry) error {
	if have, ok := r.tree.Lookup(e.Path); ok && !have.Mode.IsDir() {
		if target, ok := r.tree.Resolve(e.Path); ok && target.Mode.IsDir() {
			return nil // a package brings a link there that leads to a directory
		}
		return fmt.Errorf("directory %s: another package has a file there", e.Path)
	}
	return r.tree.Put(e)
}

// checkHardLinks gives hard links whose first name went to another package a content of their own.
func (r *root) checkHardLinks() error {
	for e := range r.tree.All() {
		if !e.HardLink {
			continue
		}
		at, ok := r.home[e.Path]
		if !ok {
			continue
		}
		target, ok := r.tree.Lookup(e.Link)
		if first, in := r.home[e.Link]; ok && in && first.part == at.part && target.IsRegular() {
			continue
		}
		p := r.parts[at.part]
		link := p.Files[at.file].Link
		j := slices.IndexFunc(p.Files, func(f packed) bool { return f.Path == link && f.IsRegular() })
		if j < 0 {
			return fmt.Errorf("package %s: hard link %s: the package has no file %s", p.Package.Name, e.Path, link)
		}
		own := p.Files[j].Entry
		own.Path, own.Open = e.Path, p.open(p.Files[j])
		*e = own
		delete(r.home, e.Path)
	}
	return nil
}

// put adds an entry of our own, or replaces one. Its parents may lead through links of the tree; its own name is not
// followed. Missing parents are made 0755, for root.
func (r *root) put(e filetree.Entry) error {
	name, err := r.locate(e.Path)
	if err != nil {
		return err
	}
	e.Path = name
	if e.ModTime.IsZero() {
		e.ModTime = r.when
	}
	if have, ok := r.tree.Lookup(name); ok && have.IsRegular() {
		r.release(have)
	}
	for _, dir := range r.missingParents(name) {
		if err := r.tree.Put(filetree.Entry{Path: dir, Mode: fs.ModeDir | 0o755, ModTime: r.when}); err != nil {
			return err
		}
	}
	delete(r.home, name)
	return r.tree.Put(e)
}

// missingParents lists the parents of the path that are not there, the top first.
func (r *root) missingParents(name string) []string {
	var list []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := r.tree.Lookup(dir); ok {
			break
		}
		list = append(list, dir)
	}
	slices.Reverse(list)
	return list
}

// file adds a regular file of our own.
func (r *root) file(name string, mode fs.FileMode, content []byte) error {
	return r.put(filetree.Entry{Path: name, Mode: mode, Size: int64(len(content)), Open: filetree.Bytes(content)})
}

// directory adds a directory unless there is one.
func (r *root) directory(name string, mode fs.FileMode, uid, gid int) error {
	if have, ok := r.tree.Resolve(name); ok {
		if !have.Mode.IsDir() {
			return fmt.Errorf("directory %s: a file is there", name)
		}
		return nil
	}
	return r.put(filetree.Entry{Path: name, Mode: fs.ModeDir | mode, UID: uid, GID: gid})
}

// locate is the path with the links in its parents followed inside the tree.
func (r *root) locate(name string) (string, error) {
	missing := path.Base(name)
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if e, ok := r.tree.Lookup(dir); ok && e.Mode.IsDir() {
			return path.Join(dir, missing), nil
		}
		if e, ok := r.tree.Resolve(dir); ok {
			if !e.Mode.IsDir() {
				return "", fmt.Errorf("%s: %s is not a directory", name, dir)
			}
			return path.Join(e.Path, missing), nil
		}
		if e, ok := r.tree.Lookup(dir); ok && e.Mode.Type() == fs.ModeSymlink {
			return "", fmt.Errorf("%s: the link %s leads nowhere", name, dir)
		}
		missing = path.Join(path.Base(dir), missing)
	}
	return missing, nil
}

// edit changes the metadata of what has the name. All names of a file are changed with it.
func (r *root) edit(name string, change func(*filetree.Entry)) error {
	located, err := r.locate(name)
	if err != nil {
		return err
	}
	e, ok := r.tree.Lookup(located)
	if !ok {
		return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if e.HardLink {
		if e, ok = r.tree.Lookup(e.Link); !ok {
			return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
	}
	change(e)
	delete(r.home, e.Path)
	if !e.IsRegular() {
		return nil
	}
	for link := range r.namesOf(e) {
		link.Mode, link.UID, link.GID = e.Mode, e.UID, e.GID
		delete(r.home, link.Path)
	}
	return nil
}

// namesOf yields the hard links to a file.
func (r *root) namesOf(e *filetree.Entry) func(func(*filetree.Entry) bool) {
	return func(yield func(*filetree.Entry) bool) {
		for link := range r.tree.All() {
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
		delete(r.home, link.Path)
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
	b, err := r.tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// has reports whether the path leads to something.
func (r *root) has(name string) bool {
	_, ok := r.tree.Resolve(name)
	return ok
}
