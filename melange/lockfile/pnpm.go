package lockfile

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// PNPMPackage is a package of a pnpm-lock.yaml. Resolved is its address where that is not the one that a registry has for
// its name and version, and as pnpm writes it down.
type PNPMPackage struct {
	NPMPackage
	File string // in a registry, below its address
}

// PNPM reads a pnpm-lock.yaml of pnpm 8 or later, that is of version 6 or 9. What is in folders is left out. strict says
// that it must be of these; else one of another version has an empty answer.
//
// The format is described by pnpm's packages lockfile-types and dependency-path.
func PNPM(file string, data []byte, strict bool) ([]PNPMPackage, error) {
	doc, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var lock struct {
		Version   document.String `yaml:"lockfileVersion"`
		Packages  document.Map[pnpmEntry]
		Snapshots document.Map[struct{ Optional bool }]
	}
	err = doc.DecodeKnown(&lock)
	if major, _, _ := strings.Cut(lock.Version.Value, "."); major != "6" && major != "9" {
		if !strict {
			return nil, nil
		}
		pos := document.Pos{File: file, Line: 1, Col: 1}
		return nil, &document.Error{Pos: pos, Text: "no lock file of pnpm 8 or later: want the lockfileVersion 6 or 9"}
	}
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{} // by what is not optional
	for _, s := range lock.Snapshots {
		key, _, _ := strings.Cut(s.Key.Value, "(")
		needed[key] = needed[key] || !s.Value.Optional
	}
	p := &pnpmParser{files: map[string]PNPMPackage{}}
	for _, e := range lock.Packages {
		if len(lock.Snapshots) > 0 {
			e.Value.Optional = !needed[e.Key.Value]
		}
		p.add(e.Key, e.Value)
	}
	return p.packages, p.errs.Err()
}

type pnpmEntry struct {
	Resolution struct {
		Integrity, Tarball, Type string
		GitHosted                bool `yaml:"gitHosted"`
	}
	Name, Version string // where the key has an address
	OS, CPU       []string
	Optional      bool
}

type pnpmParser struct {
	files    map[string]PNPMPackage // of the registry
	packages []PNPMPackage
	errs     document.ErrorList
}

// pnpmSafe are the characters of names and versions, none of which means anything to a shell, an address or YAML.
var pnpmSafe = regexp.MustCompile(`^[A-Za-z0-9@._~+/-]+$`)

func (p *pnpmParser) add(key document.String, e pnpmEntry) {
	pos, r := key.Pos, e.Resolution
	name, version := pnpmName(key.Value)
	if e.Name != "" {
		name = e.Name
	}
	if e.Version != "" {
		version = e.Version
	}
	algorithm, digest := strongest(r.Integrity)
	switch {
	case r.Type == "directory" || strings.HasPrefix(r.Tarball, "file:"):
		return // of the sources
	case r.Type == "git" || r.GitHosted:
		p.errs.Add(pos, "publish it to a registry, or let the step have the network", "%s is a git commit, which pnpm takes from nowhere but git", name)
		return
	case r.Type != "":
		p.errs.Add(pos, "let the step have the network", "%s is a %s, and no package", name, r.Type)
		return
	case r.Integrity == "":
		p.errs.Add(pos, "publish it to a registry, or let the step have the network", "%s has no integrity", name)
		return
	case algorithm == "":
		p.errs.Add(pos, "", "%s has the integrity %q: want sha512-, sha256- or sha1- and a digest in base64", name, r.Integrity)
		return
	case !isNPMName(name) || !pnpmSafe.MatchString(name):
		p.errs.Add(pos, "", "%q is no name of a package", name)
		return
	case !isNPMVersion(version) || !pnpmSafe.MatchString(version):
		p.errs.Add(pos, "", "%s has the version %q", name, version)
		return
	case r.Tarball != "" && !strings.HasPrefix(r.Tarball, "http://") && !strings.HasPrefix(r.Tarball, "https://"):
		p.errs.Add(pos, "", "%s has the address %q", name, r.Tarball)
		return
	}
	plain, _, _ := strings.Cut(version, "+") // a registry does not tell builds apart
	k := PNPMPackage{
		NPMPackage: NPMPackage{
			Name: name, Version: version, Resolved: r.Tarball, Integrity: r.Integrity, Algorithm: algorithm, Digest: digest, Pos: pos,
			About: map[string]any{"optional": e.Optional, "os": e.OS, "cpu": e.CPU},
		},
		File: name + "/-/" + path.Base(name) + "-" + plain + ".tgz",
	}
	if other, ok := p.files[k.File]; !ok || other.Resolved != k.Resolved && slices.Equal(other.Digest, k.Digest) {
		p.files[k.File] = k
		p.packages = append(p.packages, k)
	} else if !slices.Equal(other.Digest, k.Digest) {
		p.errs.Add(pos, "", "%s of version %s is another than that of line %d", name, version, other.Pos.Line)
	}
}

// pnpmName takes a key apart: NAME@VERSION, with a slash before it in version 6, and what it is installed with behind.
func pnpmName(key string) (name, version string) {
	key, _, _ = strings.Cut(strings.TrimPrefix(key, "/"), "(")
	if i := strings.IndexByte(key[min(1, len(key)):], '@'); i >= 0 {
		return key[:i+1], key[i+2:]
	}
	return key, ""
}
