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
// a, the version of something provided without one, is older than everything,
// as it is for apk.
func (o Op) Match(a, b Version) bool {
	m := o.mask()
	if m&maskAny == 0 || m&maskAny == maskAny {
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

// What a byte may be in the text of a dependency.
const (
	plain    = iota
	comparer // part of an operator
	at       // before a repository tag
	blank    // not allowed
)

var classes = func() (table [256]uint8) {
	for c := range ' ' + 1 {
		table[c] = blank
	}
	table[0x7f] = blank
	table['<'], table['='], table['>'], table['~'] = comparer, comparer, comparer, comparer
	table['@'] = at
	return table
}()

// span returns how many bytes of s, from the start, are of one of two classes.
func span(s string, class, or uint8) int {
	for i := range len(s) {
		if c := classes[s[i]]; c != class && c != or {
			return i
		}
	}
	return len(s)
}

// ParseDependency reads one dependency. It checks the form only, as apk does
// when it reads an index; whether the version is one is for Valid to say.
func ParseDependency(s string) (Dependency, error) {
	rest, conflict := strings.CutPrefix(s, "!")
	d := Dependency{Conflict: conflict}

	n := span(rest, plain, plain)
	d.Name, rest = rest[:n], rest[n:]
	if rest != "" && rest[0] == '@' {
		n = 1 + span(rest[1:], plain, at)
		if d.Tag, rest = rest[1:n], rest[n:]; d.Tag == "" {
			return Dependency{}, fmt.Errorf("dependency %q: empty repository tag", s)
		}
	}
	if n = span(rest, comparer, comparer); n > 0 {
		op, ok := opOf(Op(rest[:n]).mask())
		if !ok {
			return Dependency{}, fmt.Errorf("dependency %q: unknown operator %q", s, rest[:n])
		}
		d.Op, rest = op, rest[n:]
		n = len(rest)
		for i := range n {
			if classes[rest[i]] == blank {
				n = i
				break
			}
		}
		d.Version, rest = Version(rest[:n]), rest[n:]
		if d.Version == "" && rest == "" {
			return Dependency{}, fmt.Errorf("dependency %q: no version after %q", s, op)
		}
	}
	switch {
	case rest != "":
		return Dependency{}, fmt.Errorf("dependency %q: a space or control character in it", s)
	case d.Name == "":
		return Dependency{}, fmt.Errorf("dependency %q: no name", s)
	}
	return d, nil
}

// readable reports whether d, when written, is read as d again.
func (d Dependency) readable() bool {
	op, ok := opOf(d.Op.mask())
	switch {
	case d.Name == "" || span(d.Name, plain, plain) < len(d.Name) || d.Name[0] == '!' && !d.Conflict:
		return false
	case d.Tag != "" && span(d.Tag, plain, at) < len(d.Tag):
		return false
	case d.Op == Any:
		return d.Version == ""
	case !ok || op != d.Op || d.Version == "" || classes[d.Version[0]] == comparer:
		return false
	}
	return !hasBlank(string(d.Version))
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
