package solve

import (
	"slices"
)

// An overlay is a table over another one: new entries hide the old ones of the
// same package name. Only the lists of names that this concerns are made anew,
// so its cost depends on the new entries and not on the size of the base.
// Names that only the overlay has are listed as if they had been read last.

// overlay ends a table that has a base, of which it also hides the packages of some names.
func (b *builder) overlay(without []string) *table {
	over := b.done()
	t := over.base
	gone := map[int32]bool{}
	hide := func(name int32) {
		for _, r := range t.candidates.of(name) {
			if r.provide < 0 && !gone[r.entry] {
				gone[r.entry] = true
				over.gone = append(over.gone, r.entry)
			}
		}
	}
	for i := range over.details {
		hide(entry{over, int32(i)}.nameID())
	}
	for _, name := range without {
		if id, ok := t.id(name); ok {
			hide(id)
		}
	}
	patch := map[int32][]ref{}
	for i := range over.details {
		entry{over, int32(i)}.goesBy(over.firstEntry+int32(i), func(n int32, r ref) { patch[n] = append(patch[n], r) })
	}
	for _, i := range over.gone {
		t.entry(i).goesBy(i, func(n int32, _ ref) { patch[n] = slices.Clip(patch[n]) }) // concerned, if only by the loss
	}
	for n := range patch {
		for _, r := range t.candidates.of(n) {
			if !gone[r.entry] {
				patch[n] = append(patch[n], r)
			}
		}
	}
	over.candidates = lists[ref]{base: &t.candidates, patch: patch}
	return over
}

// patchMentions makes the lists of who mentions a name anew, for the names
// that an entry which came or went mentions.
func (t *table) patchMentions(base *lists[int32], of func(entry) []int32) lists[int32] {
	patch := map[int32][]int32{}
	concern := func(e entry) {
		for _, on := range of(e) {
			patch[on] = nil
		}
	}
	for i := range t.details {
		concern(entry{t, int32(i)})
	}
	for _, i := range t.gone {
		concern(t.entry(i))
	}
	for n := range t.candidates.patch {
		for _, r := range t.candidates.of(n) {
			for _, on := range of(t.entry(r.entry)) {
				if list, ok := patch[on]; ok {
					patch[on] = append(list, n)
				}
			}
		}
	}
	for on, list := range patch {
		for _, n := range base.of(on) {
			if _, changed := t.candidates.patch[n]; !changed {
				list = append(list, n)
			}
		}
		slices.SortFunc(list, t.compareListed)
		patch[on] = slices.Compact(list)
	}
	return lists[int32]{base: base, patch: patch}
}
