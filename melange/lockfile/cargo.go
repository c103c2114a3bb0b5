package lockfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"distro.internal/shared/document"
)

// A Crate is a package of a Cargo.lock.
type Crate struct {
	Name, Version string
	Source        string       // "registry+URL", "sparse+URL" or "git+URL?branch=NAME#COMMIT"
	Checksum      string       // SHA-256 in hex; crates of git have none
	Pos           document.Pos `toml:"-"`
}

// Cargo reads a Cargo.lock. Packages of the program itself are left out.
func Cargo(file string, data []byte) ([]Crate, error) {
	var lock struct {
		Package  []Crate
		Metadata map[string]any // of the first version: checksums by "checksum NAME VERSION (SOURCE)"
	}
	if err := toml.Unmarshal(data, &lock); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, col := at.Position()
			return nil, &document.Error{Pos: document.Pos{File: file, Line: line, Col: col}, Text: strings.TrimPrefix(at.Error(), "toml: ")}
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	places := tables(file, data, "[[package]]")
	var errs document.ErrorList
	var packages []Crate
	for i, p := range lock.Package {
		if p.Pos = (document.Pos{File: file}); i < len(places) {
			p.Pos = places[i]
		}
		if p.Source == "" {
			continue
		}
		if p.Checksum == "" {
			p.Checksum, _ = lock.Metadata[fmt.Sprintf("checksum %s %s (%s)", p.Name, p.Version, p.Source)].(string)
		}
		p.check(&errs)
		packages = append(packages, p)
	}
	return packages, errs.Err()
}

// tables are the places of the lines that begin a table.
func tables(file string, data []byte, header string) []document.Pos {
	var places []document.Pos
	n := 0
	for line := range bytes.Lines(data) {
		if n++; strings.HasPrefix(string(bytes.TrimSpace(line)), header) {
			places = append(places, document.Pos{File: file, Line: n, Col: bytes.IndexByte(line, '[') + 1})
		}
	}
	return places
}

func (p Crate) check(errs *document.ErrorList) {
	for _, s := range []string{p.Name, p.Version} {
		if dotted(s) || strings.ContainsAny(s, "/\\\x00?#%\"\n") {
			errs.Add(p.Pos, "", "%q is no name or version of a crate", s)
			return
		}
	}
	if strings.ContainsAny(p.Source, "\"\\\n") {
		errs.Add(p.Pos, "", "%q is no source of a crate", p.Source)
		return
	}
	kind, _, _ := strings.Cut(p.Source, "+")
	switch kind {
	case "git":
		if _, commit, _ := strings.Cut(p.Source, "#"); !isHex(commit, 20) {
			errs.Add(p.Pos, "", "%s has no commit in %q", p.Name, p.Source)
		}
	case "registry", "sparse":
		if !isHex(p.Checksum, 32) {
			errs.Add(p.Pos, "cargo generate-lockfile writes it", "%s has no checksum", p.Name)
		}
	default:
		errs.Add(p.Pos, "", "%s has the source %q: want registry+, sparse+ or git+ and an address", p.Name, p.Source)
	}
}
