package rootfs

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// Opened is a package with its files at hand. Nothing changes it.
type Opened struct {
	Package *apk.Package
	Scripts apk.Scripts
	Files   []File // in the package's order, directories before what is in them
}

// A File is a name in a package: owner, mode and links as the package has them. Content is opened when
// asked for.
type File struct {
	filetree.Entry
	Sum apk.Checksum // SHA-1 of the content or of a symbolic link's target; zero where the package says none
}

// Open gives the files of an unpacked package with everything that the package says of them.
func (l Layer) Open() (Opened, error) {
	files, err := readNames(filepath.Dir(l.Dir))
	if err != nil {
		return Opened{}, fmt.Errorf("opening package %s: %w", l.Package.Name, err)
	}
	return Opened{Package: l.Package, Scripts: l.Scripts, Files: files}, nil
}

// sum is the checksum of a file, for a hard link that of the file it names.
func (p *Opened) sum(file int) apk.Checksum {
	f := &p.Files[file]
	if !f.HardLink {
		return f.Sum
	}
	for i := range p.Files {
		if named := &p.Files[i]; named.Path == f.Link && named.IsRegular() {
			return named.Sum
		}
	}
	return apk.Checksum{}
}

// A Conflict says that two packages cannot be in one tree.
type Conflict struct {
	Clashes []Clash // by path
}

// A Clash is one name that two packages have and that only one can have.
type Clash struct {
	Path          string
	First, Second string // names of the packages, in the order of installation
	Kinds         string // how they differ when it is not their content: "a directory and a symbolic link"
}

func (c Clash) String() string {
	if c.Kinds != "" {
		return fmt.Sprintf("%s is %s (in %s and %s)", c.Path, c.Kinds, c.First, c.Second)
	}
	return fmt.Sprintf("%s belongs to %s and to %s, and neither replaces the other", c.Path, c.First, c.Second)
}

// Error names the first few clashes: two versions of one thing clash in everything they have.
func (e *Conflict) Error() string {
	const few = 10
	var b strings.Builder
	b.WriteString("packages conflict: ")
	for i, c := range e.Clashes[:min(few, len(e.Clashes))] {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.String())
	}
	if more := len(e.Clashes) - few; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// An Origin is one file of one of several packages, both as indexes.
type Origin struct{ Package, File int }

// merged is several packages in one tree.
type merged struct {
	tree     *filetree.Tree
	packages []Opened
	files    map[string]Origin // of every name that is no directory: whose entry the tree has
	dirs     map[string]int    // of every directory: the package that says its owner and mode

	// top holds the names of which the overlay of all packages shows another entry than the tree has, with
	// the one that it shows; hidden: one that belongs elsewhere.
	top map[string]Origin

	// moved holds, for each package, the places in the tree of those files that lie elsewhere than in the
	// package, because a package before it has a link where this one has a directory.
	moved []map[int]string

	dir dirMemo
}

var hidden = Origin{-1, -1}

// dirMemo is where the last directory of the package that is being added lies: a directory's files follow
// each other.
type dirMemo struct {
	name, place string
	ok          bool
}

// merge puts the packages into one tree in the order of installation. Of a name that several have, the
// one that apk would leave on the disk stays. Hard links may name files of other packages then: see
// breakLinks.
func merge(packages []Opened) (*merged, error) {
	m := &merged{
		tree: filetree.New(), packages: packages, moved: make([]map[int]string, len(packages)),
		files: make(map[string]Origin), dirs: make(map[string]int), top: make(map[string]Origin),
	}
	var clashes []Clash
	for i, p := range packages {
		m.dir = dirMemo{name: ".", place: ".", ok: true}
		for j := range p.Files {
			clash, err := m.add(i, j)
			if err != nil {
				return nil, fmt.Errorf("package %s: %w", p.Package.Name, err)
			}
			if clash != nil && !slices.Contains(clashes, *clash) {
				clashes = append(clashes, *clash)
			}
		}
	}
	if len(clashes) > 0 {
		slices.SortStableFunc(clashes, func(a, b Clash) int { return strings.Compare(a.Path, b.Path) })
		return nil, &Conflict{Clashes: clashes}
	}
	return m, nil
}

// place is where the file of package i lies in the tree.
func (m *merged) place(i, file int) string {
	if moved, ok := m.moved[i][file]; ok {
		return moved
	}
	return m.packages[i].Files[file].Path
}

// move remembers that a file lies elsewhere, and that the overlay does not show it there.
func (m *merged) move(at Origin, from, to string) {
	if m.moved[at.Package] == nil {
		m.moved[at.Package] = make(map[int]string)
	}
	m.moved[at.Package][at.File] = to
	m.top[from] = at // and hides what should be there
}

