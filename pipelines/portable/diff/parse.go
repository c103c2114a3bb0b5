// Package diff reads unified diffs, plain ones and those of git, and applies their hunks to texts, as patch of GNU does.
//
// It refuses to know where files lie: a [File] names what it changes, and [Apply] gets and gives contents.
package diff

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// File is what a patch does to one file.
type File struct {
	Line     int    // in the patch, where it begins
	Old, New string // the names as written; empty for /dev/null, and when there is none
	Git      bool   // it has git's headers

	OldMode, NewMode uint32 // as git has them, like 0o100644; 0 when not said
	Created, Deleted bool   // the file was not there before, is not there after
	Renamed, Copied  bool   // from Old to New, which then have no a/ and b/ before them
	Binary           bool   // what changes is not text

	Hunks []Hunk
}

// Hunk is a change to some lines. Numbers of lines begin with 1.
type Hunk struct {
	Line             int // in the patch
	OldStart, OldLen int
	NewStart, NewLen int
	Lines            []Line
}

// Line is one of the lines of a hunk.
type Line struct {
	Op   byte   // ' ', '-' or '+'
	Text string // with its newline, if it has one
}

// Error is a mistake in a patch.
type Error struct {
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Line, e.Text) }

// Parse reads a patch. What stands around the diffs, a letter for example, is left out.
func Parse(data []byte) ([]File, error) {
	p := &parser{}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n') + 1
		if end == 0 {
			end = len(data)
		}
		p.lines = append(p.lines, string(data[:end]))
		data = data[end:]
	}
	for p.at < len(p.lines) {
		if err := p.next(); err != nil {
			return nil, err
		}
	}
	return p.files, nil
}

type parser struct {
	lines  []string
	at     int
	file   *File // whose headers are being read; nil outside
	files  []File
	strips bool // lines end in CR LF, which is not the text's
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{p.at + 1, fmt.Sprintf(format, args...)}
}

// next reads a line outside of hunks, or all hunks of a file.
func (p *parser) next() error {
	line := p.lines[p.at]
	text := strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(text, "diff --git "):
		p.begin(true)
		p.strips = strings.HasSuffix(line, "\r\n")
		p.file.Old, p.file.New = gitNames(text[len("diff --git "):])
	case p.file != nil && p.file.Git && len(p.file.Hunks) == 0 && p.header(text):
	case strings.HasPrefix(text, "--- ") && p.at+1 < len(p.lines) && strings.HasPrefix(p.lines[p.at+1], "+++ "):
		if p.file == nil || !p.file.Git || len(p.file.Hunks) > 0 {
			p.begin(false)
		}
		p.strips = strings.HasSuffix(line, "\r\n")
		old, oldEpoch := headerName(text[4:])
		p.at++
		new, newEpoch := headerName(strings.TrimRight(p.lines[p.at][4:], "\r\n"))
		if !p.file.Renamed && !p.file.Copied {
			p.file.Old, p.file.New = old, new
			p.file.Created = p.file.Created || old == "" || oldEpoch
			p.file.Deleted = p.file.Deleted || new == "" || newEpoch
		}
	case p.file != nil && strings.HasPrefix(text, "@@ -"):
		return p.hunk(text)
	}
	p.at++
	return nil
}

func (p *parser) begin(git bool) {
	p.files = append(p.files, File{Line: p.at + 1, Git: git})
	p.file = &p.files[len(p.files)-1]
}

// header reads one of git's headers.
func (p *parser) header(text string) bool {
	f := p.file
	for prefix, read := range map[string]func(value string){
		"old mode ":          func(v string) { f.OldMode = mode(v) },
		"new mode ":          func(v string) { f.NewMode = mode(v) },
		"deleted file mode ": func(v string) { f.Deleted, f.OldMode = true, mode(v) },
		"new file mode ":     func(v string) { f.Created, f.NewMode = true, mode(v) },
		"rename from ":       func(v string) { f.Renamed, f.Old = true, name(v) },
		"rename to ":         func(v string) { f.Renamed, f.New = true, name(v) },
		"copy from ":         func(v string) { f.Copied, f.Old = true, name(v) },
		"copy to ":           func(v string) { f.Copied, f.New = true, name(v) },
		"GIT binary patch":   func(string) { f.Binary = true },
	} {
		if value, found := strings.CutPrefix(text, prefix); found {
			read(value)
			return true
		}
	}
	return false
}

func mode(text string) uint32 {
	bits, _ := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
	return uint32(bits)
}

// name is a name that git may have quoted as C does.
func name(text string) string {
	if !strings.HasPrefix(text, `"`) {
		return text
	}
	unquoted, err := strconv.Unquote(text)
	if err != nil {
		return text
	}
	return unquoted
}

