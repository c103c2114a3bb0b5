package solve

import (
	"cmp"
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

// A problem is a world and the part of a universe that it can reach. It
// belongs to one call of Solve, which works on it in place.
//
// What is reached is known by number only. Names and packages become values,
// with room for what the search learns about them, when the search comes to
// them: that is a small part of what the world could reach.
type problem struct {
	*table
	u         *Universe
	options   Options
	world     []wanted
	installed []*pack
	places    []int32 // per name: its place in the order of decisions; 0: out of reach
	news      []news  // per name: what its review will have to look at

	values []*name
	packs  []*pack
	extra  map[string]*name // those of the world that no package mentions

	rejections []rejection

	nameBlock []name
	packBlock []pack
	depBlock  []dep
}

// A name, and where the search stands with it.
type name struct {
	text       string
	id         int32 // -1: no package mentions it
	order      int32 // those with the highest order are decided first; 0: out of reach
	candidates []candidate
	expanded   bool // candidates are known, see candidatesOf

	nameState
}

// A pack is a package, and where the search stands with it.
type pack struct {
	entry
	*detail
	problem    *problem
	name       *name
	deps       []dep // what it depends on, what it provides, and its install_if, once somebody has asked
	dependsEnd int32 // in deps
	provideEnd int32

	packState
}

func (k *pack) depends() []dep   { return k.mentions()[:k.dependsEnd] }
func (k *pack) provides() []dep  { return k.mentions()[k.dependsEnd:k.provideEnd] }
func (k *pack) installIf() []dep { return k.mentions()[k.provideEnd:] }

func (k *pack) mentions() []dep {
	if k.deps == nil {
		k.deps = k.problem.deps(k.entry)
	}
	return k.deps
}

// oldTag is what it was installed under.
func (p *problem) oldTag(k *pack) string {
	if !k.is(installed) {
		return ""
	}
	return p.options.Tags[k.name.text]
}

// A dep is a dependency with its name looked up.
type dep struct {
	name     *name
	version  apk.Version
	op       uint8 // in operators
	conflict bool
}

func (d dep) String() string { return d.dependency().String() }

func (d dep) dependency() apk.Dependency {
	return apk.Dependency{Name: d.name.text, Op: operators[d.op], Version: d.version, Conflict: d.conflict}
}

// A candidate is a package under one of the names that it goes by. Its version
// under that name is empty when it is provided without one.
type candidate struct {
	*pack
	version apk.Version
}

// A wanted thing is a dependency of the world.
type wanted struct {
	dep
	*apk.Dependency
	tags   uint64
	broken bool // given up
}

// pose reads the world and discovers what it reaches. The names in broken are
// given up.
func (u *Universe) pose(world []apk.Dependency, o Options, broken map[string]bool) *problem {
	p := &problem{
		u:       u,
		options: o,
		table:   u.withInstalled(o.Installed),
		extra:   map[string]*name{},
	}
	p.link()
	p.values = make([]*name, p.nameCount())
	p.packs = make([]*pack, p.entryCount())
	for i := range world {
		d := &world[i]
		p.world = append(p.world, wanted{
			dep:        dep{version: d.Version, op: operator(d.Op), conflict: d.Conflict},
			Dependency: d,
			tags:       u.tagSet(d.Tag),
			broken:     broken[d.Name] || !d.Valid(),
		})
	}
	slices.SortStableFunc(p.world, func(a, b wanted) int { return compareNames(a.Name, b.Name) })
	p.discover()
	for i := range p.world {
		p.world[i].name = p.lookup(p.world[i].Name)
	}
	for i := 0; i < len(p.details) && p.details[i].is(installed); i++ { // they are listed first
		p.installed = append(p.installed, p.packOf(int32(i)))
	}
	return p
}

// compareNames orders names as apk lists them: without regard to case first.
func compareNames(a, b string) int {
	return cmp.Or(strings.Compare(lower(a), lower(b)), strings.Compare(a, b))
}

// lower is strings.ToLower for ASCII alone.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// lookup returns a name that the table may not know.
func (p *problem) lookup(text string) *name {
	if id, ok := p.id(text); ok {
		return p.nameOf(id)
	}
	n, ok := p.extra[text]
	if !ok {
		n = &name{text: text, id: -1, expanded: true}
		p.extra[text] = n
	}
	return n
}

func (p *problem) nameOf(id int32) *name {
	if n := p.values[id]; n != nil {
		return n
	}
	if len(p.nameBlock) == 0 {
		p.nameBlock = make([]name, 64)
	}
	n := &p.nameBlock[0]
	p.nameBlock = p.nameBlock[1:]
	n.text, n.id, n.order = p.nameAt(id), id, p.places[id]
	p.values[id] = n
	return n
}

// candidatesOf returns who goes by a name.
func (p *problem) candidatesOf(n *name) []candidate {
	if !n.expanded {
		n.expanded = true
		refs := p.candidates.of(n.id)
		n.candidates = make([]candidate, len(refs))
		n.dead = true
		for i, r := range refs {
			k := p.packOf(r.entry)
			n.candidates[i] = candidate{k, r.version(k.entry)}
			n.dead = n.dead && p.barredFromStart(k.entry)
		}
	}
	return n.candidates
}

func (p *problem) packOf(id int32) *pack {
	if k := p.packs[id]; k != nil {
		return k
	}
	if len(p.packBlock) == 0 {
		p.packBlock = make([]pack, 64)
	}
	k := &p.packBlock[0]
	p.packBlock = p.packBlock[1:]
	p.packs[id] = k
	e := p.entry(id)
	k.entry, k.detail, k.problem, k.name = e, e.detail(), p, p.nameOf(e.nameID())
	o := e.outline()
	k.dependsEnd, k.provideEnd = o.dependsEnd-o.from, o.provideEnd-o.from
	p.setUp(k)
	return k
}

// deps reads what an entry mentions.
func (p *problem) deps(e entry) []dep {
	t, o, terms := e.t, e.outline(), e.terms()
	n := len(terms)
	if n > len(p.depBlock) {
		p.depBlock = make([]dep, max(1024, n))
	}
	deps := p.depBlock[:n:n]
	p.depBlock = p.depBlock[n:]
	for i, id := range t.mentions[o.from:o.end] {
		m := terms[i]
		deps[i] = dep{p.nameOf(id), apk.Version(t.versions.at(m.version())), m.op(), m.conflict()}
	}
	return deps
}

// setUp is where the search starts with a package.
func (p *problem) setUp(k *pack) {
	k.had = k.tags
	if k.is(installed) {
		k.had |= p.u.tagSet(p.oldTag(k))
	}
	k.open = k.is(installable) && k.is(available|hollow|installed)
	k.barred = p.barredFromStart(k.entry)
	k.tagsAllowed = 1
	k.tagPreferred = k.had&1 != 0 || k.is(hollow)
	k.tagOK = k.tagPreferred || k.is(installed)
}

// barredFromStart reports whether the package can not come along by itself: it
// has no install_if, or is gone from where only what is available counts.
func (p *problem) barredFromStart(e entry) bool {
	return !e.conditional() || p.options.Flags&Available != 0 && !e.detail().is(available)
}
