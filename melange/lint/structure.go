package lint

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"distro.internal/shared/document"
	"distro.internal/shared/filetree"
)

// A Structure is a finished package whose kind a test asserts: that it has manuals and nothing else, that its links lead
// somewhere. What linters find is wrong with any package; what a structure lacks, its own recipe has asked for.
type Structure struct {
	Name, Description string
	Depends, Provides []string // as apk spells them
	Tree              *filetree.Tree

	// Installed says whether a package that comes along with this one has a path, and Provided whether one provides a name.
	Installed func(path string) (bool, error)
	Provided  func(name string) bool
}

// Check asserts something of a package, by the name that a recipe's check has, with its particulars. The error says what
// is not so.
func (s Structure) Check(name string, with map[string]string) error {
	check, ok := structures[name]
	if !ok {
		return fmt.Errorf("unknown check %q", name)
	}
	return check(s, with)
}

// Structures lists the checks by name, in no order.
func Structures() []string {
	var names []string
	for name := range structures {
		names = append(names, name)
	}
	return names
}

var structures = map[string]func(Structure, map[string]string) error{
	"byproduct":      Structure.byproduct,
	"config":         Structure.config,
	"contains-files": Structure.containsFiles,
	"debug":          Structure.debug,
	"dev":            Structure.dev,
	"docs":           Structure.docs,
	"empty":          Structure.empty,
	"lang":           Structure.lang,
	"ldd":            Structure.ldd,
	"meta":           Structure.meta,
	"no-docs":        Structure.noDocs,
	"pkgconf":        Structure.pkgconf,
	"src":            Structure.src,
	"static":         Structure.static,
	"symlinks":       Structure.symlinks,
	"virtual":        Structure.virtual,
}

// files are all entries but folders, and the package's own bill of materials.
func (s Structure) files() []*filetree.Entry {
	var list []*filetree.Entry
	for e := range s.Tree.All() {
		if !isDir(e) && !strings.HasPrefix(e.Path, "var/lib/db/sbom/") {
			list = append(list, e)
		}
	}
	return list
}

