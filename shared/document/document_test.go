package document

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type recipe struct {
	Package struct {
		Name    String
		Version String
		Epoch   uint64
		Options struct {
			NoDepends bool `yaml:"no-depends"`
		}
	}
	Vars     Map[String]
	Pipeline []step
	Raw      Node
	Labels   map[string]string
	Limit    *int
	Common   `yaml:",inline"`
}

type step struct {
	Pos  Pos
	Uses String
	With Map[String]
	Runs String
}

type Common struct{ Description string }

func decode(t *testing.T, text string) (recipe, error) {
	t.Helper()
	var r recipe
	doc, err := Parse("a.yaml", []byte(text))
	if err == nil {
		err = doc.Decode(&r)
	}
	return r, err
}

func TestDecode(t *testing.T) {
	r, err := decode(t, `
package:
  name: true
  version: 1.10
  epoch: 3
  options: {no-depends: yes}
vars:
  b: 0x10
  a: ~
description: a folded
  line
pipeline:
  - uses: go/build
    with:
      strip: -w
  - runs: |
      make
labels: {k: 007}
limit: 4
raw: [1, 2]
`)
	if err != nil {
		t.Fatal(err)
	}
	var raw []int
	if err := r.Raw.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	strip, _ := r.Pipeline[0].With.Lookup("strip")
	got := []any{
		r.Package.Name.Value, r.Package.Version.Value, r.Package.Epoch, r.Package.Options.NoDepends,
		r.Vars[0].Key.Value, r.Vars[0].Value.Value, r.Vars[1].Value.Value, r.Vars[1].Key.Pos.String(),
		r.Description, strip.Value, r.Pipeline[1].Runs.Value, r.Pipeline[1].Pos.String(), r.Labels["k"], *r.Limit, raw,
	}
	want := []any{
		"true", "1.10", uint64(3), true,
		"b", "0x10", "", "a.yaml:9:3",
		"a folded line", "-w", "make\n", "a.yaml:16:5", "007", 4, []int{1, 2},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMerge(t *testing.T) {
	r, err := decode(t, `
labels: &base {a: 1, b: 1}
package: {name: x}
vars:
  <<: [{b: 2, c: 2}, {c: 3, d: 3}]
  b: own
pipeline:
  - &first {uses: fetch, with: {uri: u}}
  - *first
  - <<: *first
    with: {uri: v}
`)
	if err != nil {
		t.Fatal(err)
	}
	var vars []string
	for _, v := range r.Vars {
		vars = append(vars, v.Key.Value+"="+v.Value.Value)
	}
	if got := strings.Join(vars, " "); got != "b=own c=2 d=3" {
		t.Errorf("vars: %s", got)
	}
	var steps []string
	for _, s := range r.Pipeline {
		uri, _ := s.With.Lookup("uri")
		steps = append(steps, s.Uses.Value+" "+uri.Value)
	}
	if got := strings.Join(steps, ", "); got != "fetch u, fetch u, fetch v" {
		t.Errorf("steps: %s", got)
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "package:\n  nmae: x\n", `a.yaml:2:3: unknown key "nmae" in package (did you mean "name"?)`},
		{"unknown at the top", "packge: {}\n", `a.yaml:1:1: unknown key "packge" (did you mean "package"?)`},
		{"unknown in a list", "pipeline:\n  - run: x\n", `a.yaml:2:5: unknown key "run" in pipeline (did you mean "runs"?)`},
		{"nothing near", "package:\n  frobnicate: x\n", `a.yaml:2:3: unknown key "frobnicate" in package`},
		{"duplicate", "vars: {a: 1, a: 2}\n", `a.yaml:1:14: duplicate key "a", first written in line 1`},
		{"all at once", "package:\n  x: 1\n  epoch: -1\nvars: []\n",
			"a.yaml:2:3: unknown key \"x\" in package\n" +
				"a.yaml:3:10: package.epoch: want a whole number, zero or more, found \"-1\"\n" +
				"a.yaml:4:7: vars: want a mapping, found a list"},
		{"list for text", "package: {name: [a]}\n", `a.yaml:1:17: package.name: want text, found a list`},
		{"text for list", "pipeline: make\n", `a.yaml:1:11: pipeline: want a list, found text`},
		{"no boolean", "package: {options: {no-depends: maybe}}\n", `a.yaml:1:33: package.options.no-depends: want true or false, found "maybe"`},
		{"quoted boolean", "package: {options: {no-depends: 'true'}}\n", `a.yaml:1:33: package.options.no-depends: want true or false, found "true"`},
		{"syntax", "package:\n  name: [a\nvars: x\n", `a.yaml:2:9: a [ that is not closed`},
		{"two documents", "package: {name: a}\n---\nvars: {}\n", `a.yaml:2:1: more than one document in the file`},
		{"bad merge", "vars: {<<: 1}\n", `a.yaml:1:12: only a mapping can be merged into vars`},
		{"two keys in a line", "package:\n  name: a\n version: 1\n", `a.yaml:3:2: want a key here (is it indented as the lines around it?)`},
		{"tab", "package:\n\tname: a\n", `a.yaml:2:1: a tab in the indentation (YAML has spaces there)`},
		{"tab in a list", "package:\n  name: a\n\tversion: 1\n", `a.yaml:3:1: a tab in the indentation (YAML has spaces there)`},
		{"quote", "package:\n  name: \"a\n  epoch: 1\n", `a.yaml:2:9: a quote that is not closed`},
		{"colon", "package:\n  description: a: b\n", `a.yaml:2:17: a second ": " in the line (put the text in quotes)`},
		{"control character", "package:\n  name: \"a\x01\"\n", `a.yaml:2:11: control character U+0001`},
		{"unknown anchor", "vars: {x: *base2}\npackage: *b\n", `a.yaml:1:11: unknown anchor "base2"`},
		{"unknown anchor, near", "package: &base {name: a}\nvars: *bsae\n", `a.yaml:2:7: unknown anchor "bsae" (did you mean "base"?)`},
		{"escape", "package:\n  name: \"ü\\q\"\nvars: {}\n", `a.yaml:2:12: found unknown escape character`},
		{"no token", "vars:\n  a: @b\n", `a.yaml:2:6: found character that cannot start any token`},
		{"anchor without a name", "vars:\n  a: * b\n", `a.yaml:2:6: did not find expected alphabetic or numeric character`},
		{"tag", "vars:\n  - !<x y\n", `a.yaml:2:7: did not find the expected '>'`},
		{"too far in", "vars:\n  a: 1\n    b: 2\n", `a.yaml:3:6: mapping values are not allowed in this context`},
		{"not UTF-8", "vars:\n  a: \xffb\n", `a.yaml:2:6: invalid leading UTF-8 octet`},
		{"list", "- a\n", `a.yaml:1:1: the file: want a mapping, found a list`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := decode(t, test.text)
			if err == nil {
				t.Fatalf("no error, want %s", test.want)
			}
			if d := cmp.Diff(test.want, err.Error()); d != "" {
				t.Error(d)
			}
			var list ErrorList
			if !errors.As(err, &list) {
				t.Errorf("a %T, want an ErrorList", err)
			}
		})
	}
}

