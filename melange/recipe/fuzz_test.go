package recipe

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"distro.internal/pipelines"
	"distro.internal/shared/document"
)

// FuzzExpand: no text crashes the expander, and what it accepts has no reference left.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"${{a}}", "x${{ a }}${{b}}", "${{", "${{}}", "${{a}", "$${{a}}}", "${{a b}}", "${{c}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		in := child(nil)
		in.set("a", "1")
		in.define("b", document.Text("${{a}}${{c}}"))
		in.define("c", document.Text("${{b}}"))
		var x expander
		got, ok := x.try(document.Text(text), in)
		if ok != (len(x.errs) == 0) {
			t.Fatalf("ok %v, but mistakes %v", ok, x.errs)
		}
		if ok && strings.Contains(text, "${{") && got == text {
			t.Fatalf("%q was left as it is", text)
		}
	})
}

// FuzzCondition: no text crashes the parser, evaluating twice gives the same, and a mistake never holds.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{
		`"a" == 'a'`, `${{a}} != "1" && ("x" == "x" || ${{a}} == '1')`, `"\"" == '\''`, `'${{a}}' == "1"`, `((("a" == "a")))`, `"`, `( "a"`, `a == b`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		in := child(nil)
		in.set("a", "1")
		var x, y expander
		first, second := x.holds(document.Text(text), in), y.holds(document.Text(text), in)
		if first != second || len(x.errs) != len(y.errs) {
			t.Fatalf("%q: %v then %v", text, first, second)
		}
		if first && len(x.errs) > 0 {
			t.Fatalf("%q holds in spite of %v", text, x.errs)
		}
	})
}

// FuzzQuote: a shell reads what is quoted as the one word that it was.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a b", "it's", "''", "$(x) `y` ${z}", "a\nb", `\`, "*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\x00\r") || !utf8.ValidString(text) {
			return // no argument of a program has the first, the reader of this test changes the others
		}
		file, err := syntax.NewParser().Parse(strings.NewReader("x "+quote(text)), "")
		if err != nil || len(file.Stmts) != 1 {
			t.Fatalf("%s: %v", quote(text), err)
		}
		words, err := expand.Fields(nil, file.Stmts[0].Cmd.(*syntax.CallExpr).Args...)
		if err != nil || len(words) != 2 || words[1] != text {
			t.Fatalf("%s is read as %q: %v", quote(text), words, err)
		}
	})
}

// FuzzPlan: no recipe crashes the planner.
func FuzzPlan(f *testing.F) {
	archive, err := txtar.ParseFile(plansGolden)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".yaml") {
			f.Add(file.Data)
		}
	}
	library := NewLibrary(pipelines.Files)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("x.yaml", data, ParseOptions{})
		if err != nil {
			return
		}
		if p, err := r.Plan(PlanOptions{Arch: "x86_64", Library: library}); err == nil {
			p.Digests()
		}
	})
}
