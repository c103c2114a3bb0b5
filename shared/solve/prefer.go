package solve

import (
	"cmp"

	"distro.internal/shared/apk"
)

// Which of two candidates for a name is the better is a ladder of questions;
// the first on which they differ decides. Two ladders lead to the same upper
// part: who asked for the latest wants to see the newest version fail rather
// than an older one succeed, everybody else wants to see it succeed.
//
// A question applies, or not, by the flags of both packages taken together, so
// this is a preference between two and not a rank of one: best takes the
// candidates in listing order and keeps the first of equals.

// prefer is positive when a is the better, negative when b is.
func (s *search) prefer(a, b candidate) int {
	f := a.flags | b.flags
	order := 0
	if f&Latest != 0 && a.tagsAllowed == 1 && b.tagsAllowed == 1 {
		order = preferLatest(a, b, f)
	} else {
		order = s.preferFitting(a, b, f)
	}
	if order == 0 {
		order = preferNewest(a, b, f)
	}
	return order
}

func preferLatest(a, b candidate, f Flags) int {
	return cmp.Or(
		either(a.tagOK, b.tagOK),
		when(f&Available != 0, a.is(available), b.is(available)),
		when(f&(Available|Reinstall) == Reinstall, a.open, b.open),
	)
}

func (s *search) preferFitting(a, b candidate, f Flags) int {
	keep := f&KeepInstalled != 0 || s.options.Cautious && f&Upgrade == 0
	// Two things provided without a version are free to change places, unless
	// they are one package in two versions.
	bound := a.name == b.name || a.version != "" || b.version != ""
	return cmp.Or(
		either(a.open, b.open),
		either(a.usable, b.usable),
		cmp.Compare(b.conflicts, a.conflicts),
		when(keep, a.is(installed), b.is(installed)),
		either(a.tagOK, b.tagOK),
		when(f&Available != 0, a.is(available), b.is(available)),
		either(a.tagPreferred, b.tagPreferred),
		when(f&(Remove|Upgrade) == 0 && bound, a.is(installed), b.is(installed)),
	)
}

func preferNewest(a, b candidate, f Flags) int {
	if c := apk.Compare(a.version, b.version); c != 0 { // provided without a version is oldest
		return c
	}
	if a.name == b.name {
		if c := apk.Compare(a.entry.version(), b.entry.version()); c != 0 {
			return c
		}
	}
	return cmp.Or(
		cmp.Compare(a.priority, b.priority),
		when(f&Remove == 0, a.is(installed), b.is(installed)),
		either(a.open, b.open),
		cmp.Compare(b.standing, a.standing),
	)
}

// either prefers the one of which something holds.
func either(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func when(applies, a, b bool) int {
	if !applies {
		return 0
	}
	return either(a, b)
}
