package lockfile

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// NPMPackage is a package of npm's lock file.
type NPMPackage struct {
	Name, Version string
	Resolved      string // its address; empty when the lock file has none
	Integrity     string // as it was written: words of ALGORITHM-BASE64
	Algorithm     string // of the digest that npm finds it by: "sha512", "sha256" or "sha1"
	Digest        []byte
	About         map[string]any // all that is said of it
	Pos           document.Pos
}

// NPM reads a package-lock.json or npm-shrinkwrap.json, of any version that npm still reads. Packages that are not
// fetched (folders, and what comes inside of others) are left out.
func NPM(file string, data []byte) ([]NPMPackage, error) {
	p := &npmParser{file: file, data: data, dec: json.NewDecoder(bytes.NewReader(data)), seen: map[string]bool{}}
	if err := p.document(); err != nil {
		return nil, err
	}
	return p.packages, p.errs.Err()
}

type npmParser struct {
	file     string
	data     []byte
	dec      *json.Decoder
	errs     document.ErrorList
	seen     map[string]bool // names, versions and digests
	packages []NPMPackage
}

// here is the place of the value that was just read, or of what is next.
func (p *npmParser) here() document.Pos {
	at := int(p.dec.InputOffset())
	if i := bytes.LastIndexByte(p.data[:at], '\n'); i >= 0 && at > 0 {
		line := p.data[i+1 : at]
		if trimmed := bytes.TrimLeft(line, " \t"); len(trimmed) > 0 {
			return position(p.file, p.data, at-len(trimmed))
		}
	}
	return position(p.file, p.data, at)
}

// broken is what the decoder stumbled over, with its place.
func (p *npmParser) broken(err error) error {
	at := int(p.dec.InputOffset())
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && errors.As(json.Unmarshal(p.data, new(any)), &syntax) { // a Decoder's offsets are of a part
		at = int(syntax.Offset) - 1
	}
	return &document.Error{Pos: position(p.file, p.data, at), Text: "no lock file of npm: " + strings.TrimPrefix(err.Error(), "json: ")}
}

// members calls do for each member of the object that is next, which has to read its value.
func (p *npmParser) members(do func(name string, pos document.Pos) error) error {
	t, err := p.dec.Token()
	if err != nil {
		return p.broken(err)
	}
	if t != json.Delim('{') {
		return p.broken(fmt.Errorf("want an object, found %v", t))
	}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return p.broken(err)
		}
		name, ok := t.(string)
		if !ok {
			return p.broken(fmt.Errorf("want a name, found %v", t))
		}
		if err := do(name, p.here()); err != nil {
			return err
		}
	}
	if _, err := p.dec.Token(); err != nil {
		return p.broken(err)
	}
	return nil
}

func (p *npmParser) skip() error {
	var ignored json.RawMessage
	if err := p.dec.Decode(&ignored); err != nil {
		return p.broken(err)
	}
	return nil
}

func (p *npmParser) document() error {
	found, version := false, 1.0
	err := p.members(func(name string, pos document.Pos) error {
		switch {
		case name == "lockfileVersion":
			if err := p.dec.Decode(&version); err != nil {
				return p.broken(err)
			}
			return nil
		case name == "packages":
			found = true
			return p.members(p.entry)
		case name == "dependencies" && version < 2: // later it repeats what is in packages
			found = true
			return p.members(p.older)
		}
		return p.skip()
	})
	if err == nil && !found {
		p.errs.Add(document.Pos{File: p.file, Line: 1, Col: 1}, "", "no lock file of npm: it has neither packages nor dependencies")
	}
	return err
}

// entry reads a package of version 2 or 3: its name is the folder that it is installed in.
func (p *npmParser) entry(folder string, pos document.Pos) error {
	var about map[string]any
	if err := p.dec.Decode(&about); err != nil {
		return p.broken(err)
	}
	i := strings.LastIndex(folder, "node_modules/")
	if i < 0 {
		return nil // the project itself, or one of its own folders
	}
	name := folder[i+len("node_modules/"):]
	if real, ok := about["name"].(string); ok {
		name = real // installed under another
	}
	p.add(name, about, pos)
	return nil
}