// directory is where that directory of package i lies in the tree; not ok: what is there instead. One that
// the package does not list is its own all the same.
func (m *merged) directory(i int, name string) (place string, ok bool) {
	if name != m.dir.name {
		place, ok := throughLinks(m.tree, name)
		m.dir = dirMemo{name, place, ok}
		for dir := place; ok && dir != "."; dir = path.Dir(dir) {
			if _, there := m.tree.Lookup(dir); there {
				break
			}
			m.dirs[dir] = i
		}
	}
	return m.dir.place, m.dir.ok
}

// add puts one file of package i where it belongs. All that lies below a name that clashes is the same
// clash.
func (m *merged) add(i, file int) (*Clash, error) {
	e, at := m.packages[i].Files[file].Entry, Origin{i, file}
	name := e.Path
	dir, ok := m.directory(i, path.Dir(name))
	if !ok {
		return m.clash(dir, dir, i, kindDir), nil
	}
	if dir != path.Dir(name) {
		e.Path = path.Join(dir, path.Base(name))
		m.move(at, name, e.Path)
	}
	if e.HardLink {
		var err error
		if e.Link, err = Locate(m.tree, e.Link); err != nil {
			return nil, fmt.Errorf("hard link %s: %w", name, err)
		}
	}
	old, there := m.tree.Lookup(e.Path)
	switch {
	case !there:
		return nil, m.put(at, e, name)
	case old.Mode.IsDir() && e.Mode.IsDir():
		takes := takesDirectory(m.packages[i].Package, m.packages[m.dirs[e.Path]].Package)
		return nil, m.settle(at, e, name, takes)
	case e.Mode.IsDir():
		target, ok := m.tree.Resolve(e.Path)
		if !ok || !target.Mode.IsDir() {
			return m.clash(name, e.Path, i, kind(&e)), nil
		}
		m.move(at, name, target.Path) // a link to a directory: what lies in ours goes through it
		return nil, nil
	case old.Mode.IsDir():
		return m.clash(name, e.Path, i, kind(&e)), nil
	}
	first := m.files[e.Path]
	takes, ok := TakesFile(m.packages[i].Package, m.packages[first.Package].Package)
	if !ok && !m.same(first, at) {
		return m.clash(name, e.Path, i, ""), nil
	}
	return nil, m.settle(at, e, name, takes || !ok)
}

// clash describes that package i cannot have the name because of what lies in that place.
func (m *merged) clash(name, place string, i int, kindOfNext string) *Clash {
	first, isFile := m.files[place]
	if !isFile {
		first.Package = m.dirs[place]
	}
	c := &Clash{Path: name, First: m.packages[first.Package].Package.Name, Second: m.packages[i].Package.Name}
	if old, ok := m.tree.Lookup(place); ok && kindOfNext != "" {
		c.Kinds = kind(old) + " and " + kindOfNext
	}
	return c
}

// settle decides about a name that is there already. name is that in the package.
func (m *merged) settle(at Origin, e filetree.Entry, name string, takes bool) error {
	if takes {
		return m.put(at, e, name)
	}
	if e.Path == name {
		m.top[name] = at
	}
	return nil
}

func (m *merged) put(at Origin, e filetree.Entry, name string) error {
	if err := m.tree.Put(e); err != nil {
		return err
	}
	if e.Mode.IsDir() {
		m.dirs[e.Path] = at.Package
	} else {
		m.files[e.Path] = at
	}
	if e.Path == name {
		delete(m.top, name)
	} else {
		m.top[e.Path] = hidden
	}
	return nil
}

// TakesFile reports whether, of a file that both have, the one of next takes the place of that of owner, which
// was installed before. ok is false when apk would call it a conflict.
func TakesFile(next, owner *apk.Package) (takes, ok bool) {
	if next.Name == owner.Name {
		return true, true
	}
	keep, take := replacePriority(owner, next), replacePriority(next, owner)
	switch {
	case keep > take:
		return false, true
	case take >= 0, owner.Origin != "" && owner.Origin == next.Origin:
		return true, true
	}
	return false, false
}

// replacePriority is a's priority if it says that it replaces b, else -1.
func replacePriority(a, b *apk.Package) int {
	for _, d := range a.Replaces {
		if d.Name == b.Name && d.SatisfiedBy(b.Version, b.Checksum) {
			return a.ReplacesPriority
		}
	}
	return -1
}

// takesDirectory reports whether a directory that both packages have gets its owner and mode from next
// and not from owner, which was installed before. Unlike with files the order of installation does not count.
func takesDirectory(next, owner *apk.Package) bool {
	sameOrigin := next.Origin != "" && next.Origin == owner.Origin
	switch {
	case next.Name == owner.Name:
		return true
	case next.ReplacesPriority != owner.ReplacesPriority:
		return next.ReplacesPriority > owner.ReplacesPriority
	case sameOrigin && owner.Name == owner.Origin:
		return false
	case sameOrigin && next.Name == next.Origin:
		return true
	}
	return next.Name < owner.Name
}