// gitNames takes apart what follows diff --git: two names, of which nothing says where the first ends, except that they are
// mostly the same but for their first folder.
func gitNames(text string) (old, new string) {
	if strings.HasPrefix(text, `"`) {
		if end := strings.Index(text, `" `); end > 0 {
			return name(text[:end+1]), name(text[end+2:])
		}
	}
	for i := range len(text) {
		if text[i] == ' ' && afterSlash(text[:i]) == afterSlash(text[i+1:]) {
			return text[:i], text[i+1:]
		}
	}
	old, new, _ = strings.Cut(text, " ")
	return old, name(new)
}

func afterSlash(s string) string {
	_, rest, _ := strings.Cut(s, "/")
	return rest
}

// headerName is the name in a --- or +++ line, which a time may follow: the beginning of all times means that there is no
// such file.
func headerName(text string) (file string, epoch bool) {
	if strings.HasPrefix(text, `"`) {
		if end := strings.LastIndexByte(text, '"'); end > 0 {
			return name(text[:end+1]), false
		}
	}
	file, when, found := strings.Cut(text, "\t")
	if !found {
		file = strings.TrimRight(file, " ")
	}
	if file == "/dev/null" {
		return "", false
	}
	return file, isEpoch(when)
}

// isEpoch tells whether a time is the first second of 1970 UTC, whatever zone it is told in.
func isEpoch(when string) bool {
	fields := strings.Fields(when)
	if len(fields) != 3 {
		return false
	}
	clock, _, _ := strings.Cut(fields[1], ".")
	zone, err := strconv.Atoi(fields[2])
	if err != nil || len(clock) != len("00:00:00") {
		return false
	}
	hours, err1 := strconv.Atoi(clock[:2])
	minutes, err2 := strconv.Atoi(clock[3:5])
	seconds := (hours*60+minutes)*60 - (zone/100*60+zone%100)*60
	switch fields[0] {
	case "1970-01-01":
	case "1969-12-31":
		seconds -= 24 * 60 * 60
	default:
		return false
	}
	return err1 == nil && err2 == nil && seconds == 0 && clock[6:] == "00"
}

// maxMissing is how many empty lines at the end of a patch may have been lost on its way.
const maxMissing = 3

// hunk reads a hunk, and leaves the parser behind it.
func (p *parser) hunk(text string) error {
	h := Hunk{Line: p.at + 1}
	ranges, _, closed := strings.Cut(text[len("@@ -"):], " @@")
	old, new, found := strings.Cut(ranges, " +")
	var ok, ok2 bool
	h.OldStart, h.OldLen, ok = lineRange(old)
	h.NewStart, h.NewLen, ok2 = lineRange(new)
	if !closed || !found || !ok || !ok2 {
		return p.fail("a hunk begins with @@ -LINE,COUNT +LINE,COUNT @@, found %q", text)
	}
	p.at++
	for olds, news := h.OldLen, h.NewLen; olds > 0 || news > 0; p.at++ {
		line := "\n"
		if p.at < len(p.lines) {
			line = p.lines[p.at]
		} else if olds != news || olds >= maxMissing {
			return p.fail("the patch ends in the middle of a hunk that began in line %d", h.Line)
		}
		if p.strips && strings.HasSuffix(line, "\r\n") {
			line = line[:len(line)-2] + "\n"
		}
		l := Line{' ', line}
		switch line[0] {
		case ' ', '+', '-':
			l = Line{line[0], line[1:]}
		case '\n', '\t': // the space before it was lost on the way
		case '\\':
			if err := h.incomplete(p); err != nil {
				return err
			}
			continue
		default:
			return p.fail("a line of a hunk begins with a space, + or -, found %q", strings.TrimRight(line, "\n"))
		}
		if l.Op != '+' {
			olds--
		}
		if l.Op != '-' {
			news--
		}
		if olds < 0 || news < 0 {
			return p.fail("the hunk that began in line %d has more lines than it says", h.Line)
		}
		h.Lines = append(h.Lines, l)
	}
	if p.at < len(p.lines) && strings.HasPrefix(p.lines[p.at], `\`) {
		if err := h.incomplete(p); err != nil {
			return err
		}
		p.at++
	}
	p.at = min(p.at, len(p.lines))
	p.file.Hunks = append(p.file.Hunks, h)
	return nil
}

// incomplete takes the newline from the last line: "\ No newline at end of file".
func (h *Hunk) incomplete(p *parser) error {
	if len(h.Lines) == 0 {
		return p.fail("there is no line before this")
	}
	last := &h.Lines[len(h.Lines)-1]
	last.Text = strings.TrimSuffix(last.Text, "\n")
	return nil
}

// lineRange reads LINE,COUNT. The count is 1 when it is not said.
func lineRange(text string) (start, count int, ok bool) {
	first, second, found := strings.Cut(text, ",")
	start, err := strconv.Atoi(first)
	count = 1
	if found && err == nil {
		count, err = strconv.Atoi(second)
	}
	return start, count, err == nil && start >= 0 && count >= 0 && start < maxLine && count < maxLine
}

// maxLine is a line that no text has.
const maxLine = 1 << 30
