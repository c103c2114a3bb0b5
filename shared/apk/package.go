package apk

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Package is what apk knows about a package without its files. The same
// values stand in .PKGINFO, in an index and in the database of installed
// packages; the comments say where one is missing.
type Package struct {
	Name    string
	Version Version
	Arch    Arch

	Description, URL, License   string
	Origin, Maintainer, Commit  string
	BuildDate                   int64        // seconds since 1970
	Depends, Provides, Replaces []Dependency // Replaces: not in an index
	InstallIf                   []Dependency
	ProviderPriority            int      // 0 = none
	ReplacesPriority            int      // 0 = none; not in an index
	Triggers                    []string // patterns of directories; not in an index

	Size          int64    // of the package file, bytes; not in .PKGINFO
	InstalledSize int64    // bytes
	DataHash      string   // SHA-256 of the compressed data section, hex; .PKGINFO only
	Checksum      Checksum // not in .PKGINFO
}

// Satisfies reports whether p, by its own name or by something it provides,
// is what d asks for. A conflict is not satisfied by what it names.
func (p *Package) Satisfies(d Dependency) bool {
	if p.Name == d.Name {
		return d.SatisfiedBy(p.Version, p.Checksum)
	}
	for _, v := range p.Provides {
		if v.Name == d.Name {
			return d.SatisfiedBy(v.Version, p.Checksum)
		}
	}
	return d.Conflict
}

// FileName is the name of the package's file in a repository.
func (p *Package) FileName() string { return p.Name + "-" + string(p.Version) + ".apk" }

// A Checksum names one build of a package: the SHA-1 of its compressed
// control section.
type Checksum [20]byte

// String returns the checksum as apk writes it: "Q1" and base64.
func (c Checksum) String() string { return string(c.append(nil)) }

func (c Checksum) append(b []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(b, "Q1"...), c[:])
}

// IsZero reports whether no checksum is known.
func (c Checksum) IsZero() bool { return c == Checksum{} }

// ParseChecksum reads "Q1" and base64, or "X1" and hex.
func ParseChecksum(s string) (Checksum, error) {
	var c Checksum
	var err error
	n := 0
	switch {
	case strings.HasPrefix(s, "Q1") && len(s) == 2+28:
		var buf [21]byte
		n, err = base64.StdEncoding.Strict().Decode(buf[:], []byte(s[2:]))
		copy(c[:], buf[:])
	case strings.HasPrefix(s, "X1") && len(s) == 2+40:
		n, err = hex.Decode(c[:], []byte(s[2:]))
	}
	if err != nil || n != len(c) {
		return Checksum{}, fmt.Errorf("checksum %q: not Q1 and 28 characters of base64", s)
	}
	return c, nil
}

// Scripts are the programs apk runs around installing a package, by their
// file name in the control section: ".pre-install", ".post-upgrade", ".trigger".
type Scripts map[string][]byte