// same reports whether the two files have the same content.
func (m *merged) same(first, second Origin) bool {
	p, q := &m.packages[first.Package], &m.packages[second.Package]
	a, b := &p.Files[first.File], &q.Files[second.File]
	if a.Mode.Type() != b.Mode.Type() {
		return false
	}
	if a.Mode.Type() == fs.ModeSymlink {
		return a.Link == b.Link
	}
	sum := p.sum(first.File)
	return !sum.IsZero() && sum == q.sum(second.File)
}

const kindDir = "a directory"

func kind(e *filetree.Entry) string {
	switch e.Mode.Type() {
	case fs.ModeDir:
		return kindDir
	case fs.ModeSymlink:
		return "a symbolic link"
	}
	return "a file"
}

// breakLinks makes files of hard links whose file is no longer that of their package: the content still
// is. What it makes is nobody's file in m.files.
func (m *merged) breakLinks() error {
	var broken []*filetree.Entry
	for e := range m.tree.All() {
		if !e.HardLink {
			continue
		}
		file, ok := m.files[e.Link]
		if link, packed := m.files[e.Path]; packed && (!ok || file.Package != link.Package) {
			broken = append(broken, e)
		}
	}
	first := make(map[Origin]string) // of a lost file: the first name that still leads to it
	for _, e := range broken {
		link := m.files[e.Path]
		delete(m.files, e.Path)
		lost, ok := m.named(link)
		if !ok {
			return fmt.Errorf("package %s: hard link %s: %s is not there", m.packages[link.Package].Package.Name, e.Path, e.Link)
		}
		if name, ok := first[lost]; ok {
			e.Link = name
			continue
		}
		first[lost] = e.Path
		twin := m.packages[lost.Package].Files[lost.File].Entry
		twin.Path = e.Path
		*e = twin
	}
	return nil
}

// named is the file that a hard link names in its own package.
func (m *merged) named(link Origin) (Origin, bool) {
	files := m.packages[link.Package].Files
	i := slices.IndexFunc(files, func(f File) bool { return f.Path == files[link.File].Link && f.IsRegular() })
	return Origin{link.Package, i}, i >= 0
}

// installed is the database of the packages, with the files that each of them has.
func (m *merged) installed() *apk.Installed {
	db := new(apk.Installed)
	for i := range m.packages {
		p := &m.packages[i]
		ip := &apk.InstalledPackage{Package: p.Package, Scripts: p.Scripts}
		for j := range p.Files {
			e := &p.Files[j].Entry
			if e.Mode.IsDir() || m.files[m.place(i, j)] == (Origin{i, j}) {
				ip.Files = append(ip.Files, apk.NameOf(e, p.sum(j)))
			}
		}
		db.Packages = append(db.Packages, ip)
	}
	return db
}

// Place puts e into the tree where the kernel would write it: see Locate. Missing parents are made 0755,
// for root, with e's time.
func Place(t *filetree.Tree, e filetree.Entry) error {
	name, err := Locate(t, e.Path)
	if err != nil {
		return err
	}
	e.Path = name
	for _, dir := range parents(name) {
		if _, ok := t.Lookup(dir); ok {
			continue
		}
		if err := t.Put(filetree.Entry{Path: dir, Mode: fs.ModeDir | 0o755, ModTime: e.ModTime}); err != nil {
			return err
		}
	}
	return t.Put(e)
}

// parents lists the directories above name, the highest first.
func parents(name string) []string {
	var dirs []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}

// Locate is where the kernel would find or make the name: symbolic links on the way to its last part are
// followed. So lib/apk is usr/lib/apk where lib is a link. It need not be there.
func Locate(t *filetree.Tree, name string) (string, error) {
	dir, ok := throughLinks(t, path.Dir(name))
	if !ok {
		return "", fmt.Errorf("%s: %s: %w", name, dir, filetree.ErrNotDir)
	}
	return path.Join(dir, path.Base(name)), nil
}

// throughLinks returns the directory that the path leads to, which need not be there; when it cannot be
// one, what is in the way.
func throughLinks(t *filetree.Tree, dir string) (place string, ok bool) {
	if e, ok := t.Lookup(dir); dir == "." || ok && e.Mode.IsDir() {
		return dir, true
	}
	parent, ok := throughLinks(t, path.Dir(dir))
	if !ok {
		return parent, false
	}
	dir = path.Join(parent, path.Base(dir))
	e, ok := t.Lookup(dir)
	if !ok || e.Mode.IsDir() {
		return dir, true
	}
	to, ok := t.Resolve(dir)
	if !ok || !to.Mode.IsDir() {
		return dir, false
	}
	return to.Path, true
}
