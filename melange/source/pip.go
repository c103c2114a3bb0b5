package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/html"

	"distro.internal/melange/recipe"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/document"
)

// A requirements file with hashes names each file that pip may install, but not where it is nor what it is called. An
// index does: the one of the file, or that which pip is configured for on this machine. Of the files that have one of
// the hashes, those are fetched that can be installed on a Linux of the architecture: wheels, for any version of Python,
// and archives of sources. pip then finds them in a folder, in place of any index, and picks among them as it always does.
//
// A requirement may also be an address. pip asks for that and for nothing else, so in the workspace the address becomes
// that of the file.
//
// What an index said of a requirement is remembered, so that nothing is asked again for what is in the store.

// wheelFolder is where the files are, in the folder of caches.
const wheelFolder = "wheels"

// A requirement is a line of a requirements file.
type requirement struct {
	name, version string // as written; version is empty with an address
	address       string
	hashes        []string // "sha256:HEX", sorted
	indexes       []string // that are asked, when the file says so
	pos           document.Pos
}

func (r requirement) String() string {
	if r.address != "" {
		return cmp.Or(r.name, redacted(r.address))
	}
	return r.name + "==" + r.version
}

func (s *Store) placePip(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := locate(src, workspace, "requirements.txt")
	if err != nil || file == "" {
		return err
	}
	list, err := readRequirements(file, !src.Found, func(name string) ([]byte, error) { return readLock(workspace, name) })
	if err != nil || len(list) == 0 {
		return err
	}
	var files []locked
	var names []string
	var owners []requirement
	for _, r := range list {
		found, err := s.distributions(ctx, r, string(src.Arch))
		if err != nil {
			return fmt.Errorf("%s: finding %s: %w", r.pos, r, err)
		}
		for _, d := range found {
			files = append(files, locked{what: d.File, pos: r.pos, want: d.want()})
			names, owners = append(names, d.File), append(owners, r)
		}
	}
	stored, err := s.lockedFiles(ctx, files, func(context.Context, locked) ([]string, error) { return nil, nil })
	if err != nil || l.Caches == "" {
		return err
	}
	for i, name := range names {
		if _, err := placeAs(l, wheelFolder+"/"+name, stored[i]); err != nil {
			return err
		}
	}
	for i, r := range owners {
		if r.address != "" {
			if err := readdress(workspace, r, names[i]); err != nil {
				return err
			}
		}
	}
	for _, client := range []string{"PIP", "UV"} {
		l.set(client+"_NO_INDEX", "1")
		l.set(client+"_FIND_LINKS", recipe.CacheDir+"/"+wheelFolder)
	}
	return nil
}

// readdress has a requirements file name the file that was fetched in place of its address.
func readdress(workspace *os.Root, r requirement, file string) error {
	data, err := workspace.ReadFile(r.pos.File)
	if err != nil {
		return err
	}
	info, err := workspace.Stat(r.pos.File)
	if err != nil {
		return err
	}
	here := (&url.URL{Scheme: "file", Path: path.Join(recipe.CacheDir, wheelFolder, file)}).String()
	data = bytes.ReplaceAll(data, []byte(r.address), []byte(here))
	if err := workspace.WriteFile(r.pos.File, data, info.Mode().Perm()); err != nil {
		return fmt.Errorf("writing %s: %w", r.pos.File, err)
	}
	return workspace.Chtimes(r.pos.File, info.ModTime(), info.ModTime())
}

// A distribution is a file that an index has.
type distribution struct {
	File, URL, Hash string
}

func (d distribution) want() Want {
	if algorithm, sum, _ := strings.Cut(d.Hash, ":"); algorithm == "sha512" {
		return Want{SHA512: sum, URI: d.URL}
	} else {
		return Want{SHA256: sum, URI: d.URL}
	}
}

