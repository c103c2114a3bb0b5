package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// Opened is a package with its files at hand.
type Opened struct {
	Package *apk.Package
	Scripts apk.Scripts
	Tree    *filetree.Tree          // owners, modes and links as the package has them; content is opened when asked for
	Sums    map[string]apk.Checksum // SHA-1 of the content of files and of the targets of symbolic links, by path
}

// Open gives the files of an unpacked package with everything that the package says of them.
func (l Layer) Open() (Opened, error) {
	c, err := readNames(filepath.Dir(l.Dir))
	if err != nil {
		return Opened{}, fmt.Errorf("opening package %s: %w", l.Package.Name, err)
	}
	return Opened{Package: l.Package, Scripts: l.Scripts, Tree: c.tree, Sums: c.sums}, nil
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

// merged is several packages in one tree.
type merged struct {
	tree     *filetree.Tree
	packages []Opened
	owner    map[string]int // index of the package whose entry is in the tree
	top      map[string]int // index of the one whose entry the overlay of all would show; hidden: none

	// moved holds, for each package, the names whose place in the tree is another one than in the package,
	// because a package before it has a link where this one has a directory.
	moved []map[string]string
}

const hidden = -1

// merge puts the packages into one tree in the order of installation. Of a name that several have, the
// one that apk would leave on the disk stays.
func merge(packages []Opened) (*merged, error) {
	m := &merged{
		tree: filetree.New(), packages: packages, moved: make([]map[string]string, len(packages)),
		owner: make(map[string]int), top: make(map[string]int),
	}
	var clashes []Clash
	for i, p := range packages {
		for e := range p.Tree.All() {
			clash, err := m.add(i, e)
			if err != nil {
				return nil, fmt.Errorf("package %s: %w", p.Package.Name, err)
			}
			if clash != nil {
				clashes = append(clashes, *clash)
			}
		}
	}
	if len(clashes) > 0 {
		slices.SortStableFunc(clashes, func(a, b Clash) int { return strings.Compare(a.Path, b.Path) })
		return nil, &Conflict{Clashes: clashes}
	}
	return m, m.breakLinks()
}

// name is where the entry of that name of package i lies in the tree.
func (m *merged) name(i int, name string) string {
	if moved, ok := m.moved[i][name]; ok {
		return moved
	}
	return name
}

// move remembers that an entry of package i lies elsewhere, and that the overlay does not show it there.
func (m *merged) move(i int, from, to string) {
	if m.moved[i] == nil {
		m.moved[i] = make(map[string]string)
	}
	m.moved[i][from] = to
	m.top[from] = i // and hides what should be there
}

// add puts one entry of package i where it belongs. What lies below a name that clashes is passed over:
// the one clash tells it all.
func (m *merged) add(i int, e *filetree.Entry) (*Clash, error) {
	place := *e
	if parent := m.name(i, path.Dir(e.Path)); parent != path.Dir(e.Path) {
		place.Path = path.Join(parent, path.Base(e.Path))
		m.move(i, e.Path, place.Path)
	}
	if e.HardLink {
		place.Link = m.name(i, e.Link)
	}
	old, there := m.tree.Lookup(place.Path)
	if !there {
		err := m.put(i, place, place.Path == e.Path)
		if errors.Is(err, filetree.ErrNotDir) {
			err = nil
		}
		return nil, err
	}
	first := m.packages[m.owner[place.Path]].Package
	next := m.packages[i].Package
	if e.Mode.IsDir() {
		switch target, ok := m.tree.Resolve(place.Path); {
		case !ok || !target.Mode.IsDir():
			return &Clash{e.Path, first.Name, next.Name, kind(old) + " and " + kind(e)}, nil
		case target != old: // a link to a directory: what lies in ours goes through it
			m.move(i, e.Path, target.Path)
			return nil, nil
		}
		return nil, m.settle(i, place, takesDirectory(next, first), place.Path == e.Path)
	}
	if old.Mode.IsDir() {
		return &Clash{e.Path, first.Name, next.Name, kind(old) + " and " + kind(e)}, nil
	}
	takes, ok := apk.Replaces(next, first)
	if !ok && !m.same(m.owner[place.Path], old, i, e) {
		return &Clash{Path: e.Path, First: first.Name, Second: next.Name}, nil
	}
	return nil, m.settle(i, place, takes || !ok, place.Path == e.Path)
}

// settle decides about a name that is there already. inPlace says that the entry lies where its package
// has it.
func (m *merged) settle(i int, e filetree.Entry, takes, inPlace bool) error {
	if takes {
		return m.put(i, e, inPlace)
	}
	if inPlace {
		m.top[e.Path] = i
	}
	return nil
}

func (m *merged) put(i int, e filetree.Entry, inPlace bool) error {
	if err := m.tree.Put(e); err != nil {
		return err
	}
	m.owner[e.Path], m.top[e.Path] = i, i
	if !inPlace {
		m.top[e.Path] = hidden
	}
	return nil
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

// same reports whether the two packages have the same content under this name.
func (m *merged) same(first int, old *filetree.Entry, second int, e *filetree.Entry) bool {
	if old.Mode.Type() != e.Mode.Type() {
		return false
	}
	if e.Mode.Type() == fs.ModeSymlink {
		return old.Link == e.Link
	}
	a, b := m.sum(first, old), m.sum(second, e)
	return !a.IsZero() && a == b
}

func (m *merged) sum(i int, e *filetree.Entry) apk.Checksum {
	return contents{sums: m.packages[i].Sums}.sum(e)
}

func kind(e *filetree.Entry) string {
	switch e.Mode.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	}
	return "a file"
}

// breakLinks makes files of hard links whose file another package took over: the content is still that
// of their own package.
func (m *merged) breakLinks() error {
	var broken []*filetree.Entry
	for e := range m.tree.All() {
		if e.HardLink && m.owner[e.Link] != m.owner[e.Path] {
			broken = append(broken, e)
		}
	}
	first := make(map[string]string) // of a lost file: the first name that still leads to it
	for _, e := range broken {
		i := m.owner[e.Path]
		lost := fmt.Sprint(i, " ", e.Link)
		if name, ok := first[lost]; ok {
			e.Link = name
			continue
		}
		file, ok := m.ownFile(i, e.Link)
		if !ok {
			return fmt.Errorf("package %s: hard link %s: %s is not there", m.packages[i].Package.Name, e.Path, e.Link)
		}
		first[lost] = e.Path
		twin := *file
		twin.Path = e.Path
		if err := m.tree.Put(twin); err != nil {
			return err
		}
	}
	return nil
}

// ownFile is the entry of package i that would lie at this place in the tree.
func (m *merged) ownFile(i int, place string) (*filetree.Entry, bool) {
	for from, to := range m.moved[i] {
		if to == place {
			place = from
			break
		}
	}
	return m.packages[i].Tree.Lookup(place)
}

// installed is the database of the packages, with the files that each of them has.
func (m *merged) installed() *apk.Installed {
	db := new(apk.Installed)
	for i, p := range m.packages {
		ip := &apk.InstalledPackage{Package: p.Package, Scripts: p.Scripts}
		for e := range p.Tree.All() {
			if owner, ok := m.owner[m.name(i, e.Path)]; !e.Mode.IsDir() && (!ok || owner != i) {
				continue
			}
			ip.Files = append(ip.Files, apk.NameOf(e, m.sum(i, e)))
		}
		db.Packages = append(db.Packages, ip)
	}
	return db
}

// Owners returns, for each path of the tree that is no directory and that a package of the database has,
// that package.
func Owners(t *filetree.Tree, db *apk.Installed) map[string]*apk.Package {
	owners := make(map[string]*apk.Package)
	for _, p := range db.Packages {
		for _, f := range p.Files {
			if f.Mode.IsDir() {
				continue
			}
			if dir, err := throughLinks(t, path.Dir(f.Path)); err == nil {
				owners[path.Join(dir, path.Base(f.Path))] = p.Package
			}
		}
	}
	return owners
}

// Place puts e into the tree where the kernel would write it: symbolic links on the way to its last name
// are followed. So lib/apk goes to usr/lib/apk where lib is a link.
func Place(t *filetree.Tree, e filetree.Entry) error {
	dir, err := throughLinks(t, path.Dir(e.Path))
	if err != nil {
		return fmt.Errorf("placing %s: %w", e.Path, err)
	}
	e.Path = path.Join(dir, path.Base(e.Path))
	return t.Put(e)
}

// throughLinks returns the directory that the path leads to, which need not be there.
func throughLinks(t *filetree.Tree, dir string) (string, error) {
	if dir == "." {
		return dir, nil
	}
	parent, err := throughLinks(t, path.Dir(dir))
	if err != nil {
		return "", err
	}
	dir = path.Join(parent, path.Base(dir))
	e, ok := t.Lookup(dir)
	if !ok || e.Mode.IsDir() {
		return dir, nil
	}
	to, ok := t.Resolve(dir)
	if !ok || !to.Mode.IsDir() {
		return "", fmt.Errorf("%s: %w", dir, filetree.ErrNotDir)
	}
	return to.Path, nil
}
