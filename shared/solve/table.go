package solve

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"distro.internal/shared/apk"
)

// A table is the graph of a universe in flat arrays: every name that the
// packages mention has a number, and so has every package. What the search
// learns about them is kept elsewhere, so that a table can be shared.
//
// The arrays have no pointers in them. They were made by a builder, or they lie
// in a file that a builder's table was written to (encode.go).
//
// A table may lie over another one: then it has only what is different.
type table struct {
	base       *table // nil: none
	firstName  int32  // those with lower numbers are of the base
	firstEntry int32

	flat
	texts  texts          // what the arrays do not say about entries that were read,
	made   []*apk.Package // and what the others were made of
	parsed parsed

	candidates lists[ref] // of a name: who goes by it

	linkOnce   sync.Once
	dependents lists[int32] // of a name: the names with a candidate that depends on it, in listing order
	waiting    lists[int32] // of a name: the names with a candidate that has an install_if on it, in listing order

	gone []int32 // entries of the base that do not count
}

// flat is what a table has of its own.
type flat struct {
	names     pool
	versions  pool
	outlineOf []int32 // of the entries: the number in outlines
	outlines  []outline
	mentions  []int32
	terms     []term
	details   []detail
	origins   []origin
}

// An outline is an entry's part of the graph: its name, and the names in Depends, Provides
// and InstallIf, one after another in mentions. Versions of a package mostly have it in
// common. Discovery needs nothing else.
type outline struct {
	name                              int32
	from, dependsEnd, provideEnd, end int32
	plain                             int32 // how many in InstallIf come first and take any version; -1: some is a conflict
}

// A term is what an entry says of a name that it mentions: the version by its
// number, the operator by its place in operators, and whether it is a conflict.
type term uint32

const (
	termConflict     = 1
	termOperator     = 1 // bit
	termOperatorMask = 15
	termVersion      = 5 // bit
)

func newTerm(version int32, op uint8, conflict bool) term {
	t := term(version)<<termVersion | term(op)<<termOperator
	if conflict {
		t |= termConflict
	}
	return t
}

func (t term) version() int32 { return int32(t >> termVersion) }
func (t term) op() uint8      { return uint8(t >> termOperator & termOperatorMask) }
func (t term) conflict() bool { return t&termConflict != 0 }

// operators in the order in which terms number them, which is part of the format.
var operators = [...]apk.Op{
	apk.Any, apk.Equal, apk.Less, apk.LessOrEqual, apk.Greater, apk.GreaterOrEqual,
	apk.Fuzzy, apk.LessOrFuzzy, apk.GreaterOrFuzzy, apk.SameChecksum,
}

// A detail is what the search asks about an entry.
type detail struct {
	tags       uint64
	version    int32
	priority   int32
	repository int32 // the first that lists it; -1: none
	standing   int32 // of the repository among all; the lowest is preferred
	terms      int32 // where those of its mentions begin
	facts      facts
	_          [3]uint8
}

// An origin is what is asked about few entries, and therefore lies elsewhere.
type origin struct {
	common, own span // in texts; own is a place in made when common is wasMade
	checksum    apk.Checksum
}

var wasMade = span{length: math.MaxUint32}

func (o *origin) made() bool { return o.common == wasMade }

type facts uint8

const (
	available facts = 1 << iota
	installable
	installed
	hollow // without files: it may come from anywhere
)

// An entry is one package of a table.
type entry struct {
	t *table // its own
	i int32  // in t
}

func (t *table) entry(i int32) entry {
	for i < t.firstEntry {
		t = t.base
	}
	return entry{t, i - t.firstEntry}
}

func (e entry) outline() *outline { return &e.t.outlines[e.t.outlineOf[e.i]] }
func (e entry) detail() *detail   { return &e.t.details[e.i] }
func (e entry) origin() *origin   { return &e.t.origins[e.i] }
func (e entry) nameID() int32     { return e.outline().name }
func (e entry) name() string      { return e.t.nameAt(e.nameID()) }
func (e entry) version() apk.Version {
	return apk.Version(e.t.versions.at(e.detail().version))
}

func (e entry) depends() []int32 {
	o := e.outline()
	return e.t.mentions[o.from:o.dependsEnd]
}

