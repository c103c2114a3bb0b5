// Package scan reads what a package's files say about it: which shared
// objects, commands, pkg-config modules and interpreters it offers, and which
// it needs. It knows trees and file formats; it does not know repositories,
// and so never asks whether anybody offers what it found to be needed.
//
// The rules are melange's, so that packages of both tools depend on each other
// in the same words:
//
//	so:libz.so.1=1          a shared object in a library folder, by DT_SONAME
//	so-ver:libz.so.1=1.3-r0 the same with the version of the package
//	cmd:gzip=1.13-r0        an executable in a folder of PATH
//	pc:zlib=1.3-r0          a pkg-config module
//
// A name that is offered outside those folders is vendored: nobody may depend
// on it, and what the package itself needs of that name is its own affair.
package scan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

// A Package is one output of a build.
type Package struct {
	Name string
	Tree *filetree.Tree
}

// Options switch generators off; they are the recipe's options of these names.
type Options struct {
	NoProvides bool
	NoDepends  bool
	NoCommands bool
}

// An Input is one package among those of its build.
type Input struct {
	Package  Package
	Version  string    // version with release: 1.3-r0
	Siblings []Package // all packages of the build, this one included, the origin first
	Depends  []string  // as the recipe has them
	Provides []string
	Options  Options
}

// A Result is what .PKGINFO will say: the recipe's own entries and the found
// ones, sorted, each once.
type Result struct {
	Depends  []string
	Provides []string
	Vendored []string
}

// Scan reads every file of the package at most once.
func Scan(in Input) (Result, error) {
	s := scanner{in: in, libDirs: libraryDirs(in.Siblings)}
	for e := range in.Package.Tree.All() {
		if err := s.entry(e); err != nil {
			return Result{}, fmt.Errorf("scanning %s of package %s: %w", e.Path, in.Package.Name, err)
		}
	}
	s.languages()
	return s.result(), nil
}

// scanner collects the findings about one package.
type scanner struct {
	in       Input
	libDirs  []string
	depends  []string
	provides []string
	vendored []string
	python   string // X.Y of the last site-packages seen
}

var (
	commandDirs = []string{"bin", "sbin", "usr/bin", "usr/sbin"}
	scriptDirs  = []string{"usr/bin/", "usr/local/bin/", "usr/local/sbin/"}
)

func (s *scanner) depend(format string, a ...any) {
	s.depends = append(s.depends, fmt.Sprintf(format, a...))
}

func (s *scanner) provide(format string, a ...any) {
	s.provides = append(s.provides, fmt.Sprintf(format, a...))
}

func (s *scanner) vendor(format string, a ...any) {
	s.vendored = append(s.vendored, fmt.Sprintf(format, a...))
}

// entry dispatches one entry to the generators that may have to say something of it.
func (s *scanner) entry(e *filetree.Entry) error {
	s.documentation(e)
	switch {
	case e.Mode.IsDir():
		s.interpreterDir(e)
		return nil
	case e.Mode&fs.ModeSymlink != 0:
		return s.symlink(e)
	case !e.Mode.IsRegular():
		return nil
	}
	s.command(e)
	f, err := s.open(e)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	if isELF(f) {
		err = s.object(e.Path, f)
	} else {
		err = errors.Join(s.pkgconf(e, f), s.shebang(e, f))
	}
	return errors.Join(err, s.kernel(e, f))
}

// open gives random access to a file; nil for an empty one. A hard link is the
// file it links to.
func (s *scanner) open(e *filetree.Entry) (*file, error) {
	if e.HardLink {
		first, ok := s.in.Package.Tree.Lookup(e.Link)
		if !ok {
			return nil, fmt.Errorf("hard link to %s, which is not in the package", e.Link)
		}
		e = first
	}
	if e.Open == nil || e.Size == 0 {
		return nil, nil
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	return newFile(r, e.Size)
}

// symlink handles the two things a link can mean: a development link to a
// library of a sibling, and another name of an object in this package.
func (s *scanner) symlink(e *filetree.Entry) error {
	if !strings.Contains(e.Path, ".so") {
		return nil
	}
	if err := s.developmentLink(e); err != nil {
		return err
	}
	target, ok := s.in.Package.Tree.Resolve(e.Path)
	if !ok || !target.Mode.IsRegular() {
		return nil
	}
	f, err := s.open(target)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	if !isELF(f) {
		return nil
	}
	return s.object(e.Path, f)
}

// developmentLink makes libz.so -> libz.so.1 in a -dev package depend on the
// package of the build that holds libz.so.1.
func (s *scanner) developmentLink(e *filetree.Entry) error {
	base := path.Base(e.Link)
	for _, sibling := range s.in.Siblings {
		for _, dir := range s.libDirs {
			target, ok := sibling.Tree.Resolve(path.Join(dir, base))
			if !ok || !target.Mode.IsRegular() {
				continue
			}
			sonames, err := sonamesOf(sibling.Tree, target)
			if err != nil {
				return fmt.Errorf("reading %s of package %s: %w", target.Path, sibling.Name, err)
			}
			for _, name := range sonames {
				s.depend("so:%s", name)
			}
			return nil
		}
	}
	return nil
}

// command records an executable that a shell would find.
func (s *scanner) command(e *filetree.Entry) {
	if e.Mode.Perm()&0o555 == 0o555 && slices.Contains(commandDirs, path.Dir(e.Path)) {
		s.provide("cmd:%s=%s", path.Base(e.Path), s.in.Version)
	}
}

// documentation makes -doc packages need the readers of what they hold.
func (s *scanner) documentation(e *filetree.Entry) {
	if !strings.HasSuffix(s.in.Package.Name, "-doc") {
		return
	}
	switch path.Dir(e.Path) {
	case "usr/share/man":
		s.depend("man-db")
	case "usr/share/info":
		s.depend("texinfo")
	}
}

// libraryDirs are the folders whose shared objects everybody can link with:
// the loader's own, and those that packages of the build add by
// etc/ld.so.conf.d.
func libraryDirs(siblings []Package) []string {
	dirs := []string{"lib", "usr/lib", "lib64", "usr/lib64"}
	for _, p := range siblings {
		for e := range p.Tree.All() {
			if path.Dir(e.Path) == "etc/ld.so.conf.d" && path.Ext(e.Path) == ".conf" && e.Mode.IsRegular() && e.Open != nil {
				dirs = append(dirs, confDirs(e)...)
			}
		}
	}
	return dirs
}

// confDirs lists the folders a loader configuration names. One that cannot be
// read names none: the scan of the package that holds it reports the reason.
func confDirs(e *filetree.Entry) []string {
	r, err := e.Open()
	if err != nil {
		return nil
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "/") {
			dirs = append(dirs, strings.Trim(line, "/"))
		}
	}
	return dirs
}