// paths names files in an error, the first few.
func paths(list []*filetree.Entry) string {
	var names []string
	for i, e := range list {
		if i == maxPaths {
			names = append(names, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		names = append(names, e.Path)
	}
	return strings.Join(names, ", ")
}

func (s Structure) empty(map[string]string) error {
	if found := s.files(); len(found) > 0 {
		return fmt.Errorf("it should be empty, and has %s", paths(found))
	}
	return nil
}

// byproduct: the origin of a recipe that is there for its subpackages only. Nothing may be lost for who gets one of them in
// its place.
func (s Structure) byproduct(map[string]string) error {
	if found := s.files(); len(found) > 0 {
		return fmt.Errorf("a package that is only made on the way to others should be empty, and has %s", paths(found))
	}
	return nil
}

func (s Structure) meta(with map[string]string) error {
	switch err := s.empty(nil); {
	case err != nil:
		return err
	case len(s.Depends) == 0:
		return fmt.Errorf("it depends on nothing: what is it for?")
	case with["described"] == "true" && !strings.Contains(strings.ToLower(s.Description), "meta"):
		return fmt.Errorf("its description does not say that it is a meta package: %q", s.Description)
	}
	return nil
}

func (s Structure) docs(with map[string]string) error {
	prefix := strings.Trim(with["prefix"], "/") + "/"
	var inside, outside []*filetree.Entry
	for _, e := range s.files() {
		if strings.HasPrefix(e.Path, prefix) {
			inside = append(inside, e)
		} else {
			outside = append(outside, e)
		}
	}
	switch {
	case len(inside) == 0:
		return fmt.Errorf("nothing is below %s", prefix)
	case with["only"] == "true" && len(outside) > 0:
		return fmt.Errorf("not only documentation is in it, but %s", paths(outside))
	}
	return nil
}

// manualFolders are where manuals and info pages lie.
var manualFolders = []string{"usr/share/man/", "usr/local/share/man/", "usr/man/", "usr/share/info/", "usr/local/share/info/"}

func (s Structure) noDocs(with map[string]string) error {
	if ok, err := s.itself(with); !ok || strings.HasSuffix(s.Name, "-doc") {
		return err
	}
	var found []*filetree.Entry
	for _, e := range s.files() {
		manual := slices.ContainsFunc(manualFolders, func(dir string) bool { return strings.HasPrefix(e.Path, dir) })
		if manual && path.Base(e.Path) != "dir" {
			found = append(found, e)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("documentation belongs into a package of its own (see split/manpages and split/infodir): %s", paths(found))
	}
	return nil
}

func (s Structure) dev(with map[string]string) error {
	prefix := strings.Trim(with["prefix"], "/")
	for _, e := range s.files() {
		link := e.Mode&fs.ModeSymlink != 0 && strings.HasSuffix(e.Path, ".so")
		header := strings.HasPrefix(e.Path, path.Join(prefix, "include")+"/")
		if link || header || slices.Contains([]string{".a", ".pc", ".h", ".cmake", ".m4", ".gir", ".vapi"}, path.Ext(e.Path)) {
			return nil
		}
	}
	return fmt.Errorf("nothing in it is for development: no headers below %s, no .pc file, no link to a library", path.Join(prefix, "include"))
}

func (s Structure) static(map[string]string) error {
	archives := 0
	for _, e := range s.files() {
		switch base := path.Base(e.Path); {
		case path.Ext(base) == ".a":
			archives++
		case strings.HasSuffix(base, ".so") || strings.Contains(base, ".so."):
			return fmt.Errorf("%s is a shared library", e.Path)
		}
	}
	if archives == 0 {
		return fmt.Errorf("it has no static library")
	}
	return nil
}

func (s Structure) virtual(with map[string]string) error {
	var provided []string
	for _, p := range s.Provides {
		provided = append(provided, nameOf(p))
	}
	for _, name := range strings.Fields(with["names"]) {
		if slices.Contains(provided, name) {
			continue
		}
		if hint := document.DidYouMean(name, provided); hint != "" {
			return fmt.Errorf("it does not provide %s (%s)", name, hint)
		}
		return fmt.Errorf("it does not provide %s", name)
	}
	return nil
}

// below are the files in a folder; every file for an empty one.
func (s Structure) below(dir string) []*filetree.Entry {
	if dir = strings.Trim(dir, "/"); dir != "" {
		dir += "/"
	}
	return slices.DeleteFunc(s.files(), func(e *filetree.Entry) bool { return !strings.HasPrefix(e.Path, dir) })
}

func (s Structure) config(with map[string]string) error {
	if ok, err := s.itself(with); !ok {
		return err
	}
	if len(s.below(with["dir"])) == 0 {
		return fmt.Errorf("no configuration is below /%s", strings.Trim(with["dir"], "/"))
	}
	return nil
}

func (s Structure) debug(map[string]string) error {
	if len(s.below("usr/lib/debug")) == 0 {
		return fmt.Errorf("nothing is below /usr/lib/debug")
	}
	return nil
}

// src wants a file of text: what compilers write and archives are no sources.
func (s Structure) src(with map[string]string) error {
	dir := strings.Trim(with["dir"], "/")
	for _, e := range s.below(dir) {
		ok, err := path.Match(with["name"], path.Base(e.Path))
		if err != nil {
			return fmt.Errorf("name %q: %w", with["name"], err)
		}
		if !ok || !hasContent(e) || e.Size == 0 || strings.Contains(e.Path, "/.git/") {
			continue
		}
		head, err := readHead(e, int(min(e.Size, 512)))
		if err != nil {
			return err
		}
		if bytes.IndexByte(head, 0) < 0 {
			return nil
		}
	}
	return fmt.Errorf("no text is below /%s in a file called %s", dir, with["name"])
}

func (s Structure) lang(map[string]string) error {
	const dir = "usr/share/locale"
	catalogs := 0
	for _, e := range s.below(dir) {
		if path.Ext(e.Path) != ".mo" || !hasContent(e) {
			continue
		}
		data, err := readAll(e)
		if err != nil {
			return err
		}
		if err := checkCatalog(data); err != nil {
			return fmt.Errorf("%s is no catalogue of messages: %w", e.Path, err)
		}
		catalogs++
	}
	if catalogs == 0 {
		return fmt.Errorf("no catalogue of messages is below /%s", dir)
	}
	return nil
}

// nameOf is the name in a dependency.
func nameOf(dependency string) string {
	name, _, _ := strings.Cut(dependency, "@")
	if i := strings.IndexAny(name, "<>=~"); i >= 0 {
		name = name[:i]
	}
	return name
}

func (s Structure) containsFiles(with map[string]string) error {
	if files := strings.Fields(with["files"]); len(files) > 0 {
		for _, name := range files {
			if _, ok := s.Tree.Lookup(strings.Trim(name, "/")); !ok {
				return fmt.Errorf("%s is not in it", name)
			}
		}
		return nil
	}
	kinds := map[string]fs.FileMode{"f": 0, "d": fs.ModeDir, "l": fs.ModeSymlink}
	kind, ok := kinds[with["type"]]
	if !ok {
		return fmt.Errorf("type %q is none of f, d and l", with["type"])
	}
	dir := strings.Trim(with["dir"], "/")
	for e := range s.Tree.All() {
		if e.Mode&fs.ModeType != kind || dir != "" && e.Path != dir && !strings.HasPrefix(e.Path, dir+"/") {
			continue
		}
		if ok, err := path.Match(with["name"], path.Base(e.Path)); err != nil {
			return fmt.Errorf("name %q: %w", with["name"], err)
		} else if ok {
			return nil
		}
	}
	return fmt.Errorf("nothing below /%s is called %s and of type %s", dir, with["name"], with["type"])
}

// itself says whether a check is for the package: its input packages may name it, or none. Others are not at hand.
func (s Structure) itself(with map[string]string) (bool, error) {
	for _, name := range strings.Fields(with["packages"]) {
		switch name {
		case "none":
			return false, nil
		case s.Name:
		default:
			return false, fmt.Errorf("packages: only %s itself is looked at, not %s", s.Name, name)
		}
	}
	return true, nil
}

func (s Structure) symlinks(with map[string]string) error {
	if ok, err := s.itself(with); !ok {
		return err
	}
	for _, e := range s.files() {
		if e.Mode&fs.ModeSymlink == 0 {
			continue
		}
		if path.IsAbs(e.Link) && with["allow-absolute"] != "true" {
			return fmt.Errorf("%s is an absolute link, to %s", e.Path, e.Link)
		}
		target := strings.TrimPrefix(path.Join("/", path.Dir(e.Path), e.Link), "/")
		if path.IsAbs(e.Link) {
			target = strings.TrimPrefix(path.Clean(e.Link), "/")
		}
		if _, ok := s.Tree.Lookup(target); ok || target == "" {
			continue
		}
		if ok, err := s.Installed(target); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%s leads to %s, which is nowhere", e.Path, e.Link)
		}
	}
	return nil
}

// pkgconfFolders are where pkgconf looks.
var pkgconfFolders = []string{"usr/lib/pkgconfig", "usr/share/pkgconfig"}

func (s Structure) pkgconf(map[string]string) error {
	for _, e := range s.files() {
		if path.Ext(e.Path) != ".pc" || !hasContent(e) {
			continue
		}
		text, err := readAll(e)
		if err != nil {
			return err
		}
		fields := pkgconfFields(string(text))
		if fields["Name"] == "" {
			continue // something else that is called so
		}
		if !slices.Contains(pkgconfFolders, path.Dir(e.Path)) {
			return fmt.Errorf("%s is not where pkgconf looks", e.Path)
		}
		for _, name := range pkgconfRequires(fields["Requires"]) {
			_, own := s.Tree.Lookup(pkgconfFolders[0] + "/" + name + ".pc")
			_, shared := s.Tree.Lookup(pkgconfFolders[1] + "/" + name + ".pc")
			if !own && !shared && !s.Provided("pc:"+name) {
				return fmt.Errorf("%s requires %s, which nothing provides that comes along with it", e.Path, name)
			}
		}
	}
	return nil
}

func pkgconfFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok && !strings.ContainsAny(key, " ={") {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}

// pkgconfRequires are the names in a list such as "zlib >= 1.2, other".
func pkgconfRequires(list string) []string {
	var names []string
	words := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for i := 0; i < len(words); i++ {
		if strings.ContainsAny(words[i][:1], "<>=!") {
			i++ // the version after it
			continue
		}
		names = append(names, words[i])
	}
	return names
}

// ldd wants every library that programs and libraries of the package name: beside them, in its own folders, or provided by
// what comes along with it.
func (s Structure) ldd(with map[string]string) error {
	if ok, err := s.itself(with); !ok && (err != nil || with["files"] == "") {
		return err
	}
	own := s.libraries(with["extra-library-paths"])
	chosen, excluded := strings.Fields(with["files"]), strings.Fields(with["exclude-files"])
	for _, name := range chosen {
		if _, ok := s.Tree.Lookup(strings.Trim(name, "/")); !ok {
			return fmt.Errorf("%s is not in it", name)
		}
	}
	for _, e := range s.files() {
		isChosen := len(chosen) == 0 || slices.ContainsFunc(chosen, func(name string) bool { return strings.Trim(name, "/") == e.Path })
		if !hasContent(e) || !isChosen || slices.ContainsFunc(excluded, func(part string) bool { return strings.Contains(e.Path, part) }) {
			continue
		}
		needed, err := neededLibraries(e)
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.Path, err)
		}
		for _, name := range needed {
			if !own[name] && !s.Provided("so:"+name) {
				return fmt.Errorf("%s needs %s, which nothing provides that comes along with it", e.Path, name)
			}
		}
	}
	return nil
}

