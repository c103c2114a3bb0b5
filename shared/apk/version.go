package apk

import (
	"cmp"
	"strings"
)

// A Version is a package version as apk spells it:
//
//	digits{.digits}[letter]{_suffix[digits]}[~hash][-rdigits]
//
// where suffix is one of alpha, beta, pre, rc (all before the plain version)
// and cvs, svn, git, hg, p (all after it).
type Version string

// Valid reports whether apk accepts v as the version of a package.
func (v Version) Valid() bool {
	s := scan(v)
	for s.kind < kindEnd {
		s.next()
	}
	return s.kind == kindEnd
}

// Compare returns -1, 0 or 1 as a is older than, as old as or newer than b.
// It is total over all strings: what is not a valid version is compared up to
// the place where it stops being one.
func Compare(a, b Version) int { return compare(a, b, false) }

// compare is Compare; with fuzzy, b stands for every version that begins with it.
func compare(a, b Version, fuzzy bool) int {
	x, y := scan(a), scan(b)
	for x.kind == y.kind && x.kind < kindEnd {
		if c := x.compare(&y); c != 0 {
			return c
		}
		x.next()
		y.next()
	}
	switch {
	case x.kind == y.kind, fuzzy && y.kind == kindEnd:
		return 0
	case x.kind == kindSuffix && x.suffix < suffixNone:
		return -1
	case y.kind == kindSuffix && y.suffix < suffixNone:
		return 1
	case x.kind > y.kind: // the longer version has the earlier kind
		return -1
	}
	return 1
}

// A kind is what a part of a version is. The order matters: parts come in this
// order, and where two versions part ways the one whose part comes first in
// this list is the newer.
type kind uint8

const (
	kindFirst kind = iota // the number at the very start
	kindNumber
	kindLetter
	kindSuffix
	kindSuffixNumber
	kindHash
	kindRevision
	kindEnd
	kindInvalid
)

// A suffix is the word after an underscore, in apk's order.
type suffix uint8

const (
	suffixInvalid suffix = iota
	suffixAlpha
	suffixBeta
	suffixPre
	suffixRC
	suffixNone // no suffix sorts here
	suffixCVS
	suffixSVN
	suffixGit
	suffixHg
	suffixP
)

func parseSuffix(s string) suffix {
	switch s {
	case "alpha":
		return suffixAlpha
	case "beta":
		return suffixBeta
	case "pre":
		return suffixPre
	case "rc":
		return suffixRC
	case "cvs":
		return suffixCVS
	case "svn":
		return suffixSVN
	case "git":
		return suffixGit
	case "hg":
		return suffixHg
	case "p":
		return suffixP
	}
	return suffixInvalid
}

// A scanner walks over the parts of a version.
type scanner struct {
	rest string

	kind   kind
	text   string
	number uint64
	suffix suffix
}

func scan(v Version) scanner {
	s := scanner{rest: string(v)}
	s.digits(kindFirst)
	return s
}

// next moves on to the next part. A part that may not follow the one before
// it is invalid, and ends the walk.
func (s *scanner) next() {
	if s.rest == "" {
		s.kind = kindEnd
		return
	}
	switch c := s.rest[0]; {
	case 'a' <= c && c <= 'z' && s.kind <= kindNumber:
		s.text, s.rest = s.rest[:1], s.rest[1:]
		s.kind = kindLetter
	case c == '.' && s.kind <= kindNumber:
		s.rest = s.rest[1:]
		s.digits(kindNumber)
	case '0' <= c && c <= '9' && s.kind == kindSuffix:
		s.digits(kindSuffixNumber)
	case c == '_' && s.kind <= kindSuffixNumber:
		s.word()
	case c == '~' && s.kind < kindHash:
		s.rest = s.rest[1:]
		s.text = s.span(func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' })
		s.kind = kindHash
		if s.text == "" {
			s.kind = kindInvalid
		}
	case strings.HasPrefix(s.rest, "-r") && s.kind < kindRevision:
		s.rest = s.rest[2:]
		s.digits(kindRevision)
	default:
		s.kind = kindInvalid
	}
}

func (s *scanner) word() {
	s.rest = s.rest[1:]
	s.text = s.span(func(c byte) bool { return 'a' <= c && c <= 'z' })
	s.kind = kindSuffix
	if s.suffix = parseSuffix(s.text); s.suffix == suffixInvalid {
		s.kind = kindInvalid
	}
}

// digits takes a number. One that does not fit wraps around, as apk's does.
func (s *scanner) digits(k kind) {
	i, n := 0, uint64(0)
	for i < len(s.rest) && '0' <= s.rest[i] && s.rest[i] <= '9' {
		n = n*10 + uint64(s.rest[i]-'0')
		i++
	}
	s.text, s.rest = s.rest[:i], s.rest[i:]
	s.kind, s.number = k, n
	if i == 0 {
		s.kind = kindInvalid
	}
}

func (s *scanner) span(in func(byte) bool) string {
	i := 0
	for i < len(s.rest) && in(s.rest[i]) {
		i++
	}
	text := s.rest[:i]
	s.rest = s.rest[i:]
	return text
}

// compare compares two parts of the same kind.
func (s *scanner) compare(t *scanner) int {
	switch s.kind {
	case kindNumber:
		// As in Gentoo: with a leading zero on either side these are
		// decimal fractions, not whole numbers.
		if s.text[0] == '0' || t.text[0] == '0' {
			return strings.Compare(s.text, t.text)
		}
		return cmp.Compare(s.number, t.number)
	case kindFirst, kindSuffixNumber, kindRevision:
		return cmp.Compare(s.number, t.number)
	case kindSuffix:
		return cmp.Compare(s.suffix, t.suffix)
	}
	return strings.Compare(s.text, t.text)
}
