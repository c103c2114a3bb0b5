package stage0

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"

	"distro.internal/shared/document"
)

// A Spec says which Debian packages are wanted, and how what is converted
// differs from them: Debian leaves some links to scripts that run when a
// package is installed, which here never run.
type Spec struct {
	Suite    string                   // Debian's release: trixie
	Seeds    []string                 // packages wanted; what they depend on comes along
	Drop     []string                 // folders and files that no package keeps
	Packages document.Map[Difference] // by name
	Links    document.Map[string]     // of the base package: path to target

	digest string
}

// A Difference is what one converted package has otherwise than its original.
type Difference struct {
	Keep        []string             // nothing but these folders and files
	Drop        []string             // all but these
	Unversioned string               // "-19": programs usr/bin/x-19 are also called usr/bin/x
	Links       document.Map[string] // added: path to target
	Join        document.Map[string] // added: path to the pattern of the files it is made of
}

// ParseSpec reads a Spec; file names it in errors.
func ParseSpec(file string, data []byte) (*Spec, error) {
	doc, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var s Spec
	if err := doc.Decode(&s); err != nil {
		return nil, err
	}
	var errs document.ErrorList
	at := doc.Root().Pos()
	if s.Suite == "" {
		errs.Add(at, "", "suite is missing")
	}
	if len(s.Seeds) == 0 {
		errs.Add(at, "", "seeds are missing")
	}
	for _, p := range s.Packages {
		for _, pattern := range p.Value.Join {
			if _, err := path.Match(pattern.Value, ""); err != nil {
				errs.Add(pattern.Key.Pos, "", "pattern %q: %v", pattern.Value, err)
			}
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	s.digest = hex.EncodeToString(sum[:])
	return &s, nil
}

// keeps reports whether the file at a path of a package is converted.
func (s *Spec) keeps(d Difference, name string) bool {
	inside := func(dir string) bool { return below(name, dir) }
	if slices.ContainsFunc(s.Drop, inside) || slices.ContainsFunc(d.Drop, inside) {
		return false
	}
	return len(d.Keep) == 0 || slices.ContainsFunc(d.Keep, inside)
}

// check reports a package of the spec that the lock does not have.
func (l *Lock) check(s *Spec) error {
	if l.Suite != s.Suite {
		return fmt.Errorf("lock is of suite %s, wanted is %s: %w", l.Suite, s.Suite, errStale)
	}
	for _, name := range s.Seeds {
		if _, ok := l.pin(name); !ok {
			return fmt.Errorf("package %s is not in the lock: %w", name, errStale)
		}
	}
	for _, p := range s.Packages {
		if _, ok := l.pin(p.Key.Value); !ok {
			return fmt.Errorf("%s: package %s is not in the lock: %w", p.Key.Pos, p.Key.Value, errStale)
		}
	}
	return nil
}
