package solve

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"distro.internal/shared/apk"
)

// A table is the graph of a universe in flat arrays: every name that the
// packages mention has a number, and so has every package. What the search
// learns about them is kept elsewhere, so that a table can be shared.
//
// A table may be made from another and some more entries; it shares what it
// can with that one.
type table struct {
	base    *table // knows the names that ids does not; nil: none
	ids     map[string]int32
	names   []string
	buckets []uint16 // of each name, see order.go
	entries []entry
	refs    []int32 // names that an entry mentions, one entry after another
	listed  []int32 // the entries that count, in the order in which apk would read them

	// The candidates of name i are cands[candAt[i]:candAt[i+1]].
	candAt []int32
	cands  []ref

	// waiting lists the names that have an install_if on a name, in listing order.
	waiting map[int32][]int32

	// ranks orders the names for listings.
	ranks []uint64

	linkOnce    sync.Once
	dependentAt []int32
	dependents  []int32
}

// An entry is one package of a table.
type entry struct {
	*apk.Package
	refs        [4]int32 // where in table.refs: what it depends on, what it provides, its install_if, the end
	name        int32
	repository  int32 // the first that lists it; -1: none
	standing    int32 // of the repository among all; the lowest is preferred
	tags        uint64
	available   bool
	installable bool
	installed   bool
	conditional bool // has an install_if
}

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

func (t *table) candidates(name int32) []ref { return t.cands[t.candAt[name]:t.candAt[name+1]] }

// The names that an entry mentions, without a look at the package itself.

func (t *table) depends(e *entry) []int32   { return t.refs[e.refs[0]:e.refs[1]] }
func (t *table) provides(e *entry) []int32  { return t.refs[e.refs[1]:e.refs[2]] }
func (t *table) installIf(e *entry) []int32 { return t.refs[e.refs[2]:e.refs[3]] }

// dependentsOf returns the names that have a candidate which depends on a
// name, in listing order.
func (t *table) dependentsOf(name int32) []int32 {
	t.linkOnce.Do(t.link)
	return t.dependents[t.dependentAt[name]:t.dependentAt[name+1]]
}

// link turns the dependencies around. Most tables that are compiled are never
// asked, so it waits for the first who does.
func (t *table) link() {
	listing := make([]int32, len(t.names))
	for i := range listing {
		listing[i] = int32(i)
	}
	slices.SortFunc(listing, t.compareListed)
	t.dependentAt = make([]int32, len(t.names)+1)
	t.eachDependent(listing, func(on, _ int32) { t.dependentAt[on+1]++ })
	t.dependents = fill(t.dependentAt, func(put func(on, n int32)) { t.eachDependent(listing, put) })
}

// eachDependent tells of every pair of names where a candidate of the second
// depends on the first, once, in listing order of the second.
func (t *table) eachDependent(listing []int32, yield func(on, name int32)) {
	last := make([]int32, len(t.names))
	for _, n := range listing {
		for _, r := range t.candidates(n) {
			for _, on := range t.depends(&t.entries[r.entry]) {
				if last[on] != n+1 {
					last[on] = n + 1
					yield(on, n)
				}
			}
		}
	}
}

// fill sums up the counts in at, of which at[i+1] is that of i, and then puts
// every item in its place.
func fill[T any](at []int32, each func(put func(i int32, item T))) []T {
	for i := range at[1:] {
		at[i+1] += at[i]
	}
	items := make([]T, at[len(at)-1])
	next := slices.Clone(at)
	each(func(i int32, item T) {
		items[next[i]] = item
		next[i]++
	})
	return items
}

func (t *table) compareListed(x, y int32) int { return cmp.Compare(t.ranks[x], t.ranks[y]) }

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

// A builder makes a table from another and new entries.
type builder struct {
	*table
	old      int // how many entries are those of the base
	byDigest map[apk.Checksum]int32
	created  []int32 // names in the order in which the new entries mention them
	isNew    []bool  // the new entries mention the name
}

func newBuilder(base *table, entries []entry, arch apk.Arch) *builder {
	n := len(entries)
	b := &builder{
		old:      len(base.entries),
		byDigest: make(map[apk.Checksum]int32, n),
		isNew:    make([]bool, len(base.names), len(base.names)+n),
		table: &table{
			base:    base,
			ids:     make(map[string]int32, n/2),
			names:   slices.Clip(base.names),
			entries: append(make([]entry, 0, len(base.entries)+n), base.entries...),
			refs:    append(make([]int32, 0, len(base.refs)+8*n), base.refs...),
		},
	}
	for _, e := range entries {
		e.installable = installable(e.Package, arch)
		e.conditional = len(e.InstallIf) > 0 && !slices.ContainsFunc(e.InstallIf, unreadable)
		b.add(e)
	}
	return b
}

