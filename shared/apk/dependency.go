package apk

import (
	"fmt"
	"strings"
)

// An Op says how the version that is there relates to the version wanted.
type Op string

// The operators, spelled as apk writes them. It also reads "=>", "~=" and the
// like; ParseDependency turns these into one of the spellings below.
const (
	Any            Op = ""
	Equal          Op = "="
	Less           Op = "<"
	LessOrEqual    Op = "<="
	Greater        Op = ">"
	GreaterOrEqual Op = ">="
	Fuzzy          Op = "~"  // begins with
	LessOrFuzzy    Op = "<~" // older than, or begins with
	GreaterOrFuzzy Op = ">~"
	SameChecksum   Op = "><" // the version wanted is the checksum of one package
)

// The outcomes of a comparison that an operator accepts.
const (
	maskEqual = 1 << iota
	maskLess
	maskGreater
	maskFuzzy

	maskAny = maskEqual | maskLess | maskGreater
)

func (o Op) mask() int {
	m := 0
	for i := range len(o) {
		switch o[i] {
		case '=':
			m |= maskEqual
		case '<':
			m |= maskLess
		case '>':
			m |= maskGreater
		case '~':
			m |= maskFuzzy | maskEqual
		default:
			return 0
		}
	}
	return m
}

func opOf(mask int) (Op, bool) {
	switch mask {
	case maskEqual:
		return Equal, true
	case maskLess:
		return Less, true
	case maskLess | maskEqual:
		return LessOrEqual, true
	case maskLess | maskEqual | maskFuzzy:
		return LessOrFuzzy, true
	case maskGreater:
		return Greater, true
	case maskGreater | maskEqual:
		return GreaterOrEqual, true
	case maskGreater | maskEqual | maskFuzzy:
		return GreaterOrFuzzy, true
	case maskEqual | maskFuzzy:
		return Fuzzy, true
	case maskLess | maskGreater:
		return SameChecksum, true
	}
	return Any, false
}

// Match reports whether version a stands in relation o to version b. An empty
// a, the version of something provided without one, matches everything.
func (o Op) Match(a, b Version) bool {
	m := o.mask()
	if m&maskAny == 0 || m&maskAny == maskAny || a == "" {
		return true
	}
	switch compare(a, b, m&maskFuzzy != 0) {
	case -1:
		return m&maskLess != 0
	case 1:
		return m&maskGreater != 0
	}
	return m&maskEqual != 0
}

// A Dependency is one word of a dependency list: [!]name[@tag][op version].
// The same words name what a package provides, replaces and is triggered by.
type Dependency struct {
	Name     string
	Op       Op
	Version  Version // with SameChecksum the text of a Checksum
	Conflict bool    // !name: must not be there
	Tag      string  // only in world: the repository it must come from
}

// ParseDependency reads one dependency. It checks the form only, as apk does
// when it reads an index; whether the version is one is for Valid to say.
func ParseDependency(s string) (Dependency, error) {
	var d Dependency
	rest := s
	if strings.HasPrefix(rest, "!") {
		d.Conflict = true
		rest = rest[1:]
	}
	for i := range len(rest) {
		if c := rest[i]; c <= ' ' || c == 0x7f {
			return Dependency{}, fmt.Errorf("dependency %q: a space or control character in it", s)
		}
	}
	d.Name = rest
	if i := strings.IndexAny(rest, "<=>~"); i >= 0 {
		d.Name = rest[:i]
		j := i
		for j < len(rest) && strings.IndexByte("<=>~", rest[j]) >= 0 {
			j++
		}
		op, ok := opOf(Op(rest[i:j]).mask())
		if !ok {
			return Dependency{}, fmt.Errorf("dependency %q: unknown operator %q", s, rest[i:j])
		}
		d.Op, d.Version = op, Version(rest[j:])
		if d.Version == "" {
			return Dependency{}, fmt.Errorf("dependency %q: no version after %q", s, rest[i:j])
		}
	}
	if name, tag, tagged := strings.Cut(d.Name, "@"); tagged {
		if tag == "" {
			return Dependency{}, fmt.Errorf("dependency %q: empty repository tag", s)
		}
		d.Name, d.Tag = name, tag
	}
	if d.Name == "" {
		return Dependency{}, fmt.Errorf("dependency %q: no name", s)
	}
	return d, nil
}

// ParseDependencies reads a list of dependencies separated by spaces.
func ParseDependencies(s string) ([]Dependency, error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return nil, nil
	}
	deps := make([]Dependency, len(words))
	for i, w := range words {
		d, err := ParseDependency(w)
		if err != nil {
			return nil, err
		}
		deps[i] = d
	}
	return deps, nil
}

func (d Dependency) String() string { return string(d.append(nil)) }

func (d Dependency) append(b []byte) []byte {
	if d.Conflict {
		b = append(b, '!')
	}
	b = append(b, d.Name...)
	if d.Tag != "" {
		b = append(b, '@')
		b = append(b, d.Tag...)
	}
	b = append(b, d.Op...)
	return append(b, d.Version...)
}

// Valid reports whether the version, if there is one, is one. apk does not
// install a package that depends on something with an invalid version.
func (d Dependency) Valid() bool {
	switch d.Op {
	case Any:
		return d.Version == ""
	case SameChecksum:
		_, err := ParseChecksum(string(d.Version))
		return err == nil
	}
	return d.Version.Valid()
}

// SatisfiedBy reports whether something that goes by d's name, in the given
// version and from the package with the given checksum, is what d asks for.
// For a conflict the answer is the opposite: it is satisfied by what may stay.
func (d Dependency) SatisfiedBy(v Version, sum Checksum) bool {
	var ok bool
	if d.Op == SameChecksum {
		want, err := ParseChecksum(string(d.Version))
		ok = err == nil && want == sum
	} else {
		ok = d.Op.Match(v, d.Version)
	}
	return ok != d.Conflict
}