// older reads a package of version 1, which has those that are installed below it inside.
func (p *npmParser) older(name string, pos document.Pos) error {
	about := map[string]any{}
	err := p.members(func(field string, _ document.Pos) error {
		if field == "dependencies" {
			return p.members(p.older)
		}
		var value any
		if err := p.dec.Decode(&value); err != nil {
			return p.broken(err)
		}
		about[field] = value
		return nil
	})
	if err != nil {
		return err
	}
	if version, ok := about["version"].(string); ok {
		if alias, ok := strings.CutPrefix(version, "npm:"); ok {
			if i := strings.LastIndexByte(alias, '@'); i > 0 {
				name, about["version"] = alias[:i], alias[i+1:]
			}
		}
	}
	if bundled, _ := about["bundled"].(bool); bundled {
		about["inBundle"] = true
	}
	if requires, ok := about["requires"].(map[string]any); ok {
		about["dependencies"] = requires
	}
	p.add(name, about, pos)
	return nil
}

func (p *npmParser) add(name string, about map[string]any, pos document.Pos) {
	text := func(field string) string {
		s, _ := about[field].(string)
		return s
	}
	version, resolved, integrity := text("version"), text("resolved"), text("integrity")
	link, _ := about["link"].(bool)
	bundled, _ := about["inBundle"].(bool)
	switch {
	case link || bundled || strings.HasPrefix(version, "file:") || strings.HasPrefix(resolved, "file:"):
		return
	case !isNPMName(name):
		p.errs.Add(pos, "", "%q is no name of a package", name)
		return
	case strings.HasPrefix(resolved, "git") || strings.HasPrefix(version, "git"):
		p.errs.Add(pos, "publish it to a registry, or let the step have the network", "%s is a git commit, which npm takes from nowhere but git", name)
		return
	case integrity == "":
		p.errs.Add(pos, "npm install --package-lock-only writes it", "%s has no integrity", name)
		return
	case !isNPMVersion(version):
		p.errs.Add(pos, "", "%s has the version %q", name, version)
		return
	}
	algorithm, digest := strongest(integrity)
	if algorithm == "" {
		p.errs.Add(pos, "", "%s has the integrity %q: want sha512-, sha256- or sha1- and a digest in base64", name, integrity)
		return
	}
	if !strings.HasPrefix(resolved, "http://") && !strings.HasPrefix(resolved, "https://") {
		resolved = ""
	}
	if key := name + "@" + version + " " + integrity; p.seen[key] {
		return // installed in several folders
	} else {
		p.seen[key] = true
	}
	p.packages = append(p.packages, NPMPackage{
		Name: name, Version: version, Resolved: resolved, Integrity: integrity, Algorithm: algorithm, Digest: digest, About: about, Pos: pos,
	})
}

// isNPMName says whether a name is one that a registry of npm can have, and safe in a path.
func isNPMName(s string) bool {
	return s != "" && !strings.ContainsAny(s, "\x00\\?#%") && !slices.ContainsFunc(strings.Split(s, "/"), dotted) && strings.Count(s, "/") <= 1
}

func isNPMVersion(s string) bool { return s != "" && !strings.ContainsAny(s, "/\x00\\?#%") }

// strongest takes the best digest out of an integrity as the web has it: words of ALGORITHM-BASE64.
func strongest(integrity string) (algorithm string, digest []byte) {
	for _, a := range []struct {
		name string
		size int
	}{{"sha512", 64}, {"sha256", 32}, {"sha1", 20}} {
		for _, word := range strings.Fields(integrity) {
			text, ok := strings.CutPrefix(word, a.name+"-")
			text, _, _ = strings.Cut(text, "?")
			if b, err := base64.StdEncoding.DecodeString(text); ok && err == nil && len(b) == a.size {
				return a.name, b
			}
		}
	}
	return "", nil
}

// npmMachines are npm's names of processors.
var npmMachines = map[string]string{
	"x86_64": "x64", "aarch64": "arm64", "armv7": "arm", "armhf": "arm", "x86": "ia32", "riscv64": "riscv64", "ppc64le": "ppc64",
	"s390x": "s390x", "loongarch64": "loong64",
}

// Needed says whether npm would install the package on a machine of ours: what is optional it leaves out elsewhere.
func (p NPMPackage) Needed(arch string) bool {
	if optional, _ := p.About["optional"].(bool); !optional {
		return true
	}
	return allows(p.About["os"], "linux") && allows(p.About["cpu"], cmp.Or(npmMachines[arch], arch))
}

// allows reads a list of names, or of those that are not meant: "!win32".
func allows(list any, name string) bool {
	var names []string
	switch list := list.(type) {
	case string:
		names = []string{list}
	case []string:
		names = list
	case []any:
		for _, n := range list {
			s, _ := n.(string)
			names = append(names, s)
		}
	}
	if slices.Contains(names, "!"+name) {
		return false
	}
	named := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return strings.HasPrefix(s, "!") })
	return len(named) == 0 || slices.Contains(named, name) || slices.Contains(named, "any")
}
