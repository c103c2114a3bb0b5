package recipe

import (
	"slices"

	"distro.internal/shared/document"
)

// Check is a step of a test that looks at the content of the finished package and runs nothing of it: a test of nothing
// else needs no environment.
type Check struct {
	Name string
	With map[string]string
}

// CheckNames are the names of those that there are.
var CheckNames = []string{
	"byproduct", "config", "contains-files", "debug", "dev", "docs", "empty", "lang", "ldd", "meta", "no-docs", "pkgconf", "src",
	"static", "symlinks", "virtual",
}

// check plans a step that is a check.
func (p *planner) check(n *PipelineStep, f frame, r *run) {
	name, ok := p.try(n.Check, f.scope)
	if !ok {
		return
	}
	if !slices.Contains(CheckNames, name) {
		p.errs.Add(n.Check.Pos, document.DidYouMean(name, CheckNames), "unknown check %q", name)
		return
	}
	c := &Check{Name: name, With: map[string]string{}}
	p.merge(c.With, n.With, f.scope)
	s := p.step(n, f)
	s.Check, s.ScriptPos = c, n.Check.Pos
	r.steps = append(r.steps, s)
}

// onlyTests refuses checks among the steps of a build: there is no finished package yet.
func (p *planner) onlyTests(steps []Step) {
	for _, s := range steps {
		if s.Check != nil {
			p.errs.Add(s.Pos, "", "a check looks at a finished package: it is a step of a test")
		}
	}
}

// Structural says that a test consists of checks alone.
func (t *Test) Structural() bool {
	return len(t.Sources) == 0 && !slices.ContainsFunc(t.Steps, func(s Step) bool { return s.Check == nil })
}
