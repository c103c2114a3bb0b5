package lint

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

// linters is all that is looked for, by name.
var linters = []linter{
	{Linter: Linter{"binaryarch", Warn, "it is for a processor that nothing here is built for"},
		object: func(o object) bool {
			return o.machine != elf.EM_X86_64 && o.machine != elf.EM_AARCH64 && o.machine != elf.EM_BPF
		}},
	{Linter: Linter{"cudaruntimelib", Warn, "a graphics driver's library comes from the host, and must not be hidden by a package's; stubs to link with have packages of their own"},
		entry: file(func(_ *subject, p string) bool { return driverLibrary.MatchString(p) })},
	{Linter: Linter{"dev", Required, "device files are the kernel's to make; remove what is in /dev"},
		entry: file(func(_ *subject, p string) bool { return below(p, "dev") })},
	{Linter: Linter{"dll", Warn, "Windows cannot be meant; leave its libraries out"},
		entry: file(func(s *subject, p string) bool { return strings.EqualFold(path.Ext(p), ".dll") && !s.is("-dev") })},
	{Linter: Linter{"documentation", Off, "texts for people belong into a -doc package"},
		entry: file(func(s *subject, p string) bool { return documentation.MatchString(path.Base(p)) && !s.is("-doc") })},
	{Linter: Linter{"duplicate", Warn, "the same file lies in several places; a link takes no room"},
		whole: duplicates},
	{Linter: Linter{"dylib", Warn, "macOS cannot be meant; leave its libraries out"},
		entry: file(func(s *subject, p string) bool { return path.Ext(p) == ".dylib" && !s.is("-dev") })},
	{Linter: Linter{"empty", Off, "a package without files is mostly a mistake of the recipe's"},
		whole: empty},
	{Linter: Linter{"infodir", Required, "every package would bring its own list of info pages; use split/infodir"},
		entry: file(func(_ *subject, p string) bool { return p == "usr/share/info/dir" || below(p, "usr/share/info/dir") })},
	{Linter: Linter{"lddcheck", Warn, "shared libraries are tested by test/tw/ldd-check; the package's test does not use it"},
		entry: file(func(s *subject, p string) bool {
			return sharedObject.MatchString(p) && s.untested("test/ldd-check", "test/tw/ldd-check")
		})},
	{Linter: Linter{"libtool/la-files", Required, "libtool's archives break linking more than they help; remove them"},
		entry: file(func(_ *subject, p string) bool { return path.Ext(p) == ".la" })},
	{Linter: Linter{"maninfo", Warn, "manual and info pages belong into a -doc package"},
		entry: file(func(s *subject, p string) bool { return manual.MatchString(p) && !s.is("-doc") })},
	{Linter: Linter{"nonlinux", Warn, "by its name it is for another system"},
		entry: file(func(_ *subject, p string) bool { return otherSystem.MatchString(strings.ToLower(p)) })},
	{Linter: Linter{"object", Warn, "what a compiler left on its way is of no use to anybody"},
		entry: file(func(_ *subject, p string) bool { return path.Ext(p) == ".o" })},
	{Linter: Linter{"opt", Warn, "/opt is for what comes from elsewhere; only a -compat package may have it"},
		entry: file(func(s *subject, p string) bool { return below(p, "opt") && !s.is("-compat") })},
	{Linter: Linter{"pkgconf", Warn, "pkg-config modules are tested by test/pkgconf; the package's test does not use it"},
		entry: file(func(s *subject, p string) bool {
			return (below(p, "usr/lib/pkgconfig") || below(p, "usr/share/pkgconfig")) && s.untested("test/pkgconf")
		})},
	{Linter: Linter{"python/docs", Warn, "every package's docs would be one Python package; remove them"},
		whole: sitePackages("doc", "docs")},
	{Linter: Linter{"python/multiple", Warn, "one package holds several Python packages; take the others from packages of their own"},
		whole: pythonMultiple},
	{Linter: Linter{"python/test", Warn, "every package's tests would be one Python package; remove them"},
		whole: sitePackages("test", "tests")},
	{Linter: Linter{"sbom", Warn, "only bills of materials, *.spdx.json, may lie there"},
		entry: file(func(_ *subject, p string) bool { return path.Dir(p) == sbomDir && !strings.HasSuffix(p, ".spdx.json") })},
	{Linter: Linter{"setuidgid", Required, "who runs it gets rights of another user or group; take the bits away"},
		entry: func(_ *subject, e *filetree.Entry) bool {
			return e.Mode.IsRegular() && e.Mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0
		}},
	{Linter: Linter{"srv", Warn, "/srv is the administrator's; only a -compat package may have it"},
		entry: file(func(s *subject, p string) bool { return below(p, "srv") && !s.is("-compat") })},
	{Linter: Linter{"staticarchive", Warn, "static libraries belong into a -static or -dev package"},
		entry: file(func(s *subject, p string) bool { return path.Ext(p) == ".a" && !s.is("-dev", "-static") })},
	{Linter: Linter{"strip", Warn, "it has sections for debuggers; use strip"},
		object: func(o object) bool { return o.linked && o.debug }},
	{Linter: Linter{"tempdir", Required, "folders for passing things are empty when a machine starts; have them made by usr/lib/tmpfiles.d"},
		entry: temporary},
	{Linter: Linter{"unsupportedarch", Warn, "by its name it is for a processor that nothing here is built for"},
		entry: file(func(_ *subject, p string) bool { return otherProcessor(strings.ToLower(p)) })},
	{Linter: Linter{"usrlocal", Warn, "/usr/local is the administrator's; only a -compat package may have it"},
		entry: file(func(s *subject, p string) bool { return below(p, "usr/local") && !s.is("-compat") })},
	{Linter: Linter{"usrmerge", Required, "its place is below usr/bin or usr/lib"},
		entry: func(_ *subject, e *filetree.Entry) bool {
			return slices.ContainsFunc(unmerged, func(dir string) bool { return e.Path == dir || below(e.Path, dir) })
		}},
	{Linter: Linter{"varempty", Required, "/var/empty is empty"},
		entry: file(func(_ *subject, p string) bool { return below(p, "var/empty") })},
	{Linter: Linter{"worldwrite", Required, "anybody could change it; take the permission away"},
		entry: func(_ *subject, e *filetree.Entry) bool { return e.Mode.IsRegular() && e.Mode&0o002 != 0 }},
}

