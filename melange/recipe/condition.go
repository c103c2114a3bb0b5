package recipe

import (
	"strings"

	"distro.internal/shared/document"
)

// The language of if:
//
//	condition  = comparison { ("&&" | "||") comparison }
//	comparison = "(" condition ")" | value ("==" | "!=") value
//	value      = "text" | 'text' | ${{ name }}
//
// Text may hold references, and the escapes \\ \' \" \n \t. && and || have no precedence over each other: to mix them,
// write parentheses. Both sides are always read, so a mistake on the right is found whatever the left side is.

// holds evaluates an if: text; an empty one holds. Mistakes are collected and make it false.
func (x *expander) holds(text document.String, in *scope) bool {
	if strings.TrimSpace(text.Value) == "" {
		return true
	}
	p := condition{expander: x, text: text, in: in}
	result := p.expression()
	if p.skip(); !p.failed && p.at < len(text.Value) {
		p.fail(p.at, "", "unexpected %s after the condition", p.found())
	}
	return result && !p.failed
}

// condition is a parser that evaluates as it reads.
type condition struct {
	*expander
	text   document.String
	in     *scope
	at     int
	depth  int
	failed bool
}

// maxParentheses keeps hostile input from exhausting the stack.
const maxParentheses = 100

func (p *condition) fail(offset int, hint, format string, args ...any) {
	if !p.failed {
		p.errs.Add(p.text.At(offset), hint, "if: "+format, args...)
	}
	p.failed = true
}

func (p *condition) skip() {
	for p.at < len(p.text.Value) && strings.IndexByte(" \t\r\n", p.text.Value[p.at]) >= 0 {
		p.at++
	}
}

// take reads a token when it is next.
func (p *condition) take(token string) bool {
	p.skip()
	if p.failed || !strings.HasPrefix(p.text.Value[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

// found describes what is next, for messages.
func (p *condition) found() string {
	if p.at >= len(p.text.Value) {
		return "end"
	}
	word, _, _ := strings.Cut(p.text.Value[p.at:], " ")
	return `"` + word + `"`
}

func (p *condition) expression() bool {
	if p.depth++; p.depth > maxParentheses {
		p.fail(p.at, "", "too many parentheses")
	}
	defer func() { p.depth-- }()
	result, joined := p.comparison(), ""
	for !p.failed {
		before := p.at
		op := ""
		switch {
		case p.take("&&"):
			op = "&&"
		case p.take("||"):
			op = "||"
		default:
			return result
		}
		if joined != "" && joined != op {
			p.skipBack(before)
			p.fail(p.at, "write parentheses", "&& and || are mixed")
			return false
		}
		joined = op
		right := p.comparison()
		if op == "&&" {
			result = result && right
		} else {
			result = result || right
		}
	}
	return false
}

// skipBack moves to the token that follows offset.
func (p *condition) skipBack(offset int) { p.at = offset; p.skip() }

func (p *condition) comparison() bool {
	if p.failed {
		return false
	}
	if p.take("(") {
		result := p.expression()
		if !p.take(")") {
			p.fail(p.at, "", "want ), found %s", p.found())
		}
		return result
	}
	left := p.value()
	equal := p.take("==")
	if !equal && !p.take("!=") {
		p.fail(p.at, "", "want == or !=, found %s", p.found())
	}
	right := p.value()
	return (left == right) == equal
}

func (p *condition) value() string {
	p.skip()
	rest := p.text.Value[p.at:]
	switch {
	case p.failed:
		return ""
	case strings.HasPrefix(rest, "${{"):
		return p.reference()
	case strings.HasPrefix(rest, `"`), strings.HasPrefix(rest, `'`):
		return p.quoted()
	}
	p.fail(p.at, `text stands in quotes, variables in ${{ }}`, "want a value, found %s", p.found())
	return ""
}

func (p *condition) reference() string {
	ref, bad, _ := nextReference(p.text.Value, p.at)
	if bad != nil {
		p.fail(bad.offset, "", "%s", bad.text)
		return ""
	}
	p.at = ref.end
	value, ok := p.expander.value(ref.name, p.in, p.text, ref.start)
	p.failed = p.failed || !ok
	return value
}

func (p *condition) quoted() string {
	start, quote := p.at, p.text.Value[p.at]
	var b strings.Builder
	for p.at++; p.at < len(p.text.Value) && !p.failed; {
		c := p.text.Value[p.at]
		switch {
		case c == quote:
			p.at++
			return b.String()
		case strings.HasPrefix(p.text.Value[p.at:], "${{"):
			b.WriteString(p.reference())
		case c == '\\' && p.at+1 < len(p.text.Value):
			b.WriteString(unescape(p.text.Value[p.at+1]))
			p.at += 2
		default:
			b.WriteByte(c)
			p.at++
		}
	}
	p.fail(start, "", "a text without its closing %c", quote)
	return ""
}

func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 't':
		return "\t"
	case '\\', '\'', '"':
		return string(c)
	}
	return `\` + string(c)
}
