// Package policy judges a change before it is published: what the packages that
// a branch makes would do to the repository that people have now. It knows two
// states of a repository, and of the packages that differ what is in them; it
// finds what only shows when both are looked at, or all of the repository:
// a package that something else can not be installed with any more, a symbol
// that is gone, a file of two packages, a version that goes back. What is wrong
// with a package in itself is a linter's to find.
//
// What was wrong before and still is, is not the change's doing and not told.
//
// All checks are functions of values. How packages are made, found and read,
// who calls them knows.
package policy

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
	"distro.internal/shared/solve"
)

// A Severity is what a finding means for the change.
type Severity string

const (
	Failure  Severity = "error"    // it must not be merged as it is
	Warning  Severity = "warning"  // somebody should look
	Excepted Severity = "excepted" // it would be an error, but the workspace says why not
	off      Severity = "off"
)

// A Check is one thing that is looked for.
type Check struct {
	Name     string
	Severity Severity // by default
	About    string   // what it finds
	find     func(*judge) error
}

// checks in the order in which their findings are told.
var checks = []Check{
	{"installable", Failure, "what can not be installed any more", (*judge).installable},
	{"soname", Failure, "a library that is gone, and is needed", (*judge).sonames},
	{"symbols", Failure, "a symbol that a library of the same soname does not have any more, or not as it was, and that is used", (*judge).symbols},
	{"command", Warning, "a command that is gone", (*judge).commands},
	{"pkgconf", Warning, "a pkg-config module that is gone", (*judge).modules},
	{"files", Failure, "a file of two packages of which neither replaces the other", (*judge).files},
	{"version", Failure, "a version that is lower than the published one", (*judge).versions},
	{"license", Failure, "a licence that is not on SPDX's list", (*judge).licenses},
	{"license-policy", Failure, "a licence that the workspace does not allow", (*judge).licensePolicy},
	{"size", Warning, "a package that grew much", (*judge).sizes},
	{"image-size", Warning, "an image that grew much", (*judge).imageSizes},
	{"setuid", Failure, "a program that runs with its owner's or group's rights, and is new", (*judge).setuid},
	{"world-writable", Failure, "a file that everybody may write, and is new", (*judge).worldWritable},
	{"capability", Failure, "a program with capabilities that is new", (*judge).capabilities},
}

// Checks lists all that is looked for.
func Checks() []Check { return slices.Clone(checks) }

// A Config is what a workspace says about checks. The zero value leaves each its own severity.
type Config struct {
	Require, Warn, Off []document.String // names of checks: errors, warnings, not looked for

	Licenses struct {
		Allow, Deny []document.String // identifiers, or patterns of path.Match; with Allow nothing else is allowed
	}
	Growth Growth
	Except []Exception
}

// Growth is how much bigger something may become: in percent, like 20%. What grows by less than Least is not told.
type Growth struct{ Package, Image, Least document.String }

// An Exception says why findings of a check are no errors.
type Exception struct {
	Pos     document.Pos
	Check   document.String
	Recipe  document.String // its name or an image's, or a pattern of path.Match
	Package document.String // likewise; empty: all of the recipe
	Reason  document.String
}

// Verify reports what makes no sense in a workspace's file.
func (c Config) Verify() error {
	var errs document.ErrorList
	names := make([]string, len(checks))
	for i, check := range checks {
		names[i] = check.Name
	}
	known := func(s document.String) {
		if !slices.Contains(names, s.Value) {
			errs.Add(s.Pos, document.DidYouMean(s.Value, names), "unknown check %q", s.Value)
		}
	}
	pattern := func(s document.String) {
		if _, err := path.Match(s.Value, ""); err != nil {
			errs.Add(s.Pos, "", "%q is no pattern", s.Value)
		}
	}
	for _, s := range slices.Concat(c.Require, c.Warn, c.Off) {
		known(s)
	}
	for _, s := range slices.Concat(c.Licenses.Allow, c.Licenses.Deny) {
		pattern(s)
	}
	for _, e := range c.Except {
		known(e.Check)
		pattern(e.Recipe)
		pattern(e.Package)
		if e.Recipe.Value == "" {
			errs.Add(e.Pos, "", "an exception needs a recipe")
		}
		if strings.TrimSpace(e.Reason.Value) == "" {
			errs.Add(e.Pos, "say why in reason:", "an exception needs a reason")
		}
	}
	for _, s := range []document.String{c.Growth.Package, c.Growth.Image} {
		if _, ok := percent(s.Value); s.Value != "" && !ok {
			errs.Add(s.Pos, "", "want percents like 20%%, found %q", s.Value)
		}
	}
	if _, err := size(c.Growth.Least.Value); err != nil {
		errs.Add(c.Growth.Least.Pos, "", "%s", err)
	}
	return errs.Err()
}

// percent reads "20%".
func percent(text string) (float64, bool) {
	digits, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(digits, 64)
	return v, ok && err == nil && v >= 0
}

// size reads bytes, or "64Ki", "1Mi", "2Gi".
func size(text string) (int64, error) {
	if text == "" {
		return 1 << 20, nil
	}
	digits, shift := text, 0
	for i, unit := range []string{"Ki", "Mi", "Gi"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	v, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("want bytes like 65536 or 64Ki, found %q", text)
	}
	return v << shift, nil
}

