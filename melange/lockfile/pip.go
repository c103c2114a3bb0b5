package lockfile

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// A Requirement is a line of a requirements file.
type Requirement struct {
	Name, Version string   // as written; the version is empty with an address
	Address       string   // of the file, where the line has one
	Hashes        []string // of files that may be taken: "sha256:HEX", sorted
	Indexes       []string // that are asked, when the file says so
	Pos           document.Pos
}

func (r Requirement) String() string {
	if r.Address != "" {
		return cmp.Or(r.Name, path.Base(r.Address))
	}
	return r.Name + "==" + r.Version
}

// Requirements reads a requirements file and those that it includes. strict says that it must be a lock file: each
// requirement has hashes. Else a file without any is one that pip asks an index for, and the answer is empty.
func Requirements(file string, strict bool, read func(name string) ([]byte, error)) ([]Requirement, error) {
	p := &pipParser{read: read, seen: map[string]bool{}}
	if err := p.file(file); err != nil {
		return nil, err
	}
	if !p.hashed && !strict {
		return nil, nil
	}
	if err := p.errs.Err(); err != nil {
		return nil, err
	}
	for _, r := range p.list {
		if len(r.Hashes) == 0 {
			p.errs.Add(r.Pos, "pip-compile --generate-hashes and uv export write them", "%s has no --hash=sha256:...", r)
		}
	}
	for i := range p.list {
		p.list[i].Indexes = p.indexes
	}
	return p.list, p.errs.Err()
}

type pipParser struct {
	read    func(name string) ([]byte, error)
	seen    map[string]bool // files
	indexes []string
	list    []Requirement
	hashed  bool // somebody means it
	errs    document.ErrorList
}

func (p *pipParser) file(name string) error {
	if p.seen[name] {
		return nil
	}
	if p.seen[name] = true; len(p.seen) > maxRequirementFiles {
		return &document.Error{Pos: document.Pos{File: name, Line: 1, Col: 1}, Text: "requirements include each other without end"}
	}
	data, err := p.read(name)
	if err != nil {
		return err
	}
	for _, l := range logicalLines(data) {
		pos := document.Pos{File: name, Line: l.number, Col: 1}
		if strings.HasPrefix(l.text, "-") {
			if err := p.option(name, l.text, pos); err != nil {
				return err
			}
			continue
		}
		p.requirement(l.text, pos)
	}
	return nil
}

// maxRequirementFiles is more than anybody has. A link to its own folder makes ever more names of one file.
const maxRequirementFiles = 100

type logicalLine struct {
	text   string
	number int
}

var comment = regexp.MustCompile(`(^|\s)#.*$`)

// logicalLines joins lines that end in a backslash, and drops comments and what is empty.
func logicalLines(data []byte) []logicalLine {
	var lines []logicalLine
	var open logicalLine
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if open.text == "" {
			open.number = n
		}
		if rest, ok := strings.CutSuffix(line, `\`); ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			open.text += rest + " "
			continue
		}
		open.text = strings.TrimSpace(comment.ReplaceAllString(open.text+line, ""))
		if open.text != "" {
			lines = append(lines, open)
		}
		open = logicalLine{}
	}
	if open.text = strings.TrimSpace(open.text); open.text != "" {
		lines = append(lines, open)
	}
	return lines
}

// option reads a line that is an option: other files and indexes count.
func (p *pipParser) option(file, text string, pos document.Pos) error {
	name, value, _ := strings.Cut(strings.Replace(text, "=", " ", 1), " ")
	value = strings.TrimSpace(value)
	if len(name) > 2 && name[1] != '-' {
		name, value = name[:2], name[2:]
	}
	switch name {
	case "-r", "--requirement":
		return p.file(path.Join(path.Dir(file), value))
	case "-i", "--index-url":
		p.indexes = append([]string{value}, p.indexes...)
	case "--extra-index-url":
		p.indexes = append(p.indexes, value)
	case "-e", "--editable":
		if !strings.HasPrefix(value, ".") {
			p.errs.Add(pos, "", "%s cannot be verified", text)
		}
	}
	return nil
}

var (
	hashOption = regexp.MustCompile(`\s--hash[= ](\S+)`)
	pinned     = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*([^\s;,]+)`)
	addressed  = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)?\s*(?:\[[^\]]*\])?\s*@?\s*(https?://\S+)`)
)

func (p *pipParser) requirement(text string, pos document.Pos) {
	r := Requirement{Pos: pos}
	for _, m := range hashOption.FindAllStringSubmatch(" "+text, -1) {
		p.hash(&r, m[1])
	}
	if m := addressed.FindStringSubmatch(text); m != nil {
		r.Name, r.Address = m[1], m[2]
		if _, sum, ok := strings.Cut(r.Address, "#sha256="); ok && len(r.Hashes) == 0 {
			sum, _, _ = strings.Cut(sum, "&")
			p.hash(&r, "sha256:"+sum)
		}
	} else if m := pinned.FindStringSubmatch(text); m != nil && !strings.Contains(m[2], "*") {
		r.Name, r.Version = m[1], m[2]
	} else if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") || strings.Contains(text, "file:") {
		return // of the sources
	} else {
		r.Name, _, _ = strings.Cut(text, " --hash")
		if len(r.Hashes) > 0 {
			p.errs.Add(pos, "write it as name==version", "%q names no version", strings.TrimSpace(r.Name))
		}
	}
	slices.Sort(r.Hashes)
	p.list = append(p.list, r)
}

func (p *pipParser) hash(r *Requirement, text string) {
	p.hashed = true
	text = strings.ToLower(text)
	algorithm, sum, _ := strings.Cut(text, ":")
	if size := map[string]int{"sha256": 32, "sha512": 64}[algorithm]; size == 0 || !isHex(sum, size) {
		p.errs.Add(r.Pos, "", "%q is no hash: want sha256: or sha512: and hexadecimal digits", text)
		return
	}
	r.Hashes = append(r.Hashes, text)
}

// pythonMachines are the ends of platform tags, where they are not apk's name of the architecture.
var pythonMachines = map[string]string{"armv7": "armv7l", "armhf": "armv6l", "x86": "i686"}

// Installable says whether a file is of use on a Linux of an architecture, as far as its name tells.
func Installable(file string, arch string) bool {
	name, ok := strings.CutSuffix(file, ".whl")
	if !ok {
		return true
	}
	platforms := name[strings.LastIndexByte(name, '-')+1:]
	machine := cmp.Or(pythonMachines[arch], arch)
	return slices.ContainsFunc(strings.Split(platforms, "."), func(p string) bool {
		return p == "any" || strings.Contains(p, "linux") && strings.HasSuffix(p, "_"+machine)
	})
}