const sbomDir = "var/lib/db/sbom"

var (
	unmerged = []string{"sbin", "bin", "usr/sbin", "lib", "lib64"}

	driverLibrary = regexp.MustCompile(`^usr/lib/lib(cuda|nvidia-ml)\.so(\.[0-9]+)*$`)
	sharedObject  = regexp.MustCompile(`\.so(\.[0-9]+)*$`)
	documentation = regexp.MustCompile(`^(READ(\.?ME)?|TODO|CREDITS)$|\.(md|docx?|rst|[0-9][a-z])$`)
	manual        = regexp.MustCompile(`^usr/((local/)?share/)?man/(.*/)?[^/]+\.[0-9][^/]*$|^usr/(local/)?share/info/[^/]+\.info(-[0-9]+)?(\.[a-zA-Z0-9]+)?$`)
	otherSystem   = regexp.MustCompile(`darwin|mac[-_]?os|os[-_]?x|windows|win32|win64`)

	foreign  = []string{"i386", "i686", "x86_32", "x86-32", "ppc64", "ppc64le", "powerpc", "s390x", "s390", "mips", "mipsel", "mips64", "riscv", "riscv64", "sparc", "sparc64", "ia64", "m68k"}
	ours     = []string{"aarch64", "arm64", "amd64", "x86_64", "x86-64"}
	licenses = regexp.MustCompile(`(?i)^(licen[cs]es?|copying|copyright|notice|unlicense)([-_.].*)?$|\.licen[cs]e$`)
)

// file makes a check of paths one of everything but folders.
func file(offends func(s *subject, path string) bool) func(*subject, *filetree.Entry) bool {
	return func(s *subject, e *filetree.Entry) bool { return !isDir(e) && offends(s, e.Path) }
}

func below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// untested tells that it is known that the package's test uses none of some pipelines.
func (s *subject) untested(pipelines ...string) bool {
	return s.Tests != nil && !slices.ContainsFunc(pipelines, func(p string) bool { return slices.Contains(s.Tests, p) })
}

// temporary offends in folders that a machine empties. Folders below /run are
// all right if something makes them again.
func temporary(s *subject, e *filetree.Entry) bool {
	switch {
	case below(e.Path, "tmp"), below(e.Path, "var/tmp"):
		return !isDir(e)
	case below(e.Path, "var/run"):
		return true
	case below(e.Path, "run"):
		return !isDir(e) || !s.has("usr/lib/tmpfiles.d")
	}
	return false
}

