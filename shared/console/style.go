package console

import (
	"io"
	"os"
)

// A Style makes words stand out, on a terminal.
type Style struct{ colors bool }

// StyleOf is how words on a stream can stand out. plain is for people who want none of it.
func StyleOf(out io.Writer, plain bool) Style {
	f, ok := out.(*os.File)
	return Style{colors: ok && !plain && IsTerminal(f)}
}

// Bad is for what went wrong.
func (s Style) Bad(text string) string { return s.wrap("1;31", text) }

// Faint is for what only frames the rest.
func (s Style) Faint(text string) string { return s.wrap("2", text) }

func (s Style) wrap(code, text string) string {
	if !s.colors {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
