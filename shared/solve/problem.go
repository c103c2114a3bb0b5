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
	reached   []int32 // per name: its place in the order of decisions; 0: out of reach
	recheck   []bool  // per name: a dependency of a candidate may have become impossible

	values []*name
	packs  []*pack
	extra  map[string]*name // those of the world that no package mentions

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
	*entry
	name      *name
	depends   []dep
	provides  []dep
	installIf []dep
	oldTag    string // that it was installed under

	packState
}

// A dep is a dependency with its name looked up.
type dep struct {
	*apk.Dependency
	name *name
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
	p.recheck = make([]bool, len(p.names))
	p.values = make([]*name, len(p.names))
	p.packs = make([]*pack, p.count())
	for i := range world {
		d := &world[i]
		p.world = append(p.world, wanted{
			dep:    dep{Dependency: d},
			tags:   u.tagSet(d.Tag),
			broken: broken[d.Name] || !d.Valid(),
		})
	}
	slices.SortStableFunc(p.world, func(a, b wanted) int { return compareNames(a.Name, b.Name) })
	p.discover()
	for i := range p.world {
		p.world[i].name = p.lookup(p.world[i].Name)
	}
	for i := 0; i < len(p.entries) && p.entries[i].installed; i++ { // they are listed first
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
	n.text, n.id, n.order = p.names[id], id, p.reached[id]
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
	k.entry, k.name = e, p.nameOf(e.name)
	k.depends = p.deps(e.depends(), e.Depends)
	k.provides = p.deps(e.provides(), e.Provides)
	k.installIf = p.deps(e.installIf(), e.InstallIf)
	p.setUp(k)
	return k
}

func (p *problem) deps(ids []int32, list []apk.Dependency) []dep {
	if len(ids) > len(p.depBlock) {
		p.depBlock = make([]dep, max(1024, len(ids)))
	}
	deps := p.depBlock[:len(ids):len(ids)]
	p.depBlock = p.depBlock[len(ids):]
	for i, id := range ids {
		deps[i] = dep{&list[i], p.nameOf(id)}
	}
	return deps
}

// setUp is where the search starts with a package.
func (p *problem) setUp(k *pack) {
	k.had = k.tags
	if k.installed {
		k.oldTag = p.options.Tags[k.Name]
		k.had |= p.u.tagSet(k.oldTag)
	}
	k.open = k.installable && (k.available || k.InstalledSize == 0 || k.installed)
	k.barred = p.barredFromStart(k.entry)
	k.tagsAllowed = 1
	k.tagPreferred = k.had&1 != 0 || k.InstalledSize == 0
	k.tagOK = k.tagPreferred || k.installed
}

// barredFromStart reports whether the package can not come along by itself: it
// has no install_if, or is gone from where only what is available counts.
func (p *problem) barredFromStart(e *entry) bool {
	return !e.conditional() || p.options.Flags&Available != 0 && !e.available
}
