package document

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// A layout is a file's text with what it takes to find a node's bytes in it. The parser says where a node starts; where it
// ends follows from how it is written and what it says.
type layout struct {
	data  []byte
	lines []int // the offset of each line
}

func newLayout(data []byte) layout {
	t := layout{data: data, lines: []int{0}}
	if bytes.HasPrefix(data, byteOrderMark) {
		t.lines[0] = len(byteOrderMark)
	}
	for i := 0; i < len(data); {
		n := breakLength(data[i:])
		i += max(n, 1)
		if n > 0 {
			t.lines = append(t.lines, i)
		}
	}
	return t
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// breakLength is the length of the line break that a text begins with; 0 when it does not. YAML 1.1 knows more than two.
func breakLength(s []byte) int {
	switch {
	case len(s) == 0:
		return 0
	case s[0] == '\r' && len(s) > 1 && s[1] == '\n':
		return 2
	case s[0] == '\n' || s[0] == '\r':
		return 1
	case bytes.HasPrefix(s, []byte("\u0085")):
		return 2
	case bytes.HasPrefix(s, []byte("\u2028")), bytes.HasPrefix(s, []byte("\u2029")):
		return 3
	}
	return 0
}

// of returns where a node's text starts and ends: without its anchor and tag, and without what follows on its line.
func (t layout) of(n *yaml.Node) (start, end int, ok bool) {
	if start, ok = t.start(n); !ok {
		return 0, 0, false
	}
	switch {
	case n.Kind == yaml.AliasNode:
		return start, start + 1 + len(n.Value), true
	case n.Kind == yaml.ScalarNode:
		end = t.scalarEnd(n, start)
	default:
		end = t.collectionEnd(n, start)
	}
	return start, end, end >= start
}

// start skips the anchor and the tag that a node's text may begin with.
func (t layout) start(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(t.lines) {
		return 0, false
	}
	at := t.lines[n.Line-1]
	for range n.Column - 1 { // the parser counts characters
		if at >= len(t.data) {
			return 0, false
		}
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	for at < len(t.data) && (t.data[at] == '&' || t.data[at] == '!') {
		for at < len(t.data) && !isSpace(t.data[at]) {
			at++
		}
		at = t.skip(at, isSpace)
	}
	return at, true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (t layout) skip(at int, over func(byte) bool) int {
	for at < len(t.data) && over(t.data[at]) {
		at++
	}
	return at
}

// scalarEnd is -1 when the text at start is not the node's.
func (t layout) scalarEnd(n *yaml.Node, start int) int {
	switch {
	case n.Style&yaml.SingleQuotedStyle != 0:
		return t.singleEnd(start)
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return t.doubleEnd(start)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return t.blockEnd(n, start)
	}
	// What is folded between words is some white space or other.
	at := start
	for i, word := range strings.FieldsFunc(n.Value, func(c rune) bool { return c < 0x80 && isSpace(byte(c)) }) {
		if i > 0 {
			at = t.skip(at, isSpace)
		}
		if !bytes.HasPrefix(t.data[at:], []byte(word)) {
			return -1
		}
		at += len(word)
	}
	return at
}

func (t layout) singleEnd(start int) int {
	if start >= len(t.data) || t.data[start] != '\'' {
		return -1
	}
	for at := start + 1; at < len(t.data); at++ {
		if t.data[at] != '\'' {
			continue
		}
		if at+1 < len(t.data) && t.data[at+1] == '\'' {
			at++
			continue
		}
		return at + 1
	}
	return -1
}

func (t layout) doubleEnd(start int) int {
	if start >= len(t.data) || t.data[start] != '"' {
		return -1
	}
	for at := start + 1; at < len(t.data); at++ {
		switch t.data[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return -1
}

// blockEnd is the end of the last line of a literal or folded text: of the last that is not blank, unless blank ones count.
func (t layout) blockEnd(n *yaml.Node, start int) int {
	if start >= len(t.data) || t.data[start] != '|' && t.data[start] != '>' {
		return -1
	}
	header := t.lineEnd(start)
	keep := bytes.ContainsRune(t.data[start:min(start+3, header)], '+')
	indent, end := t.blockIndent(n, header), header
	for at := header; at < len(t.data); {
		at += breakLength(t.data[at:])
		line := t.lineEnd(at)
		blank := len(bytes.TrimLeft(t.data[at:line], " \t")) == 0
		if !blank && (indent == 0 || t.skip(at, isBlank)-at < indent) {
			break
		}
		if !blank || keep && line < len(t.data) {
			end = line
		}
		at = line
	}
	return end
}

func isBlank(c byte) bool { return c == ' ' }

// blockIndent is how far the lines of a block are indented; 0 when it has none.
func (t layout) blockIndent(n *yaml.Node, header int) int {
	first := ""
	for line := range strings.SplitSeq(n.Value, "\n") {
		if strings.TrimLeft(line, " ") != "" {
			first = line
			break
		}
	}
	if first == "" {
		return 0
	}
	at := header
	for at < len(t.data) {
		at += breakLength(t.data[at:])
		if line := t.lineEnd(at); len(bytes.TrimLeft(t.data[at:line], " ")) > 0 {
			break
		}
		at = t.lineEnd(at)
	}
	return t.skip(at, isBlank) - at - (len(first) - len(strings.TrimLeft(first, " ")))
}

// collectionEnd is the end of the last value in it, or of the bracket around them.
func (t layout) collectionEnd(n *yaml.Node, start int) int {
	end := start
	if len(n.Content) > 0 {
		_, last, ok := t.of(n.Content[len(n.Content)-1])
		if !ok {
			return -1
		}
		end = last
	} else if n.Style&yaml.FlowStyle == 0 {
		return -1
	} else {
		end++
	}
	if n.Style&yaml.FlowStyle == 0 {
		return end
	}
	for ; end < len(t.data); end++ {
		switch c := t.data[end]; {
		case c == ']' || c == '}':
			return end + 1
		case c == '#':
			end = t.lineEnd(end) - 1
		case c != ',' && !isSpace(c):
			return -1
		}
	}
	return -1
}

// lineEnd is the end of the line that an offset is in, before its break.
func (t layout) lineEnd(at int) int {
	for at < len(t.data) && breakLength(t.data[at:]) == 0 {
		at++
	}
	return at
}

// blankAfter and blankBefore report whether the line after or before the one that an offset is in has nothing on it.
func (t layout) blankAfter(at int) bool {
	end := t.lineEnd(at)
	next := end + breakLength(t.data[end:])
	return next > end && next < len(t.data) && len(bytes.TrimSpace(t.data[next:t.lineEnd(next)])) == 0
}

func (t layout) blankBefore(at int) bool {
	begin := bytes.LastIndexByte(t.data[:at], '\n')
	if begin < 0 {
		return false
	}
	before := bytes.LastIndexByte(t.data[:begin], '\n') + 1
	return len(bytes.TrimSpace(t.data[before:begin])) == 0
}

// spellings are ways to write a value in the place of another, the most like it first.
func (t layout) spellings(old yaml.Node, at span, value string) []string {
	plain, single, double := unquoted(value), "'"+strings.ReplaceAll(value, "'", "''")+"'", quoted(value)
	switch {
	case old.Style&yaml.SingleQuotedStyle != 0:
		return []string{single, double}
	case old.Style&yaml.DoubleQuotedStyle != 0:
		return []string{double}
	case old.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		indent := strings.Repeat(" ", t.blockIndent(&old, t.lineEnd(at.start)))
		block := literal(value, indent, at.end == len(t.data))
		return []string{block, double, double + "\n"}
	case at.start == at.end: // nothing yet, right behind the key's colon or the item's dash
		return prefixed(" ", plain, double)
	}
	return []string{plain, double}
}

func prefixed(start string, ways ...string) []string {
	all := make([]string, len(ways))
	for i, w := range ways {
		all[i] = start + w
	}
	return all
}

// power is a number to some readers of YAML, and to others text because it is too large for them: one in many commits.
var power = regexp.MustCompile(`^[-+]?[0-9.]+[eE][-+]?[0-9]+$`)

// unquoted writes a value as it is, where nobody would misread that.
func unquoted(value string) string {
	if power.MatchString(value) {
		return quoted(value)
	}
	return value
}

// quoted writes a value in double quotes.
func quoted(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range value {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c >= 0x7f && c < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe || c == 0xffff:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// literal writes a value as a block of lines, without the last line's end unless the file ends with it.
func literal(value, indent string, last bool) string {
	text := strings.TrimRight(value, "\n")
	ends := len(value) - len(text)
	header := "|"
	switch {
	case ends == 0:
		header = "|-"
	case ends > 1:
		header = "|+"
	}
	var b strings.Builder
	b.WriteString(header)
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteByte('\n')
		if line != "" {
			b.WriteString(indent + line)
		}
	}
	b.WriteString(strings.Repeat("\n", max(ends-1, 0)))
	if last && ends > 0 {
		b.WriteByte('\n')
	}
	return b.String()
}

// Quote spells a text for a file that is written anew: as it is where every reader takes it for that text, else in double
// quotes.
func Quote(value string) string {
	if power.MatchString(value) || strings.ContainsAny(value, "\n\r") {
		return quoted(value)
	}
	doc, err := Parse("", []byte("a: "+value+"\n"))
	if err != nil || len(doc.root.Content) != 2 {
		return quoted(value)
	}
	if n := doc.root.Content[1]; n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Style != 0 || n.Value != value || n.Anchor != "" {
		return quoted(value)
	}
	return value
}
