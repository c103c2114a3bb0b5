package lockfile

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// YarnPackage is a package of a yarn.lock.
type YarnPackage struct {
	Name, Version string // the name is that in the registry, or the address where nothing says it
	Resolved      string // its address; empty when the lock file was written where yarn has a mirror of files
	File          string // what yarn calls it in such a mirror
	Algorithm     string // of the digest: "sha512", "sha256" or "sha1"
	Digest        []byte
	Pos           document.Pos
}

// Yarn reads a yarn.lock of yarn 1. What is in folders is left out. It does not say on which machines a package is of use:
// yarn fetches all of them. strict says that it must be one of yarn 1; else one of a later yarn, which is another format
// and another program's, has an empty answer.
//
// The format looks like YAML and is not: yarn's src/lockfile/parse.js is what describes it.
func Yarn(file string, data []byte, strict bool) ([]YarnPackage, error) {
	p := &yarnParser{files: map[string]YarnPackage{}}
	entries, err := yarnEntries(file, data)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.patterns[0] == "__metadata" {
			if !strict {
				return nil, nil
			}
			return nil, &document.Error{Pos: e.pos, Text: "it is of yarn 2 or later, and only those of yarn 1 are read"}
		}
		p.add(e)
	}
	return p.packages, p.errs.Err()
}

// A yarnEntry is what yarn.lock says of a package, by what asked for it: NAME@RANGE.
type yarnEntry struct {
	patterns []string
	fields   map[string]string
	pos      document.Pos
}

// yarnEntries reads the lines: patterns, below them fields, and below those what is of no interest here.
func yarnEntries(file string, data []byte) ([]yarnEntry, error) {
	var entries []yarnEntry
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		text := strings.TrimLeft(line, " ")
		indent := len(line) - len(text)
		if text == "" || text[0] == '#' {
			continue
		}
		pos := document.Pos{File: file, Line: n, Col: indent + 1}
		words, err := yarnWords(text)
		switch {
		case err != nil:
		case indent == 0:
			if words[len(words)-1] != ":" || len(words) < 2 {
				err = errors.New("want NAME@RANGE and a colon")
				break
			}
			entries = append(entries, yarnEntry{words[:len(words)-1], map[string]string{}, pos})
		case len(entries) == 0:
			err = errors.New("want NAME@RANGE, at the beginning of a line")
		case indent == 2 && len(words) != 2:
			err = errors.New("want a name and what it is")
		case indent == 2 && words[1] != ":":
			entries[len(entries)-1].fields[words[0]] = words[1]
		}
		if err != nil {
			return nil, &document.Error{Pos: pos, Text: "no lock file of yarn: " + err.Error()}
		}
	}
	return entries, nil
}

// yarnWords takes a line apart, of which there is something. A colon at its end is a word of its own.
func yarnWords(text string) ([]string, error) {
	var words []string
	for text = strings.TrimRight(text, " "); text != ""; text = strings.TrimLeft(text, " ,") {
		if text == ":" {
			return append(words, text), nil
		}
		end := strings.IndexAny(text, " ,")
		if text[0] == '"' {
			m := yarnQuoted.FindString(text)
			var word string
			if m == "" || json.Unmarshal([]byte(m), &word) != nil || word == "" {
				return nil, fmt.Errorf("%s is no text in quotes", text)
			}
			words, text = append(words, word), text[len(m):]
			continue
		}
		if end < 0 {
			if end = len(text); text[end-1] == ':' {
				end--
			}
		}
		if end == 0 || strings.HasPrefix(text, "<<<<<<<") {
			return nil, fmt.Errorf("%s was not expected here", text)
		}
		words, text = append(words, text[:end]), text[end:]
	}
	return words, nil
}

var yarnQuoted = regexp.MustCompile(`^"(?:[^"\\]|\\.)*"`)

type yarnParser struct {
	files    map[string]YarnPackage // of the mirror
	packages []YarnPackage
	errs     document.ErrorList
}

