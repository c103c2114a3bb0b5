package document

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// String is a scalar as text, exactly as it was written (after YAML's own unquoting), with its place.
type String struct {
	Value string
	Pos   Pos

	src   *source
	style yaml.Style
}

// Text makes a String that stands in no file.
func Text(value string) String { return String{Value: value} }

func (s String) String() string { return s.Value }

// With is the same place with another value: what the text became.
func (s String) With(value string) String {
	s.Value, s.src = value, nil
	return s
}

// At is the place in the file of the byte Value[offset]. It is exact for one-line scalars and literal blocks; for folded
// and escaped text it is the first place where the same words stand, or else the start of the scalar.
func (s String) At(offset int) Pos {
	if s.src == nil || offset < 0 || offset > len(s.Value) {
		return s.Pos
	}
	if s.style&yaml.LiteralStyle != 0 {
		if p, ok := s.atLiteral(offset); ok {
			return p
		}
	}
	return s.atSearch(offset)
}

// atLiteral counts lines below the "|" and adds back the indentation that YAML removed.
func (s String) atLiteral(offset int) (Pos, bool) {
	before := s.Value[:offset]
	n := strings.Count(before, "\n")
	inLine := offset - (strings.LastIndexByte(before, '\n') + 1)
	value := lineOf(s.Value, n)
	written, ok := s.src.line(s.Pos.Line + 1 + n)
	indent := len(written) - len(value)
	if !ok || indent < 0 || !strings.HasSuffix(written, value) {
		return Pos{}, false
	}
	return Pos{File: s.Pos.File, Line: s.Pos.Line + 1 + n, Col: indent + inLine + 1}, true
}

// searchWindow is how much of the text is enough to recognise it in the file.
const searchWindow = 48

func (s String) atSearch(offset int) Pos {
	words := s.Value[offset:]
	if i := strings.IndexByte(words, '\n'); i >= 0 {
		words = words[:i]
	}
	words = words[:min(len(words), searchWindow)]
	start := s.src.offset(s.Pos)
	if words == "" || start < 0 {
		return s.Pos
	}
	// Nothing of the scalar stands before its offset: each byte of the value takes at least one in the file.
	from := min(start+offset, len(s.src.data))
	i := bytes.Index(s.src.data[from:], []byte(words))
	if i < 0 {
		return s.Pos
	}
	return s.src.posAt(from + i)
}

func lineOf(text string, n int) string {
	for range n {
		_, text, _ = strings.Cut(text, "\n")
	}
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// line is the nth line of the file, counted from 1, without its end.
func (s *source) line(n int) (string, bool) {
	start := s.offset(Pos{Line: n, Col: 1})
	if start < 0 {
		return "", false
	}
	line, _, _ := bytes.Cut(s.data[start:], []byte("\n"))
	return strings.TrimSuffix(string(line), "\r"), true
}

// offset is the byte offset of p, -1 when the file has no such line.
func (s *source) offset(p Pos) int {
	line := max(p.Line-1, 0)
	if line >= len(s.lines) {
		return -1
	}
	return min(s.lines[line]+max(p.Col-1, 0), len(s.data))
}

func (s *source) posAt(offset int) Pos {
	line, begins := slices.BinarySearch(s.lines, offset)
	if !begins {
		line-- // the one before the next that begins
	}
	return Pos{File: s.file, Line: line + 1, Col: offset - s.lines[line] + 1}
}