// distributions are the files to have for a requirement.
func (s *Store) distributions(ctx context.Context, r requirement, arch string) ([]distribution, error) {
	if r.address != "" {
		u, err := url.Parse(r.address)
		if err != nil {
			return nil, err
		}
		u.Fragment = ""
		return []distribution{{path.Base(u.Path), u.String(), r.hashes[0]}}, nil
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{normalName(r.name), r.version, arch}, r.hashes...), "\n")))
	memory := filepath.Join(s.Dir, "pip", hex.EncodeToString(sum[:]))
	var found []distribution
	if data, err := os.ReadFile(memory); err == nil && json.Unmarshal(data, &found) == nil {
		return found, nil
	}
	if s.Offline {
		return nil, errOffline
	}
	indexes := r.indexes
	if len(indexes) == 0 {
		var err error
		if indexes, err = s.pipIndexes(ctx); err != nil {
			return nil, err
		}
	}
	var failures []error
	for _, index := range indexes {
		all, err := s.askIndex(ctx, index, normalName(r.name))
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, d := range all {
			if slices.Contains(r.hashes, d.Hash) && installable(d.File, arch) {
				found = append(found, d)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(append(failures, fmt.Errorf("no index has a file for %s with one of the hashes", arch))...)
	}
	slices.SortFunc(found, func(a, b distribution) int { return cmp.Compare(a.File, b.File) })
	found = slices.CompactFunc(found, func(a, b distribution) bool { return a.File == b.File })
	data, err := json.Marshal(found)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(memory), 0o755); err != nil {
		return nil, err
	}
	return found, atomicfile.Write(memory, 0o644, atomicfile.Bytes(data))
}

var runs = regexp.MustCompile(`[-_.]+`)

// normalName is a name as indexes have it.
func normalName(name string) string { return strings.ToLower(runs.ReplaceAllString(name, "-")) }

// pythonMachines are the ends of platform tags, where they are not apk's name of the architecture.
var pythonMachines = map[string]string{"armv7": "armv7l", "armhf": "armv6l", "x86": "i686"}

// installable says whether a file is of use on a Linux of an architecture, as far as its name tells.
func installable(file string, arch string) bool {
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

// pipIndexes are the indexes that pip is configured for on this machine.
func (s *Store) pipIndexes(ctx context.Context) ([]string, error) {
	if index := cmp.Or(s.variable("PIP_INDEX_URL"), s.variable("UV_DEFAULT_INDEX")); index != "" {
		return append([]string{index}, strings.Fields(s.variable("PIP_EXTRA_INDEX_URL"))...), nil
	}
	s.pip.once.Do(func() { s.pip.indexes, s.pip.err = s.askPip(ctx) })
	if len(s.pip.indexes) == 0 && s.pip.err == nil {
		return nil, errors.New("no index is known: set PIP_INDEX_URL, or begin the file with --index-url, or install pip, which knows one")
	}
	return s.pip.indexes, s.pip.err
}

// pipAnswer is what pip said, once.
type pipAnswer struct {
	once    sync.Once
	indexes []string
	err     error
}

// defaultIndexOf is where pip's help tells of the index that it asks when nothing is configured.
var defaultIndexOf = regexp.MustCompile(`--index-url\s+<url>[^(]*\(default\s+(https?://[^\s)]+)\)`)

func (s *Store) askPip(ctx context.Context) ([]string, error) {
	var indexes []string
	configured, err := s.program(ctx, "python3", "-m", "pip", "config", "list")
	if err != nil {
		return nil, nil // a Python without pip
	}
	for line := range strings.Lines(configured) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `'"`)
		switch {
		case strings.HasSuffix(name, ".index-url"):
			indexes = append([]string{value}, indexes...)
		case strings.HasSuffix(name, ".extra-index-url"):
			indexes = append(indexes, strings.Fields(strings.ReplaceAll(value, `\n`, " "))...)
		}
	}
	if strings.Contains(configured, ".index-url=") {
		return indexes, nil
	}
	help, err := s.program(ctx, "python3", "-m", "pip", "install", "--help")
	if m := defaultIndexOf.FindStringSubmatch(help); m != nil {
		indexes = append([]string{m[1]}, indexes...)
	}
	return indexes, err
}

// indexTypes are the forms of an index's answer, the one that needs no guessing first.
const indexTypes = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

