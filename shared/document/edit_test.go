package document

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Each change is at the place that the old text first stands at.
func TestEdit(t *testing.T) {
	for _, c := range []struct {
		name, text, at, value, want string
	}{
		{"plain", "a: 1.2.3 # comment\nb: c\n", "1.2.3", "1.2.4", "a: 1.2.4 # comment\nb: c\n"},
		{"plain in quotes where it would be a number", "a: 1.2.3\n", "1.2.3", "1.10", "a: \"1.10\"\n"},
		{"a number that stays one", "a: 1.2\n", "1.2", "1.3", "a: 1.3\n"},
		{"a number that would lose a digit", "a: 1.9\n", "1.9", "1.10", "a: \"1.10\"\n"},
		{"a whole number", "a: 4\n", "4", "0", "a: 0\n"},
		{"plain that needs quotes", "a: b\n", "b", "c: d # e", "a: \"c: d # e\"\n"},
		{"double quotes", "a: \"1\" # \"\n", "\"1\"", "2\\\"\n", "a: \"2\\\\\\\"\\n\" # \"\n"},
		{"single quotes", "a: 'it''s'\n", "'it", "who's", "a: 'who''s'\n"},
		{"single quotes cannot hold everything", "a: 'x'\n", "'x", "\a", "a: \"\\x07\"\n"},
		{"plain over two lines", "a: one\n  two # not three\nb: c\n", "one", "three", "a: three # not three\nb: c\n"},
		{"a key without a value", "a:\nb: c\n", "\n", "x", "a: x\nb: c\n"},
		{"literal", "a: |\n  one\n\n  two\n# end\nb: c\n", "|", "1\n 2\n", "a: |\n  1\n   2\n# end\nb: c\n"},
		{"literal without an end", "a: |-\n    one\nb: c\n", "|", "1", "a: |-\n    1\nb: c\n"},
		{"literal at the end of the file", "a: |\n  one", "|", "1\n", "a: |\n  1\n"},
		{"folded becomes literal", "a: >\n  one\n  two\nb: c\n", ">", "1\n", "a: |\n  1\nb: c\n"},
		{"in braces", "a: {b: c, d: [e, f]} # g\n", "e", "x, y", "a: {b: c, d: [\"x, y\", f]} # g\n"},
		{"with a tag and an anchor", "a: !!str &x 1\nb: *x\n", "!!str", "2", "a: !!str &x 2\nb: *x\n"},
		{"after other letters", "é: {ü: 1, ö: x}\n", "x", "y", "é: {ü: 1, ö: y}\n"},
		{"other ends of lines", "a: b\r\nc: d\r\n", "d", "e", "a: b\r\nc: e\r\n"},
		{"after a byte order mark", "\ufeffa: b\n", "b", "c", "\ufeffa: c\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := edit(t, c.text)
			e.Set(place(c.text, c.at), c.value)
			check(t, e, c.want)
		})
	}
}

func TestEditAdds(t *testing.T) {
	for _, c := range []struct {
		name, text, at, key, value, want string
	}{
		{"an entry", "a:\n  b: c # d\n  e: f\n", "c", "x", "1.2.3", "a:\n  b: c # d\n  x: 1.2.3\n  e: f\n"},
		{"in an item", "- a: b\n  c: d\n", "b", "x", "y", "- a: b\n  x: y\n  c: d\n"},
		{"after lines", "a: |\n  b\n\nc: d\n", "|", "x", "1\n2\n", "a: |\n  b\nx: |\n  1\n  2\n\nc: d\n"},
		{"in braces", "a: {b: c}\n", "c", "x", "y, z", "a: {b: c, x: \"y, z\"}\n"},
		{"at the end of the file", "a: b", "b", "x", "y", "a: b\nx: y"},
		{"a digest that looks like a number", "a: b\n", "b", "x", "12345e67890", "a: b\nx: \"12345e67890\"\n"},
		{"a number", "a: b\n", "b", "x", "0", "a: b\nx: 0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := edit(t, c.text)
			e.Add(place(c.text, c.at), c.key, c.value)
			check(t, e, c.want)
		})
	}
	for _, c := range []struct{ name, text, at, item, want string }{
		{"an item", "a:\n  - b: c\n    d:\n      - e # f\n  - g\n", "b", "x: y\nz:\n  - 1\n", "a:\n  - b: c\n    d:\n      - e # f\n  - x: y\n    z:\n      - 1\n  - g\n"},
		{"an item among others with room between", "a:\n- b\n\n- c\n", "b", "x", "a:\n- b\n\n- x\n\n- c\n"},
		{"the last item", "a:\n\n- b\n\n- c\nd: e\n", "c", "x", "a:\n\n- b\n\n- c\n\n- x\nd: e\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := edit(t, c.text)
			e.AddItem(place(c.text, c.at), c.item)
			check(t, e, c.want)
		})
	}
}