func (e entry) provides() []int32 {
	o := e.outline()
	return e.t.mentions[o.dependsEnd:o.provideEnd]
}

func (e entry) installIf() []int32 {
	o := e.outline()
	return e.t.mentions[o.provideEnd:o.end]
}

func (e entry) conditional() bool    { return e.outline().conditional() }
func (o *outline) conditional() bool { return o.provideEnd < o.end }

// terms are what it says of its mentions.
func (e entry) terms() []term {
	from, o := e.detail().terms, e.outline()
	return e.t.terms[from:][:o.end-o.from]
}

// Package returns the package itself, always the same one for an entry.
func (e entry) Package() *apk.Package {
	if o := e.origin(); o.made() {
		return e.t.made[o.own.at]
	}
	return e.t.parsed.get(e)
}

// texts are what is kept of the text of indexes, one block behind another: in
// memory, or in a file, from some place on.
type texts struct {
	blocks [][]byte
	length uint64
	file   io.ReaderAt
	start  int64
}

// A span is a piece of the texts, which lies in one block.
type span struct{ at, length uint32 }

const blockSize = 1 << 20

// add takes in a piece.
func (t *texts) add(piece []byte) span {
	last := len(t.blocks) - 1
	if last < 0 || len(piece) > cap(t.blocks[last])-len(t.blocks[last]) {
		t.blocks = append(t.blocks, make([]byte, 0, max(blockSize, len(piece))))
		last++
	}
	t.blocks[last] = append(t.blocks[last], piece...)
	s := span{uint32(t.length), uint32(len(piece))}
	t.length += uint64(len(piece))
	return s
}

// piece returns a piece that was added, from memory.
func (t *texts) piece(s span) []byte {
	at := uint64(s.at)
	for _, b := range t.blocks {
		if at < uint64(len(b)) {
			return b[at:][:s.length]
		}
		at -= uint64(len(b))
	}
	return nil
}

// all returns the whole text.
func (t *texts) all() ([]byte, error) {
	all := make([]byte, 0, t.length)
	for _, b := range t.blocks {
		all = append(all, b...)
	}
	if t.file == nil {
		return all, nil
	}
	_, err := t.file.ReadAt(all[:t.length], t.start)
	return all[:t.length], err
}

// read is piece from wherever it is.
func (t *texts) read(s span) ([]byte, error) {
	if t.file == nil || s.length == 0 {
		return t.piece(s), nil
	}
	b := make([]byte, s.length)
	_, err := t.file.ReadAt(b, t.start+int64(s.at))
	return b, err
}

// parsed are the packages of a table that were asked for.
type parsed struct {
	mu       sync.Mutex
	packages map[int32]*apk.Package
}

func (p *parsed) get(e entry) *apk.Package {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.packages[e.i]; ok {
		return k
	}
	if p.packages == nil {
		p.packages = map[int32]*apk.Package{}
	}
	k, err := e.restore()
	if err != nil {
		panic(fmt.Sprintf("solve: what is left of %s was text before, and now can not be read: %v", e.name(), err))
	}
	p.packages[e.i] = k
	return k
}

