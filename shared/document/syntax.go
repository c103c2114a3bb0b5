package document

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// What the YAML library says of a text that it cannot read is a line at best, and in the words of its own parts. Here it
// becomes a place, and a text for who wrote the file, where the mistake is one of those that people make.

var (
	yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	// grammarError matches what the library's parser says, as opposed to its scanner: those lines count from 0.
	grammarError = regexp.MustCompile(`^did not find expected (key|node|<|'|-)`)

	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	anchor        = regexp.MustCompile(`(?:^|[\s\[{,])&([^\s\[\]{},]+)`)
)

func (s *source) syntaxError(err error) error {
	e := &Error{Text: err.Error(), Pos: Pos{File: s.file}}
	if m := yamlLine.FindStringSubmatch(e.Text); m != nil {
		e.Text = e.Text[len(m[0]):]
		e.Pos.Line, _ = strconv.Atoi(m[1])
	}
	if grammarError.MatchString(e.Text) {
		e.Pos.Line++
	}
	said := e.Text
	s.explain(e)
	if e.Pos.Col == 0 {
		s.locate(e, said)
	}
	return ErrorList{e}
}

// locate finds the place of a mistake of which only the words are known: the library reads from front to back and stops at
// the first thing that cannot be, so that is where the shortest beginning of the file ends of which it says the same.
// That something does not end is noticed at the end only; then the line, which tells where it began, is better.
func (s *source) locate(e *Error, said string) {
	n := sort.Search(len(s.data), func(n int) bool {
		var node yaml.Node
		err := yaml.Unmarshal(s.data[:n], &node)
		return err != nil && yamlLine.ReplaceAllString(err.Error(), "") == said
	})
	switch {
	case 0 < n && n < len(s.data):
		for n--; n > 0 && !utf8.RuneStart(s.data[n]); n-- {
		}
		e.Pos = s.posAt(n)
	case e.Pos.Line > 0:
		line, _ := s.line(e.Pos.Line)
		e.Pos.Col = len(line) - len(strings.TrimLeft(line, " \t")) + 1
	}
}

// explain makes more of a message, where the file tells what is meant.
func (s *source) explain(e *Error) {
	if e.Text == "found a tab character that violates indentation" {
		e.Pos.Line++ // it tells where what is in front of the tab ends
	}
	line := ""
	if e.Pos.Line > 0 {
		line, _ = s.line(e.Pos.Line)
	}
	indent := len(line) - len(strings.TrimLeft(line, " \t"))
	m := unknownAnchor.FindStringSubmatch(e.Text)
	switch {
	case m != nil:
		e.Text, e.Hint = fmt.Sprintf("unknown anchor %q", m[1]), DidYouMean(m[1], s.anchors())
		e.Pos = s.find("*" + m[1])
	case e.Text == "control characters are not allowed":
		s.explainControl(e)
	case strings.Contains(line[:indent], "\t"):
		e.Text, e.Hint = "a tab in the indentation", "YAML has spaces there"
		e.Pos.Col = strings.Index(line, "\t") + 1
	case e.Text == "mapping values are not allowed in this context" && strings.Count(line+" ", ": ") > 1:
		first := strings.Index(line, ": ") + len(": ")
		e.Text, e.Hint = `a second ": " in the line`, "put the text in quotes"
		e.Pos.Col = first + strings.Index(line[first:]+" ", ": ") + 1
	case e.Text == "found unexpected end of stream" && strings.ContainsAny(line, `"'`):
		e.Text = "a quote that is not closed"
		e.Pos.Col = strings.IndexAny(line, `"'`) + 1
	case strings.HasPrefix(e.Text, "did not find expected ','") && strings.ContainsAny(line, "[{"):
		e.Pos.Col = strings.LastIndexAny(line, "[{") + 1
		e.Text = fmt.Sprintf("a %c that is not closed", line[e.Pos.Col-1])
	case e.Text == "did not find expected key" && line != "":
		e.Text, e.Hint = "want a key here", "is it indented as the lines around it?"
		e.Pos.Col = indent + 1
	}
}

// explainControl points at the first character that must not be in the file.
func (s *source) explainControl(e *Error) {
	at := bytes.IndexFunc(s.data, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f })
	if at < 0 {
		return
	}
	e.Text = fmt.Sprintf("control character %U", s.data[at])
	e.Pos = s.posAt(at)
}

// find is the place of the first use of an alias.
func (s *source) find(alias string) Pos {
	for from := 0; ; {
		at := bytes.Index(s.data[from:], []byte(alias))
		if at < 0 {
			return Pos{File: s.file}
		}
		at += from
		from = at + len(alias)
		if from == len(s.data) || strings.IndexByte(" \t\r\n,[]{}", s.data[from]) >= 0 {
			return s.posAt(at)
		}
	}
}

func (s *source) anchors() []string {
	var names []string
	for _, m := range anchor.FindAllSubmatch(s.data, -1) {
		names = append(names, string(m[1]))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
