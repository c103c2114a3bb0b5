package solve

import (
	"cmp"
	"slices"
	"sync"

	"distro.internal/shared/apk"
)

// A table is the graph of a universe in flat arrays: every name that the
// packages mention has a number, and so has every package. What the search
// learns about them is kept elsewhere, so that a table can be shared.
//
// A table may lie over another one: then it has only what is different.
type table struct {
	base    *table // nil: none
	ids     map[string]int32
	names   []string // with those of the base
	ranks   []uint64 // the order of the names in listings, see order.go
	entries []entry  // those of the base come before, but are not here

	candidates lists[ref] // of a name: who goes by it

	linkOnce   sync.Once
	dependents lists[int32] // of a name: the names with a candidate that depends on it, in listing order
	waiting    lists[int32] // of a name: the names with a candidate that has an install_if on it, in listing order

	gone []int32 // entries of the base that do not count
}

// An entry is one package of a table.
type entry struct {
	*apk.Package
	name        int32
	refs        []int32 // the names in Depends, Provides and InstallIf
	repository  int32   // the first that lists it; -1: none
	standing    int32   // of the repository among all; the lowest is preferred
	tags        uint64
	dependsEnd  int32 // in refs
	providesEnd int32
	available   bool
	installable bool
	installed   bool
}

func (e *entry) depends() []int32   { return e.refs[:e.dependsEnd] }
func (e *entry) provides() []int32  { return e.refs[e.dependsEnd:e.providesEnd] }
func (e *entry) installIf() []int32 { return e.refs[e.providesEnd:] }
func (e *entry) conditional() bool  { return int(e.providesEnd) < len(e.refs) }

// mayServe reports whether the package may be chosen for something wanted
// under the tags.
func (e *entry) mayServe(tags uint64) bool {
	return e.tags&(1|tags) != 0 || e.InstalledSize == 0
}

// A ref is one way to go by a name: an entry under its own name (provide is -1)
// or by one of the things that it provides.
type ref struct{ entry, provide int32 }

func (r ref) version(e *entry) apk.Version {
	if r.provide < 0 {
		return e.Version
	}
	return e.Provides[r.provide].Version
}

func (t *table) id(name string) (int32, bool) {
	for ; t != nil; t = t.base {
		if id, ok := t.ids[name]; ok {
			return id, true
		}
	}
	return 0, false
}

// first is the number of the first entry that is not of the base.
func (t *table) first() int32 {
	if t.base == nil {
		return 0
	}
	return t.base.count()
}

func (t *table) count() int32 { return t.first() + int32(len(t.entries)) }

func (t *table) entry(i int32) *entry {
	if first := t.first(); i >= first {
		return &t.entries[i-first]
	}
	return t.base.entry(i)
}

// each yields the entries that count, in the order in which apk would read them.
func (t *table) each(yield func(*entry) bool) {
	for i := range t.entries {
		if !yield(&t.entries[i]) {
			return
		}
	}
	if t.base == nil {
		return
	}
	gone := map[*entry]bool{}
	for _, i := range t.gone {
		gone[t.base.entry(i)] = true
	}
	t.base.each(func(e *entry) bool { return gone[e] || yield(e) })
}

func (t *table) compareListed(x, y int32) int { return cmp.Compare(t.ranks[x], t.ranks[y]) }

// Lists are a list of items for each number: one after another in a flat
// array, or, where they lie over others, only those that are different.
type lists[T any] struct {
	at    []int32 // list i is items[at[i]:at[i+1]]
	items []T
	base  *lists[T]
	patch map[int32][]T
}

func (l *lists[T]) of(i int32) []T {
	for ; l.base != nil; l = l.base {
		if list, ok := l.patch[i]; ok {
			return list
		}
	}
	if int(i)+1 >= len(l.at) || i < 0 {
		return nil
	}
	return l.items[l.at[i]:l.at[i+1]]
}

// newLists sorts the items that each yields into n lists: count, sum up, fill.
func newLists[T any](n int, each func(yield func(i int32, item T))) lists[T] {
	at := make([]int32, n+1)
	each(func(i int32, _ T) { at[i+1]++ })
	for i := range n {
		at[i+1] += at[i]
	}
	items := make([]T, at[n])
	next := slices.Clone(at)
	each(func(i int32, item T) {
		items[next[i]] = item
		next[i]++
	})
	return lists[T]{at: at, items: items}
}

