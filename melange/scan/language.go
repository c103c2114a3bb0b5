package scan

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

var (
	perlDir   = regexp.MustCompile(`^(?:usr/)?lib/perl([0-9][0-9.]*)/[^/]+_perl$`)
	pythonDir = regexp.MustCompile(`(?:^|/)python([0-9]+\.[0-9]+)/site-packages$`)
	rubyDir   = regexp.MustCompile(`^(?:usr/)?lib/ruby/gems/([0-9]+\.[0-9]+)\.[0-9]+/gems$`)
)

// interpreterDir recognizes the module folders of interpreted languages, whose
// name carries the version of the interpreter that they were made for.
func (s *scanner) interpreterDir(e *filetree.Entry) {
	if m := perlDir.FindStringSubmatch(e.Path); m != nil && !slices.Contains(s.in.Depends, "perl") {
		s.depend("perl~%s", m[1])
	}
	if m := pythonDir.FindStringSubmatch(e.Path); m != nil {
		s.python = m[1]
	}
	if m := rubyDir.FindStringSubmatch(e.Path); m != nil && !s.configured(func(d string) bool { return d == "ruby" || strings.HasPrefix(d, "ruby-") }) {
		s.depend("ruby-%s", m[1])
	}
}

// languages adds what only the whole tree tells.
func (s *scanner) languages() {
	if s.python != "" && !s.configured(func(d string) bool { return strings.HasPrefix(d, "python") }) {
		s.depend("python-%s-base", s.python)
	}
}

func (s *scanner) configured(is func(string) bool) bool {
	return slices.ContainsFunc(s.in.Depends, is)
}

// result applies the recipe's options, and drops what the package needs of
// itself: names it offers and names it vendors.
func (s *scanner) result() Result {
	depends, provides := sorted(s.depends), sorted(s.provides)
	vendored := sorted(s.vendored)
	if s.in.Options.NoCommands {
		isCommand := func(d string) bool { return strings.HasPrefix(d, "cmd:") }
		depends = slices.DeleteFunc(depends, isCommand)
		provides = slices.DeleteFunc(provides, isCommand)
	}
	if s.in.Options.NoDepends {
		depends = nil
	}
	if s.in.Options.NoProvides {
		provides = nil
	}
	own := map[string]bool{}
	for _, v := range vendored {
		own[name(v)] = true
	}
	depends = slices.DeleteFunc(depends, func(d string) bool { return own[d] })
	depends = sorted(append(depends, s.in.Depends...))
	provides = sorted(append(provides, s.in.Provides...))
	clear(own)
	for _, p := range provides {
		own[name(p)] = true
	}
	depends = slices.DeleteFunc(depends, func(d string) bool { return own[d] })
	return Result{Depends: depends, Provides: provides, Vendored: vendored}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// name is the part of "so:libz.so.1=1" before the version.
func name(provide string) string {
	n, _, _ := strings.Cut(provide, "=")
	return n
}

// inDir tells whether a path lies anywhere below one of the folders.
func inDir(name string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(name, d+"/") })
}

var moduleSuffix = regexp.MustCompile(`\.ko(\.(gz|xz|zst))?$`)

func isModule(name string) bool { return moduleSuffix.MatchString(path.Base(name)) }