// askIndex asks an index for all files of a project.
func (s *Store) askIndex(ctx context.Context, index, name string) ([]distribution, error) {
	address := strings.TrimSuffix(index, "/") + "/" + name + "/"
	data, kind, err := s.ask(ctx, address, indexTypes)
	if err != nil {
		return nil, fmt.Errorf("asking index %s: %w", redacted(index), err)
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(kind)
	var list []distribution
	if strings.HasSuffix(media, "json") {
		list, err = parseIndexJSON(data)
	} else {
		list, err = parseIndexHTML(data)
	}
	if err != nil {
		return nil, fmt.Errorf("asking index %s: %w", redacted(index), err)
	}
	return slices.DeleteFunc(list, func(d distribution) bool { return d.File == "" || d.File != path.Base(d.File) || dotted(d.File) }), resolve(base, list)
}

// resolve makes addresses that are relative to the index whole.
func resolve(base *url.URL, list []distribution) error {
	for i := range list {
		u, err := base.Parse(list[i].URL)
		if err != nil {
			return err
		}
		u.Fragment = ""
		list[i].URL = u.String()
	}
	return nil
}

func parseIndexJSON(data []byte) ([]distribution, error) {
	var project struct {
		Files []struct {
			Filename, URL string
			Hashes        map[string]string
		}
	}
	if err := json.Unmarshal(data, &project); err != nil {
		return nil, err
	}
	var list []distribution
	for _, f := range project.Files {
		for _, algorithm := range []string{"sha256", "sha512"} {
			if sum := f.Hashes[algorithm]; sum != "" {
				list = append(list, distribution{f.Filename, f.URL, algorithm + ":" + strings.ToLower(sum)})
			}
		}
	}
	return list, nil
}

// parseIndexHTML reads the older form: links, with the hash of what they lead to behind a #.
func parseIndexHTML(data []byte) ([]distribution, error) {
	var list []distribution
	for z := html.NewTokenizer(bytes.NewReader(data)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return list, nil
		case html.StartTagToken:
			t := z.Token()
			if t.Data != "a" {
				continue
			}
			for _, a := range t.Attr {
				if u, err := url.Parse(a.Val); a.Key == "href" && err == nil {
					list = append(list, distribution{path.Base(u.Path), a.Val, strings.ToLower(strings.Replace(u.Fragment, "=", ":", 1))})
				}
			}
		}
	}
}

// readRequirements reads a requirements file and those that it includes. strict says that it must be a lock file: each
// requirement has hashes. Else a file without any is one that pip asks an index for, and the answer is empty.
func readRequirements(file string, strict bool, read func(name string) ([]byte, error)) ([]requirement, error) {
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
		if len(r.hashes) == 0 {
			p.errs.Add(r.pos, "pip-compile --generate-hashes and uv export write them", "%s has no --hash=sha256:...", r)
		}
	}
	for i := range p.list {
		p.list[i].indexes = p.indexes
	}
	return p.list, p.errs.Err()
}

type pipParser struct {
	read    func(name string) ([]byte, error)
	seen    map[string]bool // files
	indexes []string
	list    []requirement
	hashed  bool // somebody means it
	errs    document.ErrorList
}

func (p *pipParser) file(name string) error {
	if p.seen[name] {
		return nil
	}
	p.seen[name] = true
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
	addressed  = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)?\s*(?:\[[^\]]*\])?\s*@?\s*((?:https?|file)://\S+)`)
)

func (p *pipParser) requirement(text string, pos document.Pos) {
	r := requirement{pos: pos}
	for _, m := range hashOption.FindAllStringSubmatch(" "+text, -1) {
		p.hash(&r, m[1])
	}
	if m := addressed.FindStringSubmatch(text); m != nil {
		r.name, r.address = m[1], m[2]
		if _, sum, ok := strings.Cut(r.address, "#sha256="); ok && len(r.hashes) == 0 {
			sum, _, _ = strings.Cut(sum, "&")
			p.hash(&r, "sha256:"+sum)
		}
	} else if m := pinned.FindStringSubmatch(text); m != nil && !strings.Contains(m[2], "*") {
		r.name, r.version = m[1], m[2]
	} else if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") {
		return // of the sources
	} else {
		r.name, _, _ = strings.Cut(text, " --hash")
		if len(r.hashes) > 0 {
			p.errs.Add(pos, "write it as name==version", "%q names no version", strings.TrimSpace(r.name))
		}
	}
	slices.Sort(r.hashes)
	p.list = append(p.list, r)
}

func (p *pipParser) hash(r *requirement, text string) {
	p.hashed = true
	text = strings.ToLower(text)
	algorithm, sum, _ := strings.Cut(text, ":")
	if size := map[string]int{"sha256": 32, "sha512": 64}[algorithm]; size == 0 || !isHex(sum, size) {
		p.errs.Add(r.pos, "", "%q is no hash: want sha256: or sha512: and hexadecimal digits", text)
		return
	}
	r.hashes = append(r.hashes, text)
}