// add enters a package. Packages with the same checksum are the same package.
func (b *builder) add(e entry) {
	if !e.Checksum.IsZero() {
		if i, ok := b.byDigest[e.Checksum]; ok {
			b.entries[i].tags |= e.tags
			b.entries[i].available = b.entries[i].available || e.available
			return
		}
		b.byDigest[e.Checksum] = int32(len(b.entries))
	}
	e.name = b.mention(e.Name)
	e.refs[0] = int32(len(b.refs))
	b.refer(e.Depends)
	e.refs[1] = int32(len(b.refs))
	b.refer(e.Provides)
	e.refs[2] = int32(len(b.refs))
	if e.conditional {
		b.refer(e.InstallIf)
	}
	e.refs[3] = int32(len(b.refs))
	b.entries = append(b.entries, e)
}

func (b *builder) refer(list []apk.Dependency) {
	for i := range list {
		b.refs = append(b.refs, b.mention(list[i].Name))
	}
}

// mention returns the number of a name, making one for a name not met before.
func (b *builder) mention(name string) int32 {
	id, ok := b.ids[name]
	if !ok {
		if id, ok = b.base.id(name); !ok {
			id = int32(len(b.names))
			b.names = append(b.names, name)
			b.isNew = append(b.isNew, false)
		}
		b.ids[name] = id
	}
	if !b.isNew[id] {
		b.isNew[id] = true
		b.created = append(b.created, id)
	}
	return id
}

// finish lists the new entries, then those of the base that are to be kept.
func (b *builder) finish(keep func(*entry) bool) *table {
	b.buckets = append(slices.Grow([]uint16(nil), len(b.names)), b.base.buckets...)
	for _, n := range b.names[len(b.buckets):] {
		b.buckets = append(b.buckets, bucket(n))
	}
	b.listed = make([]int32, 0, len(b.entries))
	for i := b.old; i < len(b.entries); i++ {
		b.listed = append(b.listed, int32(i))
	}
	for _, i := range b.base.listed {
		if keep(&b.entries[i]) {
			b.listed = append(b.listed, i)
		}
	}
	b.rank()
	b.candAt = make([]int32, len(b.names)+1)
	b.eachCandidate(func(name int32, _ ref) { b.candAt[name+1]++ })
	b.cands = fill(b.candAt, b.eachCandidate)
	b.wait()
	if b.old == 0 {
		b.base = nil
	}
	return b.table
}

// rank gives every name its place in listings, as if the new entries had been
// read first and the names been met in that order.
func (b *builder) rank() {
	b.ranks = make([]uint64, len(b.names))
	met := uint64(len(b.names))
	put := func(id int32) {
		met--
		b.ranks[id] = uint64(b.buckets[id])<<32 | met
	}
	for _, id := range b.created {
		put(id)
	}
	older := make([]int32, 0, len(b.base.names))
	for id := range b.base.names {
		if !b.isNew[id] {
			older = append(older, int32(id))
		}
	}
	slices.SortFunc(older, func(x, y int32) int {
		return cmp.Compare(uint32(b.base.ranks[y]), uint32(b.base.ranks[x]))
	})
	for _, id := range older {
		put(id)
	}
}

func (b *builder) eachCandidate(yield func(name int32, r ref)) {
	for _, i := range b.listed {
		e := &b.entries[i]
		yield(e.name, ref{i, -1})
		for j, id := range b.provides(e) {
			yield(id, ref{i, int32(j)})
		}
	}
}

// wait finds who waits for a name.
func (b *builder) wait() {
	b.waiting = map[int32][]int32{}
	for _, i := range b.listed {
		e := &b.entries[i]
		for _, on := range b.installIf(e) {
			b.waiting[on] = append(append(b.waiting[on], e.name), b.provides(e)...)
		}
	}
	for on := range maps.Keys(b.waiting) {
		slices.SortFunc(b.waiting[on], b.compareListed)
		b.waiting[on] = slices.Compact(b.waiting[on])
	}
}
