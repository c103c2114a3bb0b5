package recipe

import (
	"errors"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/shared/document"
)

// checkShell reports a script that no shell can read. Only the form is looked at, and as bash's, for it is the widest of
// those that may stand behind /bin/sh.
func (p *planner) checkShell(text document.String, script string) {
	_, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	var place syntax.Pos
	var broken syntax.ParseError
	var unknown syntax.LangError
	what := ""
	switch {
	case err == nil:
		return
	case errors.As(err, &broken):
		place, what = broken.Pos, broken.Text
	case errors.As(err, &unknown):
		place, what = unknown.Pos, unknown.Feature
	default:
		what = err.Error()
	}
	p.errs.Add(scriptPos(text, script, place), "", "shell: %s", what)
}

// scriptPos finds in the file the place of a script after its references were replaced. That is exact in front of the
// first reference of a line, else it is the line.
func scriptPos(text document.String, script string, place syntax.Pos) document.Pos {
	if !place.IsValid() || strings.Count(text.Value, "\n") != strings.Count(script, "\n") {
		return text.Pos
	}
	start := 0
	for range place.Line() - 1 {
		start += strings.IndexByte(text.Value[start:], '\n') + 1
	}
	line, _, _ := strings.Cut(text.Value[start:], "\n")
	col := min(int(place.Col())-1, len(line))
	if ref := strings.Index(line, "${{"); ref >= 0 && ref < col {
		col = ref
	}
	return text.At(start + col)
}