// severity is what the workspace makes of a check.
func (c Config) severity(check Check) Severity {
	is := func(s document.String) bool { return s.Value == check.Name }
	switch {
	case slices.ContainsFunc(c.Off, is):
		return off
	case slices.ContainsFunc(c.Require, is):
		return Failure
	case slices.ContainsFunc(c.Warn, is):
		return Warning
	}
	return check.Severity
}

// A Change is what a branch makes of the repository of one architecture.
type Change struct {
	Arch          apk.Arch
	Before, After *solve.Universe // with what the repository stands on
	Packages      []Changed       // that differ, by name
	Present       []*apk.Package  // what the repository then has of its own, by name; of each name the newest
	Images        []Image

	// Contents returns what is in a package of either state.
	Contents func(*apk.Package) (*Contents, error)
}

// A Changed package differs between two states. Old or New is nil when it is in the other one only.
type Changed struct {
	Name     string
	Node     string // what makes it, or made it: x86_64/zlib
	Recipe   string // its name
	Places   Places
	Old, New *apk.Package
}

// Places are where a recipe says something of a package; zero where it is nowhere.
type Places struct {
	Name, Version document.Pos
	Licenses      []Licensed // as written, when the plan says the same
}

// Licensed is an expression, and where it stands.
type Licensed struct {
	Pos        document.Pos
	Expression string
}

// An Image is one of an architecture, with the repositories that it is made of.
type Image struct {
	Node, Name    string
	Pos           document.Pos
	WorldBefore   []apk.Dependency // nil: there was no such image
	World         []apk.Dependency
	Before, After *solve.Universe
}

// A Finding is what a check has against a change.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Nodes    []string `json:"nodes"` // of all architectures for which it holds
	Recipe   string   `json:"recipe"`
	Package  string   `json:"package,omitempty"`
	At       string   `json:"at,omitempty"` // file:line:col
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"` // what it means; may have lines
	Fix      string   `json:"fix,omitempty"`
	Reason   string   `json:"reason,omitempty"` // of the exception
}

// A judge looks at one change.
type judge struct {
	Config
	*Change
	check    Check
	severity Severity
	findings []Finding
}

// Judge finds what there is to say of the changes of all architectures: errors first, otherwise in the order of Checks.
func Judge(c Config, changes ...*Change) ([]Finding, error) {
	var all []Finding
	for _, check := range checks {
		severity := c.severity(check)
		if severity == off {
			continue
		}
		for _, change := range changes {
			j := &judge{Config: c, Change: change, check: check, severity: severity}
			if err := check.find(j); err != nil {
				return nil, fmt.Errorf("checking %s for %s: %w", check.Name, change.Arch, err)
			}
			all = append(all, j.findings...)
		}
	}
	all = together(all)
	rank := []Severity{Failure, Warning, Excepted}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Compare(slices.Index(rank, a.Severity), slices.Index(rank, b.Severity))
	})
	return all, nil
}

// together makes one finding of those that say the same of several architectures, or of several packages of a recipe.
func together(list []Finding) []Finding {
	type said struct{ check, recipe, at, what, why, fix string }
	at := map[said]int{}
	var all []Finding
	for _, f := range list {
		s := said{f.Check, f.Recipe, f.At, f.What, f.Why, f.Fix}
		if i, ok := at[s]; ok && all[i].Severity == f.Severity {
			all[i].Nodes = append(all[i].Nodes, f.Nodes...)
			continue
		}
		at[s] = len(all)
		all = append(all, f)
	}
	for i := range all {
		slices.Sort(all[i].Nodes)
		all[i].Nodes = slices.Compact(all[i].Nodes)
	}
	return all
}

// report adds a finding about a package.
func (j *judge) report(p Changed, pos document.Pos, f Finding) {
	f.Nodes, f.Recipe, f.Package = []string{p.Node}, p.Recipe, p.Name
	j.add(pos, f)
}

func (j *judge) add(pos document.Pos, f Finding) {
	f.Check, f.Severity = j.check.Name, cmp.Or(f.Severity, j.severity)
	if pos.Line > 0 {
		f.At = pos.String()
	}
	if f.Severity == Failure {
		if e, ok := j.exception(f); ok {
			f.Severity, f.Reason = Excepted, strings.TrimSpace(e.Reason.Value)
		}
	}
	j.findings = append(j.findings, f)
}

func (j *judge) exception(f Finding) (Exception, bool) {
	for _, e := range j.Except {
		recipe, _ := path.Match(e.Recipe.Value, f.Recipe)
		name, _ := path.Match(e.Package.Value, f.Package)
		if e.Check.Value == f.Check && recipe && (name || e.Package.Value == "") {
			return e, true
		}
	}
	return Exception{}, false
}

// each looks at the contents of every package of both states that differs.
func (j *judge) each(look func(p Changed, old, now *Contents)) error {
	for _, p := range j.Packages {
		old, err := j.contents(p.Old)
		if err != nil {
			return err
		}
		now, err := j.contents(p.New)
		if err != nil {
			return err
		}
		look(p, old, now)
	}
	return nil
}

// contents of no package are empty.
func (j *judge) contents(p *apk.Package) (*Contents, error) {
	if p == nil {
		return &Contents{}, nil
	}
	return j.Contents(p)
}

// names lists the first few of many.
func names(list []string) string {
	const few = 5
	if len(list) <= few {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:few], ", "), len(list)-few)
}

func full(p *apk.Package) string { return p.Name + "-" + string(p.Version) }