// otherProcessor finds a processor's name as a folder or as a word of the file's
// name, unless one of ours is in the path too: then it says how the two differ.
func otherProcessor(p string) bool {
	if slices.ContainsFunc(ours, func(arch string) bool { return strings.Contains(p, arch) }) {
		return false
	}
	parts := strings.Split(p, "/")
	name := parts[len(parts)-1]
	return slices.ContainsFunc(foreign, func(arch string) bool {
		return slices.Contains(parts[:len(parts)-1], arch) || isWord(name, arch)
	})
}

// isWord tells whether a name has a word, behind a separator and up to the next or the end.
func isWord(name, word string) bool {
	for at := 0; ; {
		i := strings.Index(name[at:], word)
		if i < 0 {
			return false
		}
		start, end := at+i, at+i+len(word)
		if start > 0 && isSeparator(name[start-1]) && (end == len(name) || isSeparator(name[end])) {
			return true
		}
		at = end
	}
}

func isSeparator(b byte) bool { return b == '-' || b == '_' || b == '.' }

func empty(s *subject) ([]string, string, error) {
	for e := range s.Tree.All() {
		if !isDir(e) && path.Dir(e.Path) != sbomDir {
			return nil, "", nil
		}
	}
	return nil, "it has no files", nil
}

// pythons are the site-packages folders of the package.
func (s *subject) pythons() []string {
	var dirs []string
	for e := range s.Tree.Children("usr/lib") {
		dir := path.Join(e.Path, "site-packages")
		if strings.HasPrefix(path.Base(e.Path), "python3.") && s.has(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// sitePackages finds entries of site-packages by their names.
func sitePackages(names ...string) func(*subject) ([]string, string, error) {
	return func(s *subject) (paths []string, _ string, _ error) {
		for _, dir := range s.pythons() {
			for e := range s.Tree.Children(dir) {
				if slices.Contains(names, path.Base(e.Path)) {
					paths = append(paths, e.Path)
				}
			}
		}
		return paths, "", nil
	}
}

// pythonMultiple counts the packages that can be imported: a module may have
// several files, and what is private or about the package is none.
func pythonMultiple(s *subject) ([]string, string, error) {
	dirs := s.pythons()
	if len(dirs) > 1 {
		return dirs, "for several versions of Python", nil
	}
	var paths, seen []string
	for _, dir := range dirs {
		for e := range s.Tree.Children(dir) {
			base := path.Base(e.Path)
			module, _, _ := strings.Cut(base, ".")
			if slices.Contains([]string{".egg-info", ".dist-info", ".pth"}, path.Ext(base)) || strings.HasPrefix(base, "_") ||
				slices.Contains([]string{"", "test", "tests", "doc", "docs"}, module) || slices.Contains(seen, module) {
				continue
			}
			seen = append(seen, module)
			paths = append(paths, e.Path)
		}
	}
	if len(paths) < 2 {
		return nil, "", nil
	}
	return paths, "", nil
}

// minDuplicate is the size in bytes from which a copy is worth a word.
const minDuplicate = 1 << 10

// duplicates finds files of equal name and content. Only what could be equal, by
// name and size, is read.
func duplicates(s *subject) (paths []string, _ string, _ error) {
	type group struct {
		name string
		size int64
	}
	alike := map[group][]*filetree.Entry{}
	for e := range s.Tree.All() {
		name := path.Base(e.Path)
		if e.IsRegular() && e.Size >= minDuplicate && !licenses.MatchString(name) {
			g := group{name, e.Size}
			alike[g] = append(alike[g], e)
		}
	}
	var wasted int64
	for e := range s.Tree.All() { // in the tree's order
		g := group{path.Base(e.Path), e.Size}
		candidates := alike[g]
		if len(candidates) < 2 || candidates[0] != e {
			continue
		}
		equal, err := s.equal(candidates)
		if err != nil {
			return nil, "", err
		}
		paths = append(paths, equal...)
		wasted += int64(len(equal)) * e.Size
	}
	if len(paths) == 0 {
		return nil, "", nil
	}
	return paths, fmt.Sprintf("%d bytes", wasted), nil
}

// equal lists the files whose content an earlier one has.
func (s *subject) equal(candidates []*filetree.Entry) (paths []string, _ error) {
	first := map[[sha256.Size]byte]bool{}
	for _, e := range candidates {
		sum, err := s.sum(e)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", e.Path, err)
		}
		if first[sum] {
			paths = append(paths, e.Path)
		}
		first[sum] = true
	}
	return paths, nil
}

func (s *subject) sum(e *filetree.Entry) (sum [sha256.Size]byte, err error) {
	r, err := s.Tree.Open(e)
	if err != nil {
		return sum, err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