// libraries are the names of files in the folders that the loader looks in, and in more.
func (s Structure) libraries(more string) map[string]bool {
	dirs := []string{"lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib"}
	for dir := range strings.SplitSeq(more, ":") {
		if dir = strings.Trim(dir, "/"); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	names := map[string]bool{}
	for _, e := range s.files() {
		if slices.Contains(dirs, path.Dir(e.Path)) {
			names[path.Base(e.Path)] = true
		}
	}
	return names
}

// neededLibraries are those that a program or library names; of any other file there are none. A program that says itself
// where its libraries are is believed.
func neededLibraries(e *filetree.Entry) ([]string, error) {
	f, done, err := openObject(e)
	if f == nil || err != nil {
		return nil, err
	}
	defer done()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		if paths, err := f.DynString(tag); err == nil && len(paths) > 0 {
			return nil, nil
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, nil // static
	}
	return needed, nil
}

// hasContent: a second name of a file has none of its own.
func hasContent(e *filetree.Entry) bool { return e.IsRegular() && !e.HardLink && e.Open != nil }

func readHead(e *filetree.Entry, n int) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, n)
	_, err = io.ReadFull(r, head)
	return head, err
}

// maxText bounds what is read as a whole.
const maxText = 64 << 20

func readAll(e *filetree.Entry) ([]byte, error) {
	if e.Size > maxText {
		return nil, fmt.Errorf("%s has %d bytes, more than any such file", e.Path, e.Size)
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