// link finds out who depends on a name, and who waits for it. Most tables are
// never asked, so it waits for the first who does.
func (t *table) link() {
	t.linkOnce.Do(func() {
		if t.base != nil {
			t.base.link()
			t.dependents = t.patchMentions(&t.base.dependents, (*entry).depends)
			t.waiting = t.patchMentions(&t.base.waiting, (*entry).installIf)
			return
		}
		listing := make([]int32, len(t.names))
		for i := range listing {
			listing[i] = int32(i)
		}
		slices.SortFunc(listing, t.compareListed)
		t.dependents = t.mentions(listing, (*entry).depends)
		t.waiting = t.mentions(listing, (*entry).installIf)
	})
}

// mentions lists, for every name, the names with a candidate that mentions it.
func (t *table) mentions(listing []int32, of func(*entry) []int32) lists[int32] {
	return newLists(len(t.names), func(yield func(i, n int32)) {
		last := make([]int32, len(t.names))
		for _, n := range listing {
			for _, r := range t.candidates.of(n) {
				for _, on := range of(&t.entries[r.entry]) {
					if last[on] != n+1 {
						last[on] = n + 1
						yield(on, n)
					}
				}
			}
		}
	})
}

// installable reports whether apk would consider the package at all.
func installable(p *apk.Package, arch apk.Arch) bool {
	if p.Arch != "" && p.Arch != "noarch" && p.Arch != arch {
		return false
	}
	return !slices.ContainsFunc(p.Depends, unreadable)
}

// unreadable dependencies make a package uninstallable, and an install_if void.
func unreadable(d apk.Dependency) bool {
	return d.Op != apk.Any && !d.Valid() || d.Tag != ""
}

// newTable makes a table of entries, of which only the parts that come from
// their repository are filled in.
func newTable(entries []entry, arch apk.Arch) *table {
	t := (&table{}).add(entries, arch)
	t.candidates = newLists(len(t.names), func(yield func(int32, ref)) {
		for i := range t.entries {
			t.entries[i].goesBy(int32(i), yield)
		}
	})
	return t
}

// goesBy yields all names of an entry, given its number.
func (e *entry) goesBy(i int32, yield func(int32, ref)) {
	yield(e.name, ref{i, -1})
	for j, name := range e.provides() {
		yield(name, ref{i, int32(j)})
	}
}

// add fills an empty table with entries. Packages with the same checksum are
// the same package.
func (t *table) add(entries []entry, arch apk.Arch) *table {
	mentioned := 0
	for _, e := range entries {
		mentioned += len(e.Depends) + len(e.Provides) + len(e.InstallIf)
	}
	refs := make([]int32, 0, mentioned)
	t.ids = make(map[string]int32, len(entries)/2)
	t.entries = make([]entry, 0, len(entries))
	known := make(map[apk.Checksum]int32, len(entries))
	for _, e := range entries {
		if !e.Checksum.IsZero() {
			if i, ok := known[e.Checksum]; ok {
				t.entries[i].merge(&e)
				continue
			}
			known[e.Checksum] = int32(len(t.entries))
		}
		e.installable = installable(e.Package, arch)
		start := len(refs)
		e.name = t.mention(e.Name)
		refs = t.mentionAll(refs, e.Depends)
		e.dependsEnd = int32(len(refs) - start)
		refs = t.mentionAll(refs, e.Provides)
		e.providesEnd = int32(len(refs) - start)
		if !slices.ContainsFunc(e.InstallIf, unreadable) {
			refs = t.mentionAll(refs, e.InstallIf)
		}
		e.refs = refs[start:len(refs):len(refs)]
		t.entries = append(t.entries, e)
	}
	return t
}

// merge takes in another appearance of the same package.
func (e *entry) merge(o *entry) {
	e.tags |= o.tags
	e.available = e.available || o.available
	if e.repository < 0 {
		e.repository, e.standing = o.repository, o.standing
	}
}

func (t *table) mentionAll(refs []int32, list []apk.Dependency) []int32 {
	for i := range list {
		refs = append(refs, t.mention(list[i].Name))
	}
	return refs
}

// mention returns the number of a name, making one for a name not met before.
func (t *table) mention(name string) int32 {
	id, ok := t.ids[name]
	if ok {
		return id
	}
	if id, ok = t.base.id(name); !ok {
		id = int32(len(t.names))
		t.names = append(t.names, name)
		t.ranks = append(t.ranks, rank(name, id))
	}
	t.ids[name] = id
	return id
}
