package ldcache

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

const (
	// ConfFile lists the directories in which libraries are looked for.
	ConfFile = "etc/ld.so.conf"

	// CacheFile is where the linker looks.
	CacheFile = "etc/ld.so.cache"
)

// standard are the directories that the linker searches anyway, and that a cache always covers; glibc is built for one
// pair or the other.
var standard = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64"}

// Link is a symbolic link by which a library goes under its soname, where no package brings it.
type Link struct {
	Path   string // relative, as in trees
	Target string // the name of the library, beside it
}

// Make finds the libraries of a tree: in the directories that its configuration names, in their order, and then in the
// standard ones, each directory with what it has for better processors in glibc-hwcaps. library tells what a file is; it
// is asked for regular files only, and says ErrNoLibrary for others.
func Make(t *filetree.Tree, library func(*filetree.Entry) (Library, error)) (*Cache, []Link, error) {
	m := &maker{tree: t, library: library, seen: make(map[string]bool), cache: &Cache{}}
	dirs, err := directories(t)
	if err != nil {
		return nil, nil, fmt.Errorf("making linker cache: %w", err)
	}
	for _, dir := range append(dirs, standard...) {
		if err := m.directory(dir); err != nil {
			return nil, nil, fmt.Errorf("making linker cache: %w", err)
		}
	}
	return m.cache, m.links, nil
}

type maker struct {
	tree    *filetree.Tree
	library func(*filetree.Entry) (Library, error)
	seen    map[string]bool // directories, by where their names lead
	cache   *Cache
	links   []Link
}

// directory adds the libraries of a directory that was not looked at under another name.
func (m *maker) directory(name string) error {
	e, ok := m.tree.Resolve(strings.TrimPrefix(name, "/"))
	if !ok || !e.Mode.IsDir() || m.seen[e.Path] {
		return nil
	}
	m.seen[e.Path] = true
	if err := m.libraries(name, e.Path, ""); err != nil {
		return err
	}
	better, ok := m.tree.Resolve(e.Path + "/glibc-hwcaps")
	if !ok || !better.Mode.IsDir() {
		return nil
	}
	for sub := range m.tree.Children(better.Path) {
		base := path.Base(sub.Path)
		if !sub.Mode.IsDir() || base[0] == '.' {
			continue
		}
		if err := m.libraries(name+"/glibc-hwcaps/"+base, sub.Path, base); err != nil {
			return err
		}
	}
	return nil
}

// A candidate is a file that may be the one a soname stands for.
type candidate struct {
	Library
	name string
	link bool // a link that has the soname; one of another name is as good as a file
}

// libraries adds those directly in the directory. Of several files of one soname the newest counts, a file before a link.
func (m *maker) libraries(name, dir, subdir string) error {
	var found []candidate
	for e := range m.tree.Children(dir) {
		c, ok, err := m.candidate(e)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		i := slices.IndexFunc(found, func(have candidate) bool { return have.Soname == c.Soname })
		switch {
		case i < 0:
			found = append(found, c)
		case !c.link && found[i].link, c.link == found[i].link && compareNames(found[i].name, c.name) < 0:
			found[i] = c
		}
	}
	for _, c := range found {
		file := c.name
		if subdir == "" {
			file = c.Soname
			if _, there := m.tree.Lookup(dir + "/" + c.Soname); !there {
				m.links = append(m.links, Link{dir + "/" + c.Soname, c.name})
			}
		}
		m.cache.Entries = append(m.cache.Entries, Entry{Soname: c.Soname, Path: name + "/" + file, Flags: c.Flags, Subdir: subdir})
		m.cache.Big = c.Big
	}
	return nil
}

func (m *maker) candidate(e *filetree.Entry) (candidate, bool, error) {
	base := path.Base(e.Path)
	if !IsLibraryName(base) {
		return candidate{}, false, nil
	}
	file, ok := m.tree.Resolve(e.Path)
	if ok && file.HardLink {
		file, ok = m.tree.Lookup(file.Link)
	}
	if !ok || !file.IsRegular() {
		return candidate{}, false, nil
	}
	l, err := m.library(file)
	if errors.Is(err, ErrNoLibrary) {
		return candidate{}, false, nil
	}
	if err != nil {
		return candidate{}, false, fmt.Errorf("/%s: %w", file.Path, err)
	}
	if l.Soname == "" || strings.Contains(l.Soname, "/") {
		l.Soname = base
	}
	isLink := e.Mode.Type() == fs.ModeSymlink
	if isLink && strings.HasSuffix(base, ".so") && strings.HasPrefix(l.Soname, base) {
		l.Soname = base // the name that compilers look for, and some programs too
	}
	return candidate{l, base, isLink && base == l.Soname}, true, nil
}

// maxIncludes bounds configurations that include themselves.
const maxIncludes = 16

// directories lists those that the configuration names, in its order.
func directories(t *filetree.Tree) ([]string, error) { return readConf(t, ConfFile, nil, 0) }

// readConf reads lines with a directory each, comments, and includes of files by pattern.
func readConf(t *filetree.Tree, file string, dirs []string, depth int) ([]string, error) {
	if depth > maxIncludes {
		return nil, fmt.Errorf("/%s: too many files include one another", file)
	}
	text, err := t.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return dirs, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		switch word, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " "); strings.ToLower(word) {
		case "", "hwcap": // which means nothing any more
		case "include":
			for _, pattern := range strings.Fields(rest) {
				if !path.IsAbs(pattern) {
					pattern = "/" + path.Dir(file) + "/" + pattern
				}
				for _, found := range glob(t, pattern) {
					if dirs, err = readConf(t, found, dirs, depth+1); err != nil {
						return nil, err
					}
				}
			}
		default:
			dir, _, _ := strings.Cut(line, "=") // "=TYPE" is from the days of libc5
			if dir = strings.TrimSpace(dir); path.IsAbs(dir) {
				dirs = append(dirs, path.Clean(dir))
			}
		}
	}
	return dirs, nil
}

// glob lists the files of the tree that an absolute pattern matches, in order.
func glob(t *filetree.Tree, pattern string) []string {
	found := []string{"."}
	for part := range strings.SplitSeq(strings.Trim(path.Clean(pattern), "/"), "/") {
		var next []string
		for _, dir := range found {
			if at, ok := t.Resolve(dir); ok {
				dir = at.Path
			}
			for e := range t.Children(dir) {
				base := path.Base(e.Path)
				hidden := base[0] == '.' && part[0] != '.'
				if ok, err := path.Match(part, base); err == nil && ok && !hidden {
					next = append(next, e.Path)
				}
			}
		}
		found = next
	}
	return found
}
