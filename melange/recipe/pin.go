package recipe

import (
	"strings"

	"distro.internal/shared/document"
)

// A Pin is a source that a step of the recipe itself names, with the places of what holds it to one content.
type Pin struct {
	Kind                   string // SourceFetch or SourceGit
	URI                    string // of the file or the repository
	Branch, Tag            string
	Unpinned               bool             // the recipe takes whatever comes
	SHA256, SHA512, Commit document.String  // as they are written; empty where they are not
	With                   *document.String // the value after which a missing one could be written
	Commits                string           // the key that a missing commit would have
	Pos                    document.Pos     // of the step

	// Err says why it cannot be told what the step names. Only Kind and Pos are then known.
	Err error
}

// Pins lists the sources that the recipe's own steps name, those of tests too. Conditions of steps do not count: the
// digests that are written for another architecture belong to the recipe all the same. Steps of a ranged subpackage are
// there once for each item.
func (r *Recipe) Pins(o PlanOptions) ([]Pin, error) {
	p, err := r.named(o)
	if err != nil {
		return nil, err
	}
	var pins []Pin
	for _, s := range p.packages {
		pins = p.pins(pins, s.pipeline, s.scope)
		if s.test != nil {
			pins = p.pins(pins, s.test.Pipeline, s.scope)
		}
	}
	return pins, nil
}

// named is a planner that knows the recipe's names and packages, and nothing of its steps.
func (r *Recipe) named(o PlanOptions) (*planner, error) {
	p := &planner{recipe: r, options: o}
	p.options.Library = NewLibrary(o.Pipelines...)
	p.define(p.included(r.Environment))
	p.Name = p.expand(r.Package.Name, p.base)
	p.subjects()
	return p, p.errs.Err()
}

func (p *planner) pins(pins []Pin, steps []PipelineStep, in *scope) []Pin {
	for i := range steps {
		if pin, ok := p.pin(&steps[i], in); ok {
			pins = append(pins, pin)
		}
		pins = p.pins(pins, steps[i].Pipeline, in)
	}
	return pins
}

// The words of the pipelines fetch and git-checkout for what sources call otherwise.
const (
	expectedSHA256 = "expected-sha256"
	expectedSHA512 = "expected-sha512"
	expectedCommit = "expected-commit"
)

func (p *planner) pin(n *PipelineStep, in *scope) (Pin, bool) {
	written := func(names ...string) (t document.String) {
		for _, name := range names {
			if v, ok := n.With.Lookup(name); ok {
				t = v
			}
		}
		return literal(t, in)
	}
	pin := Pin{Pos: n.Pos, Commits: "commit"}
	place := "uri"
	switch {
	case n.Uses.Value == "fetch" || n.Source.Value == SourceFetch:
		pin.Kind = SourceFetch
		pin.SHA256, pin.SHA512 = written(expectedSHA256, "sha256"), written(expectedSHA512, "sha512")
		pin.Unpinned = written("expected-none", "unpinned").Value != ""
	case n.Uses.Value == "git-checkout" || n.Source.Value == SourceGit:
		pin.Kind, place = SourceGit, "repository"
		pin.Commit = written(expectedCommit, "commit")
		if n.Uses.Value != "" {
			pin.Commits = expectedCommit
		}
	default:
		return pin, false
	}
	before := len(p.errs)
	for _, f := range []struct {
		to   *string
		name string
	}{{&pin.URI, place}, {&pin.Branch, "branch"}, {&pin.Tag, "tag"}} {
		t, ok := n.With.Lookup(f.name)
		if !ok {
			continue
		}
		*f.to = strings.TrimSpace(p.expand(t, in))
		pin.With = &t
	}
	if errs := p.errs[before:]; len(errs) > 0 {
		pin.Err = append(document.ErrorList{}, errs...)
		p.errs = p.errs[:before]
	}
	return pin, true
}

// literal is where a text is really written: when it only names a variable or the item of a range, there.
func literal(t document.String, in *scope) document.String {
	for range maxForwards {
		ref, bad, found := nextReference(t.Value, 0)
		def := in.lookup(ref.name)
		if !found || bad != nil || ref.start > 0 || ref.end < len(t.Value) || def == nil || def.in == nil || def.match != nil {
			break
		}
		t, in = def.written(), def.in
	}
	return t
}
