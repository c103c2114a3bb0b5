package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A split moves files from one package's folder to the same places in another's.
type split struct {
	from, to string // folders
	name     string // of the new package, for messages
}

// register declares the arguments that all splits have.
func (s *split) register(f *flag.FlagSet) {
	f.StringVar(&s.from, "from", "", "folder of the package to take from")
	f.StringVar(&s.to, "to", "", "folder of the new package")
	f.StringVar(&s.name, "name", "", "the new package")
}

// check tells whether there is anything to take from.
func (s *split) check() (there bool, err error) {
	s.from, s.to = path.Clean(s.from), path.Clean(s.to)
	if s.from == s.to {
		return false, fmt.Errorf("%s cannot be split from itself", s.name)
	}
	info, err := os.Stat(s.from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}

// move moves a file or folder to the same place in the new package, and removes the folder that it leaves when that is
// empty. What is not there is not moved.
func (s *split) move(name string) error {
	if _, err := os.Lstat(s.source(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	dir := path.Dir(name)
	if err := s.place(name, name); err != nil || dir == "." {
		return err
	}
	return removeEmpty(s.source(dir))
}

// gather moves a folder to another place in the new package, and removes the folders that it leaves as far as they are
// empty. A link to a folder stays.
func (s *split) gather(name, to string) error {
	info, err := os.Lstat(s.source(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err == nil {
		err = s.place(name, to)
	}
	if err != nil {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if entries, err := os.ReadDir(s.source(dir)); err != nil || len(entries) > 0 {
			return err
		}
		if err := os.Remove(s.source(dir)); err != nil {
			return err
		}
	}
	return nil
}

func (s *split) source(name string) string { return path.Join(s.from, name) }

func (s *split) place(name, to string) error {
	target := path.Join(s.to, to)
	if err := os.MkdirAll(path.Dir(target), 0o755); err != nil {
		return err
	}
	return merge(s.source(name), target)
}

// merge moves what is at a path to another. A folder goes into the folder that is there already, anything else replaces
// what is there.
func merge(from, to string) error {
	source, err := os.Lstat(from)
	if err != nil {
		return err
	}
	target, err := os.Lstat(to)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil || !source.IsDir() && !target.IsDir():
		return os.Rename(from, to)
	case !source.IsDir() || !target.IsDir():
		return fmt.Errorf("moving %s to %s: one is a folder, the other is not", from, to)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := merge(path.Join(from, e.Name()), path.Join(to, e.Name())); err != nil {
			return err
		}
	}
	bits, err := modeOf(from)
	return errors.Join(err, setMode(to, bits), os.Remove(from))
}

// removeEmpty removes a folder if nothing is in it.
func removeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Remove(dir)
}

// find lists what is below some folders and wanted, sorted. The second result of wanted keeps it out of a folder.
func (s *split) find(folders []string, wanted func(name string, d fs.DirEntry) (yes, skip bool)) ([]string, error) {
	var names []string
	for _, folder := range folders {
		err := filepath.WalkDir(s.source(folder), func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(strings.TrimPrefix(file, s.from), "/")
			yes, skip := wanted(name, d)
			if yes {
				names = append(names, name)
			}
			if skip && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// matching lists what a shell's pattern matches.
func (s *split) matching(pattern string) ([]string, error) {
	files, err := filepath.Glob(quoteMeta(s.from) + "/" + pattern)
	for i := range files {
		files[i] = strings.TrimPrefix(files[i], s.from+"/")
	}
	return files, err
}

// quoteMeta keeps what is special in patterns from being so.
func quoteMeta(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// isDir follows links, as test -d does.
func (s *split) isDir(name string) bool {
	info, err := os.Stat(s.source(name))
	return err == nil && info.IsDir()
}

// A folder that goes to another, or to the same one.
type folder struct{ from, to string }

// The folders that the splits of documentation take.
var (
	infoPages   = []folder{{"usr/share/info", "usr/share/info"}}
	manualPages = []folder{
		{"usr/share/man", "usr/share/man"}, {"usr/local/share/man", "usr/share/man"}, {"usr/man", "usr/share/man"},
	}
	documents    = []folder{{"usr/share/doc", "usr/share/doc"}, {"usr/local/share/doc", "usr/share/doc"}}
	translations = []folder{{"usr/share/locale", "usr/share/locale"}}
)

// infoList is the list of all info pages, which is made where they are installed.
const infoList = "usr/share/info/dir"

// splitFolders is a program that takes whole folders.
func splitFolders(name string, lists ...[]folder) func([]string) error {
	folders := slices.Concat(lists...)
	return func(args []string) error {
		var s split
		f := flag.NewFlagSet(name, flag.ContinueOnError)
		s.register(f)
		if err := parse(f, args); err != nil {
			return err
		}
		if there, err := s.check(); !there {
			return err
		}
		if slices.Contains(folders, infoPages[0]) {
			if err := os.Remove(s.source(infoList)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		for _, d := range folders {
			if err := s.gather(d.from, d.to); err != nil {
				return err
			}
		}
		return nil
	}
}

// splitBin takes usr/bin.
func splitBin(args []string) error {
	var s split
	var named string
	f := flag.NewFlagSet("split/bin", flag.ContinueOnError)
	s.register(f)
	f.StringVar(&named, "package", "", "the package to take from; without it NAME for NAME-bin, if there is one")
	if err := parse(f, args); err != nil {
		return err
	}
	plain, found := strings.CutSuffix(s.to, "-bin")
	switch info, err := os.Stat(plain); {
	case named != "":
		s.from = path.Join(path.Dir(s.to), named)
	case found && err == nil && info.IsDir():
		s.from = plain
	}
	if _, err := s.check(); err != nil {
		return err
	}
	if !s.isDir("usr/bin") {
		return fmt.Errorf("there is no %s", s.source("usr/bin"))
	}
	if err := s.place("usr/bin", "usr/bin"); err != nil {
		return err
	}
	return removeEmptyBelow(s.source("usr"))
}

// removeEmptyBelow removes the folders below a folder that hold nothing but such folders.
func removeEmptyBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub := path.Join(dir, e.Name())
		if err := removeEmptyBelow(sub); err != nil {
			return err
		}
		if err := removeEmpty(sub); err != nil {
			return err
		}
	}
	return nil
}

// splitStatic takes static libraries.
func splitStatic(args []string) error {
	var s split
	f := flag.NewFlagSet("split/static", flag.ContinueOnError)
	s.register(f)
	if err := parse(f, args); err != nil {
		return err
	}
	if there, err := s.check(); !there {
		return err
	}
	files, err := s.find([]string{"usr", "lib"}, func(name string, _ fs.DirEntry) (bool, bool) {
		return path.Ext(name) == ".a", false
	})
	if err != nil {
		return err
	}
	return s.moveAll(files)
}

func (s *split) moveAll(names []string) error {
	for _, name := range names {
		if err := s.move(name); err != nil {
			return err
		}
	}
	return nil
}

// splitLib takes shared libraries.
func splitLib(args []string) error {
	var s split
	var patterns, paths string
	f := flag.NewFlagSet("split/lib", flag.ContinueOnError)
	s.register(f)
	f.StringVar(&patterns, "patterns", "", "which ones, a name a line without lib and .so")
	f.StringVar(&paths, "paths", "", "more folders to look in, one a line")
	if err := parse(f, args); err != nil {
		return err
	}
	if there, err := s.check(); !there {
		return err
	}
	globs := []string{"*.so.*"}
	if words := strings.Fields(patterns); len(words) > 0 {
		globs = nil
		for _, w := range words {
			globs = append(globs, "lib"+w+".so.*")
		}
	}
	for _, dir := range append([]string{"lib", "usr/lib"}, strings.Fields(paths)...) {
		for _, glob := range globs {
			if err := s.libraries(path.Clean(strings.TrimPrefix(dir, "/")), glob); err != nil {
				return err
			}
		}
	}
	return nil
}

// libraries moves the files and links of a folder whose names match.
func (s *split) libraries(dir, glob string) error {
	files, err := s.matching(quoteMeta(dir) + "/" + glob)
	if err != nil {
		return fmt.Errorf("pattern %s: %w", glob, err)
	}
	for _, file := range files {
		info, err := os.Lstat(s.source(file))
		if err != nil {
			return err
		}
		if info.IsDir() {
			continue
		}
		fmt.Println("moving", file)
		if err := s.move(file); err != nil {
			return err
		}
	}
	return nil
}

// splitDev takes what is needed only to compile against a package.
func splitDev(args []string) error {
	var s split
	var prefix string
	f := flag.NewFlagSet("split/dev", flag.ContinueOnError)
	s.register(f)
	f.StringVar(&prefix, "prefix", "/usr", "where the package is installed")
	if err := parse(f, args); err != nil {
		return err
	}
	if there, err := s.check(); !there {
		return err
	}
	d := development{split: s, prefix: path.Clean(strings.TrimPrefix(prefix, "/"))}
	for _, move := range []func() error{d.folders, d.files, d.links} {
		if err := move(); err != nil {
			return err
		}
	}
	return nil
}

type development struct {
	split
	prefix string // without the leading slash
}

// folders moves what is development's by its place.
func (d development) folders() error {
	for _, name := range []string{
		"include", "lib/pkgconfig", "share/pkgconfig", "share/aclocal", "share/gettext", "bin/*-config", "bin/*_config",
		"share/vala/vapi", "share/gir-[0-9]*", "share/qt*/mkspecs", "lib/qt*/mkspecs", "lib/cmake", "share/cmake",
		"lib/glade/modules", "share/glade/catalogs",
	} {
		found, err := d.matching(quoteMeta(d.prefix) + "/" + name)
		if err != nil {
			return err
		}
		if err := d.moveAll(found); err != nil {
			return err
		}
	}
	return nil
}

// files moves what is development's by its name. The lists are complete before the first file is moved.
func (d development) files() error {
	headers, err := d.find([]string{"."}, func(name string, e fs.DirEntry) (bool, bool) {
		yes := e.IsDir() && path.Base(name) == "include"
		return yes, yes
	})
	if err != nil {
		return err
	}
	folders := []string{d.prefix}
	if d.prefix == "usr" || strings.HasPrefix(d.prefix, "usr/") {
		folders = append(folders, "lib") // outside of /usr, /lib is not the package's
	}
	files, err := d.find(folders, func(name string, _ fs.DirEntry) (bool, bool) {
		switch path.Ext(name) {
		case ".a", ".c", ".h", ".o", ".prl":
			return true, false
		}
		return false, false
	})
	if err != nil {
		return err
	}
	return d.moveAll(append(headers, files...))
}

// links moves the links that are for the linker: they have no version. A file of such a name is a plug-in, or the library
// itself.
func (d development) links() error {
	folders := []string{d.prefix + "/lib"}
	if d.prefix == "usr" {
		folders = []string{"lib", "usr/lib"}
	} else if above, found := strings.CutSuffix(d.prefix, "/usr"); found {
		folders = []string{above + "/lib", d.prefix + "/lib"}
	}
	for _, folder := range folders {
		files, err := d.matching(quoteMeta(folder) + "/*.so")
		if err != nil {
			return err
		}
		for _, file := range files {
			if info, err := os.Lstat(d.source(file)); err != nil {
				return err
			} else if info.Mode()&fs.ModeSymlink == 0 {
				continue
			}
			if err := d.move(file); err != nil {
				return err
			}
		}
	}
	return nil
}
