package recipe

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// A scope answers names. Scopes are chained: a subpackage's stands on the recipe's, a pipeline's on its caller's.
type scope struct {
	parent   *scope
	names    map[string]*definition
	fallback *scope // asked when neither the scope nor any parent knows the name
}

// A definition is a name's text and what becomes of it. It is worked out when it is first asked for, so definitions may
// use each other in any order, only not in a circle.
type definition struct {
	name string
	text *document.String // nil when it was never one
	in   *scope           // where the text's own references are looked up

	match   *regexp.Regexp // what is replaced in the expanded text; nil for nothing
	replace *document.String

	state state
	value string
}

// written is the text; empty when it was never one.
func (d *definition) written() document.String {
	if d.text == nil {
		return document.String{}
	}
	return *d.text
}

type state uint8

const (
	waiting state = iota
	working
	known
	broken // a mistake, already reported
)

func child(parent *scope) *scope { return &scope{parent: parent, names: map[string]*definition{}} }

// set defines a name whose value is decided already.
func (s *scope) set(name, value string) {
	s.names[name] = &definition{name: name, value: value, state: known}
}

// define defines a name by text that may hold references, to be looked up in the scope itself.
func (s *scope) define(name string, text document.String) {
	s.names[name] = &definition{name: name, text: &text, in: s}
}

func (s *scope) lookup(name string) *definition {
	var fallback *scope
	for ; s != nil; s = s.parent {
		if d := s.names[name]; d != nil {
			return d
		}
		if s.fallback != nil {
			fallback = s.fallback
		}
	}
	if fallback != nil {
		return fallback.names[name]
	}
	return nil
}

// all lists the names that can be used, sorted.
func (s *scope) all() []string {
	names := map[string]bool{}
	for ; s != nil; s = s.parent {
		for name := range s.names {
			names[name] = true
		}
		if s.fallback != nil {
			for name := range s.fallback.names {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// A reference is ${{ name }} in a text; start and end are byte offsets.
type reference struct {
	name       string
	start, end int
}

// A mistake is a wrong reference: what is wrong, and at which byte of the text.
type mistake struct {
	offset int
	text   string
}

// nextReference finds the first reference at or after offset.
func nextReference(text string, offset int) (ref reference, bad *mistake, found bool) {
	i := strings.Index(text[offset:], "${{")
	if i < 0 {
		return reference{}, nil, false
	}
	ref.start = offset + i
	length := strings.Index(text[ref.start:], "}}")
	if length < 0 {
		return ref, &mistake{ref.start, "${{ without }}"}, true
	}
	ref.end = ref.start + length + len("}}")
	ref.name = strings.TrimSpace(text[ref.start+len("${{") : ref.end-len("}}")])
	switch {
	case ref.name == "":
		return ref, &mistake{ref.start, "${{ }} without a name"}, true
	case strings.ContainsFunc(ref.name, notInName):
		return ref, &mistake{ref.start, "a name cannot be spelled \"" + ref.name + "\""}, true
	}
	return ref, nil, true
}

func notInName(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	}
	return !strings.ContainsRune("._-+", c)
}

// expander replaces references and collects the mistakes it meets. It is one plan's.
type expander struct {
	errs     document.ErrorList
	warnings document.ErrorList
	stack    []*definition // being worked out, outermost first
}

// expand returns the text with every reference replaced. Mistakes are collected, with their place; the result is then of
// no use.
func (x *expander) expand(text document.String, in *scope) string {
	s, _ := x.try(text, in)
	return s
}

// maxText bounds what variables that hold each other twice can blow up to. No script is longer.
const maxText = 1 << 20

// forPeople is expand for text that nothing is decided by. A mistake is a warning, and the text stays as it is.
func (x *expander) forPeople(text document.String, in *scope) string {
	before := len(x.errs)
	value, ok := x.try(text, in)
	if ok {
		return value
	}
	for _, e := range x.errs[before:] {
		if !slices.ContainsFunc(x.warnings, func(w *document.Error) bool { return *w == *e }) {
			x.warnings = append(x.warnings, e)
		}
	}
	x.errs = x.errs[:before]
	return text.Value
}

// try is expand that also says whether all went well.
func (x *expander) try(text document.String, in *scope) (string, bool) {
	return x.substitute(text, in, func(value string) string { return value })
}

// substitute puts what write makes of each value in the place of its reference.
func (x *expander) substitute(text document.String, in *scope, write func(value string) string) (string, bool) {
	if !strings.Contains(text.Value, "${{") {
		return text.Value, true
	}
	var b strings.Builder
	b.Grow(len(text.Value) + len(text.Value)/4)
	ok, at := true, 0
	for {
		ref, bad, found := nextReference(text.Value, at)
		if !found {
			break
		}
		b.WriteString(text.Value[at:ref.start])
		if bad != nil {
			x.errs.Add(text.At(bad.offset), "", "%s", bad.text)
			return "", false
		}
		value, good := x.value(ref.name, in, text, ref.start)
		if b.Len()+len(value) > maxText {
			x.errs.Add(text.At(ref.start), "", "with %s the text is longer than %d bytes", ref.name, maxText)
			return "", false
		}
		ok = ok && good
		b.WriteString(write(value))
		at = ref.end
	}
	b.WriteString(text.Value[at:])
	return b.String(), ok
}

// value is what a name stands for. The place, at an offset of the text that asks, is only worked out when there is
// something to say.
func (x *expander) value(name string, in *scope, by document.String, offset int) (string, bool) {
	d := in.lookup(name)
	if d == nil {
		x.errs.Add(by.At(offset), document.DidYouMean(name, in.all()), "unknown variable %q", name)
		return "", false
	}
	switch d.state {
	case known:
		return d.value, true
	case broken:
		return "", false
	case working:
		x.errs.Add(by.At(offset), "", "variable %s is defined by itself: %s", name, x.circle(d))
		return "", false
	}
	return x.work(d)
}

func (x *expander) work(d *definition) (string, bool) {
	d.state = working
	x.stack = append(x.stack, d)
	value, ok := x.try(*d.text, d.in)
	if ok && d.match != nil {
		value, ok = x.transform(d, value)
	}
	x.stack = x.stack[:len(x.stack)-1]
	if !ok {
		d.state = broken
		return "", false
	}
	d.state, d.value = known, value
	return value, true
}

// transform replaces the matches in a value. The replacement may hold $1 and references; a $ in a reference's value is
// only that.
func (x *expander) transform(d *definition, value string) (string, bool) {
	replace, ok := x.substitute(*d.replace, d.in, func(s string) string { return strings.ReplaceAll(s, "$", "$$") })
	if !ok {
		return "", false
	}
	return d.match.ReplaceAllString(value, replace), true
}

// circle names the way from d back to d.
func (x *expander) circle(d *definition) string {
	var b strings.Builder
	for _, s := range x.stack[slices.Index(x.stack, d):] {
		b.WriteString(s.name + " -> ")
	}
	return b.String() + d.name
}

// all expands each text of a list.
func (x *expander) all(texts []document.String, in *scope) []string {
	if len(texts) == 0 {
		return nil
	}
	values := make([]string, len(texts))
	for i, t := range texts {
		values[i] = x.expand(t, in)
	}
	return values
}

// merge expands a map's values into m.
func (x *expander) merge(m map[string]string, texts document.Map[document.String], in *scope) {
	for _, item := range texts {
		m[item.Key.Value] = x.expand(item.Value, in)
	}
}