func TestEditManyTimes(t *testing.T) {
	text := "a: 1 # one\nb: [x, y]\nc: d\n"
	e := edit(t, text)
	e.Set(place(text, "d"), "e")
	e.Add(place(text, "1"), "f", "g")
	e.Add(place(text, "1"), "h", "i")
	e.Set(place(text, "y"), "z")
	e.Set(place(text, "1"), "2")
	check(t, e, "a: 2 # one\nf: g\nh: i\nb: [x, z]\nc: e\n")
}

func TestEditRefuses(t *testing.T) {
	for _, c := range []struct{ text, at, value, want string }{
		{"a: b\n", "a", "x", "f.yaml:1:1: there is no value that could be changed"},
		{"a: b\n", "b", "\xff", `f.yaml:1:4: "\xff" is not text`},
		{"a: [b]\n", "[", "x", "f.yaml:1:4: this is no text that could be changed"},
	} {
		e := edit(t, c.text)
		e.Set(place(c.text, c.at), c.value)
		if _, err := e.Bytes(); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.text, err, c.want)
		}
	}
	e := edit(t, "a: b\n")
	e.AddItem(Pos{File: "f.yaml", Line: 1, Col: 4}, "x")
	if _, err := e.Bytes(); err == nil {
		t.Error("an item was put into a mapping")
	}
}

func TestQuote(t *testing.T) {
	for value, want := range map[string]string{
		"a b": "a b", "1.2.3": "1.2.3", "1.2": `"1.2"`, "yes": "yes", "true": `"true"`, "": `""`, "a: b": `"a: b"`, "a #b": `"a #b"`,
		" a": `" a"`, "- a": `"- a"`, "*a": `"*a"`, "!a": `"!a"`, "a\nb": `"a\nb"`, "~": `"~"`, "'a": `"'a"`, "12e34": `"12e34"`, "[a": `"[a"`,
		"${{package.version}}": "${{package.version}}", "&x a": `"&x a"`, "null": `"null"`,
	} {
		if got := Quote(value); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

func edit(t *testing.T, text string) *Editor {
	t.Helper()
	doc, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Edit()
}

// place is where some words first stand.
func place(text, words string) Pos {
	before := text[:strings.Index(text, words)]
	return Pos{File: "f.yaml", Line: strings.Count(before, "\n") + 1, Col: len(before) - strings.LastIndexByte(before, '\n')}
}

func check(t *testing.T, e *Editor, want string) {
	t.Helper()
	got, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// An edit leaves all bytes outside of the value alone, and the file then says the new value there, and elsewhere what it said.
func FuzzEdit(f *testing.F) {
	for _, text := range []string{
		"a: 1.2.3 # x\nb: 'it''s'\nc: \"\\t\"\n", "a: |\n  one\n\n  two\n# end\nb: >-\n   x\n   y\n\n", "a: {b: [c, d], e: f}\n", "- a\n-\n- - b\n  - c: d\n    e: |+\n     f\n\n\n",
		"é: &x !!str ü\nä: *x\n", "a:\n  b\n  c\n\n  d\n", "? a\n: b\n", "\ufeffa: b\r\nc: d\r\n",
	} {
		f.Add([]byte(text), uint(0), "1.10")
		f.Add([]byte(text), uint(1), "a: b\n c\n\n")
		f.Add([]byte(text), uint(2), " #'\"")
	}
	f.Fuzz(func(t *testing.T, text []byte, which uint, value string) {
		doc, err := Parse("f.yaml", text)
		if err != nil || len(text) > 4<<10 {
			return
		}
		e := doc.Edit()
		places := slices.SortedFunc(maps.Keys(e.entries), func(a, b Pos) int { return e.entries[a].text.start - e.entries[b].text.start })
		if len(places) == 0 {
			return
		}
		at := places[which%uint(len(places))]
		entry := e.entries[at]
		e.Set(at, value)
		got, err := e.Bytes()
		if err != nil {
			return
		}
		before, after := text[:entry.text.start], text[entry.text.end:]
		if !bytes.HasPrefix(got, before) || !bytes.HasSuffix(got, after) || len(got) < len(before)+len(after) {
			t.Fatalf("other bytes changed:\n%q\n%q", text, got)
		}
		again, err := Parse("f.yaml", got)
		if err != nil {
			t.Fatalf("%q cannot be read: %v", got, err)
		}
		want, have := scalars(doc.root), scalars(again.root)
		changed := 0
		for i := range want {
			if i >= len(have) || want[i] == have[i] {
				continue
			}
			if changed++; have[i] != value {
				t.Fatalf("%q became %q, not %q", want[i], have[i], value)
			}
		}
		if len(want) != len(have) || changed > 1 {
			t.Fatalf("%q became %q", want, have)
		}
	})
}

// scalars lists what is written in a tree.
func scalars(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	var list []string
	if n.Kind == yaml.ScalarNode {
		list = append(list, n.Value)
	}
	for _, child := range n.Content {
		list = append(list, scalars(child)...)
	}
	return list
}
