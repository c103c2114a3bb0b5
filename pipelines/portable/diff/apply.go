package diff

import (
	"fmt"
	"slices"
	"strings"
)

// Placed is where a hunk was found.
type Placed struct {
	At     int // line in the new text
	Offset int // lines away from where it was looked for, after what earlier hunks had
	Fuzz   int // lines of context that were left out of the comparison at each end
}

// Rejected is a hunk that fits nowhere.
type Rejected struct {
	Number int // of the hunk in its file, from 1
	Hunk   Hunk
	Hint   string // why that may be; may be empty
}

func (e *Rejected) Error() string {
	text := fmt.Sprintf("hunk %d, for line %d, does not fit", e.Number, e.Hunk.OldStart)
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Apply applies hunks in order. One that does not fit where it says is looked for nearby; failing that, up to fuzz lines at
// each end of its context may differ. The error is a *Rejected.
func Apply(text string, hunks []Hunk, fuzz int) (string, []Placed, error) {
	a := applier{old: split(text)}
	var placed []Placed
	for i, h := range hunks {
		at, ok := a.hunk(h, fuzz)
		if !ok {
			return "", placed, &Rejected{i + 1, h, hint(text, hunks, h)}
		}
		placed = append(placed, at)
	}
	for _, line := range a.old[a.frozen:] {
		a.new.WriteString(line)
	}
	return a.new.String(), placed, nil
}

// split takes a text into lines with their newlines.
func split(text string) []string { return slices.Collect(strings.Lines(text)) }

// hint looks for a reason why a hunk does not fit.
func hint(text string, hunks []Hunk, h Hunk) string {
	if text == "" {
		return "the file is empty"
	}
	if _, ok := (&applier{old: split(strings.ReplaceAll(text, "\r\n", "\n"))}).hunk(h, 0); ok && strings.Contains(text, "\r\n") {
		return "the file has other line endings"
	}
	a := applier{old: split(text)}
	for _, h := range hunks {
		if _, ok := a.hunk(h.reversed(), 0); !ok {
			return ""
		}
	}
	return "it is applied already"
}

func (h Hunk) reversed() Hunk {
	r := Hunk{h.Line, h.NewStart, h.NewLen, h.OldStart, h.OldLen, slices.Clone(h.Lines)}
	for i, l := range r.Lines {
		switch l.Op {
		case '+':
			r.Lines[i].Op = '-'
		case '-':
			r.Lines[i].Op = '+'
		}
	}
	return r
}

type applier struct {
	old    []string
	frozen int // lines of old that are in new, or gone
	new    strings.Builder
	lines  int // of new
	offset int // of the last hunk
}

// hunk applies one, if it is found.
func (a *applier) hunk(h Hunk, fuzz int) (Placed, bool) {
	s := newSearch(a, h)
	for f := 0; f <= min(fuzz, s.context); f++ {
		at, ok := s.locate(f)
		if !ok {
			continue
		}
		p := Placed{Offset: at - s.guess, Fuzz: f}
		a.offset += p.Offset
		p.At = a.put(h, at-1)
		return p, true
	}
	return Placed{}, false
}

// put copies what is before the hunk's changes, and makes them. at is an index of old.
func (a *applier) put(h Hunk, at int) (line int) {
	line = a.lines + at - a.frozen + 1
	for _, l := range h.Lines {
		switch l.Op {
		case '+':
			a.copy(at)
			a.new.WriteString(l.Text)
			a.lines++
		case '-':
			a.copy(at)
			at++
			a.frozen = at
		default:
			at++
		}
	}
	return line
}

// copy lets all lines up to an index through.
func (a *applier) copy(to int) {
	for ; a.frozen < to; a.frozen++ {
		a.new.WriteString(a.old[a.frozen])
		a.lines++
	}
}

// search looks for the place of a hunk, in the order that patch of GNU does: at the line that it names moved by what the
// hunk before was, then further and further away in both directions, and all that again with less and less of the context.
// A hunk with less context at one end than at the other stands at that end of the file, and is looked for only there.
type search struct {
	*applier
	pattern                 []string // what is to be found
	prefix, suffix, context int      // unchanged lines at its ends, and the larger number of both
	first, guess            int      // the line that it names, and where it is looked for first
}

func newSearch(a *applier, h Hunk) search {
	s := search{applier: a, first: h.OldStart}
	changed := false
	for _, l := range h.Lines {
		switch {
		case l.Op != ' ':
			changed = true
			s.suffix = 0
		case !changed:
			s.prefix++
			s.suffix++
		default:
			s.suffix++
		}
		if l.Op != '+' {
			s.pattern = append(s.pattern, l.Text)
		}
	}
	if len(s.pattern) == 0 {
		s.first++ // after the line
	}
	s.context = max(s.prefix, s.suffix)
	s.guess = s.first + a.offset
	return s
}

// locate finds the line where the pattern is.
func (s *search) locate(fuzz int) (line int, ok bool) {
	if len(s.pattern) == 0 {
		return s.guess, s.guess > s.frozen && s.guess <= len(s.old)+1
	}
	prefix, suffix := fuzz+s.prefix-s.context, fuzz+s.suffix-s.context
	before := s.guess - s.frozen - 1 // how far it may move
	after := len(s.old) - (len(s.pattern) - suffix) + 1 - s.guess
	if s.guess <= before {
		before = s.guess - 1
	}
	switch {
	case prefix < 0 && s.first <= 1: // the beginning
		if suffix < 0 && (len(s.pattern) != len(s.old) || s.prefix < s.frozen) {
			return 0, false
		}
		return 1, s.frozen <= s.prefix && 1-s.guess <= after && s.match(1, 0, max(suffix, 0))
	case suffix < 0: // the end
		at := len(s.old) - len(s.pattern) + 1
		return at, s.guess-at <= before && s.match(at, max(prefix, 0), 0)
	}
	prefix = max(prefix, 0)
	for d := 0; d <= max(before, after); d++ {
		if d <= after && s.match(s.guess+d, prefix, suffix) {
			return s.guess + d, true
		}
		if d > 0 && d <= before && s.match(s.guess-d, prefix, suffix) {
			return s.guess - d, true
		}
	}
	return 0, false
}

// match compares at a line, leaving out some of the pattern at both ends.
func (s *search) match(line, prefix, suffix int) bool {
	for i := prefix; i < len(s.pattern)-suffix; i++ {
		at := line - 1 + i
		if at < 0 || at >= len(s.old) || s.old[at] != s.pattern[i] {
			return false
		}
	}
	return true
}
