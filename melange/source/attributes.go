package source

import (
	"bytes"
	"path"
	"regexp"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A work tree is not always what is in a commit: .gitattributes may ask for lines that end in CR and LF, as batch files
// have them on every machine, and for the name of a file's content in its text. Files are written as git on Linux writes
// them. What else attributes ask for needs programs that git was told of (filter=lfs leaves the pointers to large files as
// they are, as it does for a git without git-lfs), or concerns "git archive" (export-subst), or is not done: work trees in
// other encodings (working-tree-encoding) stay in UTF-8.

// attributeRule is a line of a .gitattributes file.
type attributeRule struct {
	pattern *regexp.Regexp
	base    bool // the pattern is for the last element of a path, not for the path below the file's folder
	set     []attributeValue
}

type attributeValue struct{ name, value string }

// The values of attributes that have no other.
const (
	attributeSet         = "set"
	attributeUnset       = "unset"
	attributeUnspecified = ""
)

// parseAttributes reads a .gitattributes file. As git does it passes over lines that make no sense.
func parseAttributes(data []byte) []attributeRule {
	macros := map[string][]attributeValue{"binary": {{"diff", attributeUnset}, {"merge", attributeUnset}, {"text", attributeUnset}}}
	var rules []attributeRule
	for line := range strings.Lines(string(data)) {
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		pattern, rest, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		if strings.HasPrefix(line, `"`) {
			var ok bool
			if pattern, rest, ok = strings.Cut(line[1:], `"`); !ok {
				continue
			}
		}
		values := attributeValues(strings.Fields(rest), macros)
		if name, ok := strings.CutPrefix(pattern, "[attr]"); ok {
			macros[name] = values
			continue
		}
		if pattern == "" || pattern[0] == '#' || pattern[0] == '!' || len(values) == 0 {
			continue
		}
		r := attributeRule{base: !strings.Contains(pattern, "/"), set: values}
		var err error
		if r.pattern, err = regexp.Compile(globPattern(strings.TrimPrefix(pattern, "/"))); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

func attributeValues(words []string, macros map[string][]attributeValue) []attributeValue {
	var values []attributeValue
	for _, w := range words {
		v := attributeValue{w, attributeSet}
		if name, value, ok := strings.Cut(w, "="); ok {
			v = attributeValue{name, value}
		} else if w[0] == '-' {
			v = attributeValue{w[1:], attributeUnset}
		} else if w[0] == '!' {
			v = attributeValue{w[1:], attributeUnspecified}
		}
		values = append(values, v)
		if v.value == attributeSet {
			values = append(values, macros[v.name]...)
		}
	}
	return values
}

// globPattern is a pattern of git as a regular expression: * and ? stop at a slash, ** does not.
func globPattern(glob string) string {
	var b strings.Builder
	b.WriteString("^")
	for i := 0; i < len(glob); i++ {
		rest := glob[i:]
		switch {
		case strings.HasPrefix(rest, "**/") && (i == 0 || glob[i-1] == '/'):
			b.WriteString("(?:.*/)?")
			i += 2
		case rest == "**" && i > 0 && glob[i-1] == '/':
			b.WriteString(".*")
			i++
		case rest[0] == '*':
			b.WriteString("[^/]*")
		case rest[0] == '?':
			b.WriteString("[^/]")
		case rest[0] == '[' && strings.IndexByte(rest[1:], ']') > 0:
			end := strings.IndexByte(rest[2:], ']') + 2
			class := rest[1:end]
			if class[0] == '!' {
				class = "^" + class[1:]
			}
			b.WriteString("[" + strings.ReplaceAll(class, `[`, `\[`) + "]")
			i += end
		case rest[0] == '\\' && len(rest) > 1:
			b.WriteString(regexp.QuoteMeta(rest[1:2]))
			i++
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
		}
	}
	return `(?s)` + b.String() + "$"
}

// readAttributes notes the rules of a folder.
func (c *checkout) readAttributes(dir string, entries []object.TreeEntry) error {
	for _, e := range entries {
		if e.Name != ".gitattributes" || !e.Mode.IsFile() || e.Mode == filemode.Symlink {
			continue
		}
		data, err := c.repo.read(plumbing.BlobObject, e.Hash)
		if err != nil {
			return err
		}
		if c.attributes == nil {
			c.attributes = map[string][]attributeRule{}
		}
		c.attributes[dir] = parseAttributes(data)
	}
	return nil
}

// attributesOf are those of a path: of the rules that are about it the last counts, and of folders the nearest.
func (c *checkout) attributesOf(name string) map[string]string {
	if len(c.attributes) == 0 {
		return nil
	}
	values := map[string]string{}
	for at := 0; ; { // where the path below a folder begins
		for _, r := range c.attributes[strings.TrimSuffix(name[:at], "/")] {
			if r.base && r.pattern.MatchString(path.Base(name)) || !r.base && r.pattern.MatchString(name[at:]) {
				for _, v := range r.set {
					values[v.name] = v.value
				}
			}
		}
		n := strings.IndexByte(name[at:], '/')
		if n < 0 {
			return values
		}
		at += n + 1
	}
}

// inWorkTree is a file's content as it is in a work tree.
func (c *checkout) inWorkTree(name string, mode filemode.FileMode, data []byte) []byte {
	if mode == filemode.Symlink {
		return data
	}
	a := c.attributesOf(name)
	if a["ident"] == attributeSet {
		data = expandIdent(data)
	}
	if wanted, guess := wantsCRLF(a); wanted {
		return withCRLF(data, guess)
	}
	return data
}

// inCommit is the way back: a file of a work tree as a commit has it.
func (c *checkout) inCommit(name string, mode filemode.FileMode, data []byte) []byte {
	if mode == filemode.Symlink {
		return data
	}
	a := c.attributesOf(name)
	if wanted, guess := wantsCRLF(a); wanted && !(guess && looksBinary(data)) {
		data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	}
	if a["ident"] == attributeSet {
		data = ident.ReplaceAll(data, []byte("$$Id$$"))
	}
	return data
}

// wantsCRLF says whether attributes ask for lines that end in CR and LF, if the file looks like text.
func wantsCRLF(a map[string]string) (wanted, guess bool) {
	text := a["text"]
	if text == attributeUnspecified {
		text = a["crlf"] // as it was called before
	}
	return a["eol"] == "crlf" && text != attributeUnset && text != "input", text == "auto"
}

// withCRLF ends lines in CR and LF. guess says that this is only done to what is text by the look of it, and has no such
// line yet.
func withCRLF(data []byte, guess bool) []byte {
	crlf := bytes.Count(data, []byte("\r\n"))
	if crlf == bytes.Count(data, []byte("\n")) || guess && (crlf > 0 || looksBinary(data)) {
		return data
	}
	out := make([]byte, 0, len(data)+bytes.Count(data, []byte("\n")))
	for i, b := range data {
		if b == '\n' && (i == 0 || data[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	return out
}

// looksBinary is git's guess: a zero byte, a CR that ends no line, or more than one in 128 bytes that is not printed.
func looksBinary(data []byte) bool {
	printed, not := 0, 0
	for i, b := range data {
		switch {
		case b == 0, b == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			return true
		case b == '\r' || b == '\n':
		case b == '\b' || b == '\t' || b == '\f' || b == 033:
			printed++
		case b == 127 || b < 32:
			not++
		default:
			printed++
		}
	}
	if len(data) > 0 && data[len(data)-1] == 032 { // the end of a file for DOS
		not--
	}
	return printed>>7 < not
}

// expandIdent puts the name of the content, which is that of the blob, where it says $Id$.
func expandIdent(data []byte) []byte {
	name := plumbing.ComputeHash(plumbing.BlobObject, data).String()
	return ident.ReplaceAll(data, []byte("$$Id: "+name+" $$"))
}

// ident is $Id$, or what git made of it. What has more words is of another program.
var ident = regexp.MustCompile(`\$Id(:[^$\n]?[^$\n ]*[^$\n]?)?\$`)