func TestAt(t *testing.T) {
	text := `pipeline:
  - runs: |
      one

        two X
  - runs: one X
  - runs: 'quoted X'
  - runs: >-
      folded
      here X
  - runs: "a\tX"
  - runs: plain over
      lines X
  - runs: |2-

         X
`
	r, err := decode(t, text)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"5:13", "6:15", "7:19", "10:12", "11:15", "13:13", "16:10"}
	for i, s := range r.Pipeline {
		at := s.Runs.At(strings.Index(s.Runs.Value, "X"))
		if got := strings.TrimPrefix(at.String(), "a.yaml:"); got != want[i] {
			t.Errorf("%q: X at %s, want %s", s.Runs.Value, got, want[i])
		}
	}
	if got := Text("x").At(0); got != (Pos{}) {
		t.Errorf("a text without a file stands at %v", got)
	}
}

func TestDecodeKnown(t *testing.T) {
	doc, err := Parse("a.yaml", []byte("name: a\nother: b\n"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Name string }
	if err := doc.DecodeKnown(&v); err != nil || v.Name != "a" {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestAliasBomb(t *testing.T) {
	text := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'g'; c++ {
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10))
	}
	doc, err := Parse("bomb.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		A, B, C, D, E, F Node
		G                deep
	}
	err = doc.Decode(&v)
	if err == nil || !strings.HasSuffix(err.Error(), "g is nested too deeply or too large") {
		t.Errorf("a bomb of aliases gave %v", err)
	}
}

// deep is seven lists, one in the other.
type deep = [][][][][][][]string

func TestSuggest(t *testing.T) {
	words := []string{"split/debug", "split/dev", "strip", "go/build"}
	for _, test := range []struct{ word, want string }{
		{"split/devel", "split/dev"}, {"go/biuld", "go/build"}, {"stripp", "strip"}, {"cargo", ""}, {"strip", ""},
		{"split/developer", "split/dev"}, {"go", ""}, {"stri", "strip"}, {"zz", ""},
	} {
		if got := Suggest(test.word, words); got != test.want {
			t.Errorf("Suggest(%q) = %q, want %q", test.word, got, test.want)
		}
	}
}

// FuzzParse: no input may crash the reader, and whatever it accepts must decode the same twice.
func FuzzParse(f *testing.F) {
	f.Add("package: {name: x, version: 1.10}\n")
	f.Add("pipeline:\n- runs: |\n    a ${{b}}\n- &x {uses: y}\n- <<: *x\n")
	f.Add("a: &a [*a]\n")
	f.Add("vars: {<<: [*a]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse("f.yaml", []byte(text))
		if err != nil {
			return
		}
		var a, b recipe
		errA, errB := doc.Decode(&a), doc.Decode(&b)
		if (errA == nil) != (errB == nil) || !reflect.DeepEqual(a.Labels, b.Labels) {
			t.Fatalf("two decodings differ: %v, %v", errA, errB)
		}
		for _, s := range a.Pipeline {
			for i := range len(s.Runs.Value) + 1 {
				s.Runs.At(i)
			}
		}
	})
}