// restore puts a package together again: the names and versions are in the
// arrays, the rest is text.
func (e entry) restore() (*apk.Package, error) {
	o := e.origin()
	provides, conditions := len(e.depends()), len(e.depends())+len(e.provides())
	k := &apk.Package{
		Name: e.name(), Version: e.version(), Checksum: o.checksum, ProviderPriority: int(e.detail().priority),
		Depends:   e.dependencies(e.depends(), e.terms()),
		Provides:  e.dependencies(e.provides(), e.terms()[provides:]),
		InstallIf: e.dependencies(e.installIf(), e.terms()[conditions:]),
	}
	for _, s := range []span{o.common, o.own} {
		text, err := e.t.texts.read(s)
		if err == nil {
			err = k.SetFields(string(text))
		}
		if err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (e entry) dependencies(names []int32, terms []term) []apk.Dependency {
	if len(names) == 0 {
		return nil
	}
	list := make([]apk.Dependency, len(names))
	for i, id := range names {
		m := terms[i]
		list[i] = apk.Dependency{
			Name: e.t.nameAt(id), Op: operators[m.op()], Version: apk.Version(e.t.versions.at(m.version())), Conflict: m.conflict(),
		}
	}
	return list
}

// is reports whether any of the facts holds.
func (d *detail) is(f facts) bool { return d.facts&f != 0 }

// mayServe reports whether the package may be chosen for something wanted
// under the tags.
func (d *detail) mayServe(tags uint64) bool {
	return d.tags&(1|tags) != 0 || d.is(hollow)
}

// A ref is one way to go by a name: an entry under its own name (provide is -1)
// or by one of the things that it provides.
type ref struct{ entry, provide int32 }

// version returns the version under which e, the entry of r, goes by the name.
func (r ref) version(e entry) apk.Version {
	if r.provide < 0 {
		return e.version()
	}
	o := e.outline()
	return apk.Version(e.t.versions.at(e.t.terms[e.detail().terms+o.dependsEnd-o.from+r.provide].version()))
}

func (t *table) id(name string) (int32, bool) { return t.idHashed(name, hashOf(name)) }

func (t *table) idHashed(name string, hash uint32) (int32, bool) {
	for ; t != nil; t = t.base {
		if id, _, ok := t.names.find(name, hash); ok {
			return t.firstName + id, true
		}
	}
	return 0, false
}

func (t *table) nameAt(id int32) string {
	for id < t.firstName {
		t = t.base
	}
	return t.names.at(id - t.firstName)
}

func (t *table) rank(id int32) uint64 {
	own := t
	for id < own.firstName {
		own = own.base
	}
	return rank(own.names.hashes[id-own.firstName], id)
}

func (t *table) compareListed(x, y int32) int { return cmp.Compare(t.rank(x), t.rank(y)) }

func (t *table) nameCount() int32  { return t.firstName + t.names.count() }
func (t *table) entryCount() int32 { return t.firstEntry + int32(len(t.details)) }

// each yields the entries that count, in the order in which apk would read them.
func (t *table) each(yield func(entry) bool) {
	for i := range t.details {
		if !yield(entry{t, int32(i)}) {
			return
		}
	}
	if t.base == nil {
		return
	}
	gone := map[entry]bool{}
	for _, i := range t.gone {
		gone[t.entry(i)] = true
	}
	t.base.each(func(e entry) bool { return gone[e] || yield(e) })
}

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
func newLists[T any](n int32, each func(yield func(i int32, item T))) lists[T] {
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
		switch {
		case t.base != nil:
			t.base.link()
			t.dependents = t.patchMentions(&t.base.dependents, entry.depends)
			t.waiting = t.patchMentions(&t.base.waiting, entry.installIf)
		case t.dependents.at == nil: // else it came with them
			listing := t.listing()
			t.dependents = t.mentioning(listing, entry.depends)
			t.waiting = t.mentioning(listing, entry.installIf)
		}
	})
}

// listing returns all names of a table without a base in listing order.
func (t *table) listing() []int32 {
	return newLists(buckets, func(yield func(bucket, id int32)) {
		for id := t.nameCount() - 1; id >= 0; id-- {
			yield(int32(t.names.hashes[id]%buckets), id)
		}
	}).items
}

// mentioning lists, for every name, the names with a candidate that mentions it.
func (t *table) mentioning(listing []int32, of func(entry) []int32) lists[int32] {
	type pair struct{ on, n int32 }
	pairs := make([]pair, 0, len(t.mentions))
	last := make([]int32, t.nameCount())
	for _, n := range listing {
		var done *outline
		for _, r := range t.candidates.of(n) {
			e := entry{t, r.entry}
			if e.outline() == done {
				continue
			}
			done = e.outline()
			for _, on := range of(e) {
				if last[on] != n+1 {
					last[on] = n + 1
					pairs = append(pairs, pair{on, n})
				}
			}
		}
	}
	return newLists(t.nameCount(), func(yield func(i, n int32)) {
		for _, p := range pairs {
			yield(p.on, p.n)
		}
	})
}

// goesBy yields all names of an entry, given its number in all.
func (e entry) goesBy(i int32, yield func(int32, ref)) {
	yield(e.nameID(), ref{i, -1})
	for j, name := range e.provides() {
		yield(name, ref{i, int32(j)})
	}
}
