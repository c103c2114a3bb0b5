package recipe

import (
	"cmp"
	"reflect"
	"regexp"
	"slices"

	"distro.internal/shared/document"
)

var packageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9+_.-]*$`)

// subjects lists the packages of the recipe: ranges are run through, and what an if excludes is left out.
func (p *planner) subjects() {
	p.packages = append(p.packages, p.origin())
	var all []subject
	for i := range p.recipe.Subpackages {
		s := &p.recipe.Subpackages[i]
		for _, scope := range p.instances(s) {
			all = append(all, p.instance(s, scope))
		}
	}
	for _, s := range append(all, p.packages[0]) {
		p.root.set("targets.package."+s.name, outputDir(s.name))
	}
	for _, s := range all {
		if p.holds(s.written.If, s.scope) {
			p.packages = append(p.packages, s)
		}
	}
	seen := map[string]bool{}
	for _, s := range p.packages {
		switch {
		case s.name == "": // said already
		case !packageName.MatchString(s.name):
			p.errs.Add(s.pos, "letters, digits and + _ . -, the first a letter or digit", "%q cannot be the name of a package", s.name)
		case seen[s.name]:
			p.errs.Add(s.pos, "", "a second package named %q", s.name)
		}
		seen[s.name] = true
	}
}

func (p *planner) origin() subject {
	pkg := &p.recipe.Package
	s := subject{
		name: p.Name, pos: pkg.Name.Pos, scope: child(p.base),
		pipeline: p.recipe.Pipeline, test: p.recipe.Test,
		written: &Subpackage{
			Pos: pkg.Pos, Name: pkg.Name, Dependencies: pkg.Dependencies, Options: pkg.Options, Scriptlets: pkg.Scriptlets,
			Description: pkg.Description, Annotations: pkg.Annotations, URL: pkg.URL, Commit: pkg.Commit,
			Checks: pkg.Checks, Setcap: pkg.Setcap,
		},
	}
	s.scope.set("context.name", p.Name)
	s.scope.set("targets.contextdir", outputDir(p.Name))
	return s
}

// instances gives a scope for each time the subpackage is to be made: one, or one for each item of its range, in the
// order of the keys' bytes.
func (p *planner) instances(s *Subpackage) []*scope {
	if s.Range.Value == "" {
		return []*scope{child(p.base)}
	}
	var tables []string
	for _, d := range p.recipe.Data {
		if d.Name.Value != s.Range.Value {
			tables = append(tables, d.Name.Value)
			continue
		}
		items := slices.SortedFunc(slices.Values(d.Items), func(a, b document.Item[document.String]) int {
			return cmp.Compare(a.Key.Value, b.Key.Value)
		})
		scopes := make([]*scope, len(items))
		for i, item := range items {
			scopes[i] = child(p.base)
			scopes[i].set("range.key", item.Key.Value)
			scopes[i].define("range.value", item.Value)
		}
		return scopes
	}
	p.errs.Add(s.Range.Pos, document.DidYouMean(s.Range.Value, tables), "no table %q under data", s.Range.Value)
	return nil
}

func (p *planner) instance(s *Subpackage, in *scope) subject {
	name := p.expand(s.Name, in)
	in.set("subpkg.name", name)
	in.set("context.name", name)
	in.set("targets.subpkgdir", outputDir(name))
	in.set("targets.contextdir", outputDir(name))
	return subject{name: name, pos: s.Name.Pos, scope: in, pipeline: s.Pipeline, test: s.Test, written: s}
}

// Instances lists the subpackages as ranges make them, with what the names in their texts stand for; whether a condition
// holds is left open. It is for looking at: a text that cannot be worked out, and what only pipelines know, stays as it is.
func (r *Recipe) Instances(o PlanOptions) []Subpackage {
	p := newPlanner(r, o)
	p.define(p.included(r.Environment))
	p.header()
	var all []Subpackage
	for i := range r.Subpackages {
		for _, in := range p.instances(&r.Subpackages[i]) {
			p.instance(&r.Subpackages[i], in)
			s := reflect.New(reflect.TypeFor[Subpackage]()).Elem()
			p.read(s, reflect.ValueOf(r.Subpackages[i]), in)
			instance := s.Interface().(Subpackage)
			instance.Range = document.String{}
			all = append(all, instance)
		}
	}
	return all
}

// read copies a value, with all texts in it expanded.
func (p *planner) read(to, from reflect.Value, in *scope) {
	switch text, ok := from.Interface().(document.String); {
	case ok:
		to.Set(reflect.ValueOf(text.With(p.forPeople(text, in))))
	case from.Kind() == reflect.Slice && !from.IsNil():
		to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			p.read(to.Index(i), from.Index(i), in)
		}
	case from.Kind() == reflect.Pointer && !from.IsNil():
		to.Set(reflect.New(from.Type().Elem()))
		p.read(to.Elem(), from.Elem(), in)
	case from.Kind() == reflect.Struct:
		to.Set(from)
		for i := range from.NumField() {
			if from.Type().Field(i).IsExported() {
				p.read(to.Field(i), from.Field(i), in)
			}
		}
	default:
		to.Set(from)
	}
}
