package graph

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
)

// parse makes nodes from lines of text:
//
//	x86_64/zlib: zlib zlib-dev(zlib musl-dev) | musl-dev > cmake
//	image/web: nginx
//
// A packages node lists its outputs, each with what it declares to need and,
// after a slash, to provide; behind the bar stand the packages of its sysroot,
// behind > those of its root.
func parse(t *testing.T, text string) []*Node {
	t.Helper()
	var nodes []*Node
	for line := range strings.Lines(text) {
		id, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		kind, name, _ := strings.Cut(id, "/")
		n := &Node{ID: id, Name: name, File: name + ".yaml"}
		if kind == "image" {
			n.Kind, n.Image = Image, &image.Config{Archs: []apk.Arch{"x86_64"}}
			n.Image.Contents.Packages = strings.Fields(rest)
			nodes = append(nodes, n)
			continue
		}
		rest, root, _ := strings.Cut(rest, ">")
		outputs, sysroot, cross := strings.Cut(rest, "|")
		n.Kind, n.Arch = Packages, apk.Arch(kind)
		n.Outline = &Outline{BuildArch: "x86_64", Cross: cross, Packages: deps(t, root), Sysroot: deps(t, sysroot)}
		for _, word := range splitOutputs(outputs) {
			word, provides, _ := strings.Cut(word, "/")
			output, needs, _ := strings.Cut(strings.TrimSuffix(word, ")"), "(")
			n.Outputs = append(n.Outputs, Output{output, deps(t, needs), deps(t, provides)})
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// splitOutputs splits at blanks outside of parentheses.
func splitOutputs(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return depth == 0 && r == ' '
	})
}

func deps(t *testing.T, text string) []apk.Dependency {
	t.Helper()
	d, err := apk.ParseDependencies(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func show(g *Graph) string {
	var b strings.Builder
	for _, n := range g.Nodes() {
		fmt.Fprintf(&b, "%s", n.ID)
		needs, _ := g.Edges(n)
		for _, e := range needs {
			fmt.Fprintf(&b, " %s:%s:%s", e.To, e.Class, e.Via)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func ids(nodes []*Node) string {
	var words []string
	for _, n := range nodes {
		words = append(words, n.ID)
	}
	return strings.Join(words, " ")
}

const sample = `
x86_64/musl: musl musl-dev(musl)
aarch64/musl: musl musl-dev(musl)
x86_64/tools: tools
x86_64/zlib: zlib zlib-dev(zlib) | musl-dev > tools
aarch64/zlib: zlib zlib-dev(zlib) | musl-dev > tools
x86_64/web: web(cmd:logger) | zlib-dev outside
x86_64/log: log/cmd:logger
image/web: web
`

func TestEdges(t *testing.T) {
	g, err := New(parse(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `aarch64/musl
x86_64/tools
aarch64/zlib aarch64/musl:link:musl-dev aarch64/musl:runtime:musl x86_64/tools:tool:tools
x86_64/log
x86_64/musl
x86_64/zlib x86_64/musl:link:musl-dev x86_64/musl:runtime:musl x86_64/tools:tool:tools
x86_64/web x86_64/zlib:link:zlib-dev x86_64/zlib:runtime:zlib
image/web x86_64/log:runtime:cmd:logger x86_64/web:contents:web
`
	if got := show(g); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestOrderOfInput: a graph depends on what it is made of, not on the order of it.
func TestOrderOfInput(t *testing.T) {
	first, err := New(parse(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	nodes := parse(t, sample)
	for i := range nodes {
		nodes = append(nodes[1:], nodes[0])
		g, err := New(nodes, nil)
		if err != nil {
			t.Fatal(err)
		}
		if show(g) != show(first) {
			t.Fatalf("turned by %d:\n%s", i+1, show(g))
		}
	}
}

func TestReach(t *testing.T) {
	g, err := New(parse(t, sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	names := func(nodes []*Node) string {
		var ids []string
		for _, n := range nodes {
			ids = append(ids, n.ID)
		}
		return strings.Join(ids, " ")
	}
	for _, c := range []struct{ word, found, ancestors, dependents string }{
		{"zlib-dev", "aarch64/zlib x86_64/zlib", "aarch64/musl x86_64/tools aarch64/zlib x86_64/musl x86_64/zlib", "x86_64/web image/web"},
		{"x86_64/log", "x86_64/log", "x86_64/log", "image/web"},
		{"web", "x86_64/web image/web", "x86_64/tools x86_64/log x86_64/musl x86_64/zlib x86_64/web image/web", ""},
		{"nobody", "", "", ""},
	} {
		found := g.Find(c.word)
		if got := names(found); got != c.found {
			t.Errorf("Find(%s) = %s, want %s", c.word, got, c.found)
		}
		if got := names(g.Ancestors(found...)); got != c.ancestors {
			t.Errorf("ancestors of %s: %s, want %s", c.word, got, c.ancestors)
		}
		if got := names(g.Dependents(found...)); got != c.dependents {
			t.Errorf("dependents of %s: %s, want %s", c.word, got, c.dependents)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"x86_64/a: a | b\nx86_64/b: b | c\nx86_64/c: c | a": `x86_64/a needs itself:
  x86_64/a needs b of x86_64/b
  x86_64/b needs c of x86_64/c
  x86_64/c needs a of x86_64/a
one of them must come from another repository: name its recipe under seeds: (world graph --seeds tells which are enough)`,
		"x86_64/a: a b\nx86_64/c: b": "a.yaml and c.yaml both make package b",
		"x86_64/a: a\nx86_64/a: b":   "a.yaml and a.yaml both make x86_64/a",
	} {
		_, err := New(parse(t, text), nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	var cycle *CycleError
	if _, err := New(parse(t, "x86_64/a: a | b\nx86_64/b: b | a"), nil); !errors.As(err, &cycle) || len(cycle.Path) != 3 {
		t.Errorf("no cycle in %v", err)
	}
}

// TestOwnOlderBuild: what a recipe needs of itself comes from another repository.
func TestOwnOlderBuild(t *testing.T) {
	g, err := New(parse(t, "x86_64/make: make > make"), nil)
	if err != nil || show(g) != "x86_64/make\n" {
		t.Errorf("%v\n%s", err, show(g))
	}
}

// TestSeeds: a shell builds a compiler that builds the shell; everybody else has the new ones.
func TestSeeds(t *testing.T) {
	const text = `
x86_64/sh: sh(libc) > cc
x86_64/libc: libc > cc sh
x86_64/cc: cc(libc) > sh make
x86_64/make: make > cc sh make
x86_64/app: app(sh) > cc
x86_64/a: a > b
x86_64/b: b > a
image/base: sh
`
	cycles, seeds, err := Seeds(parse(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintln(len(cycles), ids(cycles[0]), ids(cycles[1]), seeds), "2 x86_64/cc x86_64/libc x86_64/make x86_64/sh x86_64/a x86_64/b [a cc]\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
	g, err := New(parse(t, text), seeds)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		"x86_64/sh":   " | cc", // and not what the older cc needs
		"x86_64/make": "x86_64/libc x86_64/sh | cc",
		"x86_64/app":  "", // builds with the new ones
	} {
		n, _ := g.Node(id)
		got := ids(n.Needs()) + " |"
		_, older := g.Edges(n)
		for _, e := range older {
			got += " " + e.Via
		}
		if id == "x86_64/app" {
			got, want = ids(g.Ancestors(n)), "x86_64/sh x86_64/libc x86_64/make x86_64/cc x86_64/app"
		}
		if got != want {
			t.Errorf("%s needs %q, want %q", id, got, want)
		}
	}

	// Those that are given stay, and what is enough with them is found.
	if _, seeds, err = Seeds(parse(t, text), []string{"sh", "b"}); err != nil || fmt.Sprint(seeds) != "[b cc sh]" {
		t.Errorf("proposed %v, %v", seeds, err)
	}
	if _, err := New(parse(t, text), []string{"cc", "shh"}); err == nil || err.Error() != `seeds: there is no recipe "shh" (did you mean "sh"?)` {
		t.Errorf("a seed that is none: %v", err)
	}
	var cycle *CycleError
	if _, err := New(parse(t, text), []string{"a", "sh"}); !errors.As(err, &cycle) {
		t.Errorf("seeds that are not enough: %v", err)
	}
}
