// Package lint finds in a finished package what should not be in one: files in
// places that are not a package's to fill, dangerous modes, things that were
// meant for another machine. It knows the tree of one package and a little about
// its recipe; what is done about a finding, its caller knows.
//
// The checks bear the names of melange's linters, so that a recipe's
// checks.disabled means the same to both.
package lint

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"distro.internal/shared/document"
	"distro.internal/shared/filetree"
)

// A Severity is what a finding means for the package.
type Severity string

const (
	Required Severity = "required" // the package must not be made
	Warn     Severity = "warning"
	Off      Severity = "off" // not looked for unless asked
)

// A Linter is one thing that is looked for.
type Linter struct {
	Name        string   `json:"linter"`
	Severity    Severity `json:"severity"`    // by default
	Explanation string   `json:"explanation"` // what is wrong with it, and what to do
}

// A Package is what is looked at.
type Package struct {
	Name string
	Pos  document.Pos // in the recipe; zero when that is not known
	Tree *filetree.Tree
	// Tests are the pipelines that the package's test uses. Nil means that nobody
	// knows: what a test should do is not looked for then.
	Tests []string
	// Disabled names linters that the recipe only wants to be warned by.
	Disabled []string
}

// A Finding is what one linter has against a package.
type Finding struct {
	Linter
	Package string   `json:"package"`
	Pos     string   `json:"at,omitempty"`     // where the recipe makes the package: file:line:col
	Paths   []string `json:"paths,omitempty"`  // in the order of the tree; none when it is about the whole
	Detail  string   `json:"detail,omitempty"` // what exactly, when the linter's name does not say it all
}

// maxPaths is how many paths a finding names in words.
const maxPaths = 3

func (f Finding) String() string {
	var b strings.Builder
	if f.Pos != "" {
		fmt.Fprintf(&b, "%s: ", f.Pos)
	}
	fmt.Fprintf(&b, "%s: %s (%s): ", f.Package, f.Name, f.Severity)
	if f.Detail != "" {
		fmt.Fprintf(&b, "%s: ", f.Detail)
	}
	for i, p := range f.Paths {
		if i == maxPaths {
			fmt.Fprintf(&b, " and %d more", len(f.Paths)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p)
	}
	if len(f.Paths) > 0 {
		b.WriteString(": ")
	}
	return b.String() + f.Explanation
}

// An Error is findings that keep a package from being made.
type Error struct{ Findings []Finding }

func (e *Error) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n") + "\ncorrect it, or name the check in checks.disabled of the package to be warned only"
}

// A Policy says which linters run, by name. The zero value leaves each its own
// severity; a list that is not nil replaces those of its severity.
type Policy struct{ Require, Warn []string }

// Check reports names that no linter has.
func (p Policy) Check() error {
	var errs []error
	names := make([]string, len(linters))
	for i, l := range linters {
		names[i] = l.Name
	}
	for _, name := range slices.Concat(p.Require, p.Warn) {
		if slices.Contains(names, name) {
			continue
		}
		if hint := document.DidYouMean(name, names); hint != "" {
			errs = append(errs, fmt.Errorf("unknown linter %q (%s)", name, hint))
		} else {
			errs = append(errs, fmt.Errorf("unknown linter %q", name))
		}
	}
	return errors.Join(errs...)
}

// severity is what a linter's finding means for a package.
func (p Policy) severity(l Linter, disabled []string) Severity {
	s := l.Severity
	if s == Required && p.Require != nil || s == Warn && p.Warn != nil {
		s = Off
	}
	switch {
	case slices.Contains(p.Require, l.Name):
		s = Required
	case slices.Contains(p.Warn, l.Name):
		s = Warn
	}
	if s == Required && slices.Contains(disabled, l.Name) {
		s = Warn
	}
	return s
}

// Linters lists all that is looked for, by name.
func Linters() []Linter {
	list := make([]Linter, len(linters))
	for i, l := range linters {
		list[i] = l.Linter
	}
	return list
}

// Run looks at a package: once at each entry, and into a file only if a linter
// has to. The findings are in the order of Linters.
func Run(p Package, policy Policy) ([]Finding, error) {
	s := &subject{Package: p}
	var active []*linter
	for i := range linters {
		if policy.severity(linters[i].Linter, p.Disabled) != Off {
			active = append(active, &linters[i])
		}
	}
	found := make([]Finding, len(active))
	for e := range p.Tree.All() {
		if err := s.visit(e, active, found); err != nil {
			return nil, fmt.Errorf("looking at %s of package %s: %w", e.Path, p.Name, err)
		}
	}
	var findings []Finding
	for i, l := range active {
		f := found[i]
		if l.whole != nil {
			var err error
			if f.Paths, f.Detail, err = l.whole(s); err != nil {
				return nil, fmt.Errorf("looking at package %s: %w", p.Name, err)
			}
		}
		if len(f.Paths) == 0 && f.Detail == "" {
			continue
		}
		f.Linter, f.Package = l.Linter, p.Name
		if p.Pos.Line > 0 {
			f.Pos = p.Pos.String()
		}
		f.Severity = policy.severity(l.Linter, p.Disabled)
		findings = append(findings, f)
	}
	return findings, nil
}

// A linter looks by one of three functions.
type linter struct {
	Linter
	entry  func(s *subject, e *filetree.Entry) bool                // tells whether an entry offends
	object func(o object) bool                                     // tells whether a program or library offends
	whole  func(s *subject) (paths []string, what string, _ error) // looks at what only shows in the whole
}

// A subject is a package under examination.
type subject struct {
	Package
}

// is tells whether the package's name ends in one of the suffixes.
func (s *subject) is(suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(suffix string) bool { return strings.HasSuffix(s.Name, suffix) })
}

// has tells whether the tree has something below a folder.
func (s *subject) has(dir string) bool {
	for range s.Tree.Children(dir) {
		return true
	}
	return false
}

// visit shows an entry to the linters, and what it is if one asks for that.
func (s *subject) visit(e *filetree.Entry, active []*linter, found []Finding) error {
	var o *object
	for i, l := range active {
		offends := l.entry != nil && l.entry(s, e)
		if l.object != nil && e.IsRegular() {
			if o == nil {
				var err error
				if o, err = readObject(e); err != nil {
					return err
				}
			}
			offends = o.machine != 0 && l.object(*o)
		}
		if offends {
			found[i].Paths = append(found[i].Paths, e.Path)
		}
	}
	return nil
}

func isDir(e *filetree.Entry) bool { return e.Mode&fs.ModeType == fs.ModeDir }