var (
	yarnFolder = regexp.MustCompile(`@(file|link|portal|workspace):`)
	yarnCommit = regexp.MustCompile(`^git(\+[a-z0-9]+)?:|\.git$`)
	yarnPath   = regexp.MustCompile(`^(https?://[^/?#\\]+/)?([A-Za-z0-9@%._~+/-]+)$`)
	yarnFile   = regexp.MustCompile(`/(?:(@[^/]+)(?:/|%2f))?[^/]+/(?:-|_attachments)/(?:@[^/]+/)?([^/]+)$`) // as yarn has it
)

func (p *yarnParser) add(e yarnEntry) {
	name := yarnName(e.patterns[0])
	resolved, hash, _ := strings.Cut(e.fields["resolved"], "#")
	hash, _, _ = strings.Cut(hash, "#")
	address, _, _ := strings.Cut(resolved, "?")
	k := YarnPackage{Name: name, Version: e.fields["version"], Pos: e.pos}
	m := yarnPath.FindStringSubmatch(address)
	switch {
	case strings.HasPrefix(resolved, "file:") || resolved == "" && yarnFolder.MatchString(e.patterns[0]):
		return // of the sources
	case resolved == "":
		p.errs.Add(e.pos, "yarn install writes it", "%s has no address, and yarn would ask a registry for one", name)
		return
	case yarnCommit.MatchString(address):
		p.errs.Add(e.pos, "publish it to a registry, or let the step have the network", "%s is a git commit, which yarn takes from nowhere but git", name)
		return
	case m == nil:
		p.errs.Add(e.pos, "", "%s has the address %q", name, resolved)
		return
	case m[1] == "" && !isNPMName(name):
		p.errs.Add(e.pos, "", "%q is no name of a package", name)
		return
	case m[1] == "" && !isNPMVersion(k.Version):
		p.errs.Add(e.pos, "", "%s has the version %q", name, k.Version)
		return
	case m[1] != "":
		k.Resolved = resolved
	}
	if k.File = mirrorName("/" + m[2]); dotted(k.File) {
		p.errs.Add(e.pos, "", "%s has the address %q, which names no file", name, resolved)
		return
	}
	if k.Algorithm, k.Digest = strongest(e.fields["integrity"]); e.fields["integrity"] == "" && isHex(hash, 20) {
		k.Algorithm = "sha1"
		k.Digest, _ = hex.DecodeString(hash)
	}
	if k.Algorithm == "" {
		p.errs.Add(e.pos, "yarn install writes it", "%s has no digest: want an integrity of sha512-, sha256- or sha1- in base64, or # and the SHA-1 behind its address", name)
		return
	}
	if other, ok := p.files[k.File]; !ok {
		p.files[k.File] = k
		p.packages = append(p.packages, k)
	} else if other.Algorithm != k.Algorithm || !slices.Equal(other.Digest, k.Digest) {
		p.errs.Add(e.pos, "", "yarn finds %s by the same name of a file, %s, as %s of line %d", name, k.File, other.Name, other.Pos.Line)
	}
}

// yarnName is the name of the package that a pattern asks for.
func yarnName(pattern string) string {
	cut := func(s string) (string, string) {
		if i := strings.IndexByte(s[min(1, len(s)):], '@'); i >= 0 {
			return s[:i+1], s[i+2:]
		}
		return s, ""
	}
	name, wanted := cut(pattern)
	if alias, ok := strings.CutPrefix(wanted, "npm:"); ok {
		name, _ = cut(alias)
	}
	return name
}

// mirrorName is how yarn calls the file of a path in a mirror.
func mirrorName(path string) string {
	m := yarnFile.FindStringSubmatch(path)
	switch {
	case m == nil:
		return path[strings.LastIndexByte(path, '/')+1:]
	case m[1] != "":
		return m[1] + "-" + m[2]
	}
	return m[2]
}
