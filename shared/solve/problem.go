package solve

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

// A problem is the part of a universe that a world can reach, laid out for the
// search: names point at the packages that go by them, packages at the names
// that they mention. It belongs to one call of Solve, which works on it in place.
type problem struct {
	u         *Universe
	options   Options
	world     []wanted
	installed []*pack
	names     []*name // all, in the order in which they were met
	reached   int32   // how many names are discovered

	byID   [][]int32 // per layer: name id -> 1 + index in names
	byPack [][]*pack // per layer: entry -> its pack
	extra  map[string]*name
	merged map[place]bool // entries that are one with an installed package

	nameBlock []name
	packBlock []pack
	depBlock  []dep
}

// A place is where a package is in the universe.
type place struct {
	layer int
	entry int32
}

// A name, and where the search stands with it.
type name struct {
	text       string
	home       int    // the highest layer that knows it
	homeID     int32  // its number there
	rank       uint64 // position in listings, see order.go
	order      int32  // those with the highest order are decided first
	seen       bool   // the world can reach it
	candidates []candidate
	dependents []*name // the names of packages that depend on it
	waiting    []*name // the names of packages that have an install_if on it

	waitingKnown  bool
	lastDependent *name

	nameState
}

// A pack is a package, and where the search stands with it.
type pack struct {
	*entry
	name      *name
	depends   []dep
	provides  []dep
	installIf []dep
	seen      bool
	present   bool   // installed
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
	p := &problem{u: u, options: o, extra: map[string]*name{}}
	p.u = p.withInstalled()
	for _, l := range p.u.layers {
		p.byID = append(p.byID, make([]int32, len(l.names)))
		p.byPack = append(p.byPack, make([]*pack, len(l.entries)))
	}
	for i := range world {
		d := &world[i]
		p.world = append(p.world, wanted{
			dep:    dep{d, p.lookup(d.Name)},
			tags:   u.tagSet(d.Tag),
			broken: broken[d.Name] || !d.Valid(),
		})
	}
	slices.SortStableFunc(p.world, func(a, b wanted) int { return compareNames(a.Name, b.Name) })
	for _, w := range p.world {
		if !w.broken {
			p.discover(w.name)
		}
	}
	p.addInstalled()
	p.linkDependents()
	return p
}

// withInstalled returns the universe with what is installed on top, hiding
// nothing. A package that a repository has as well is one package.
func (p *problem) withInstalled() *Universe {
	if len(p.options.Installed) == 0 {
		return p.u
	}
	b := newBuilder(p.u.arch, []Repository{{Index: &apk.Index{Packages: p.options.Installed}}})
	for _, k := range p.options.Installed {
		b.add(entry{Package: k, repository: -1, standing: math.MinInt32})
	}
	top := b.finish()
	over := *p.u
	over.layers = append([]*layer{top}, p.u.layers...)
	p.merged = map[place]bool{}
	for i := range top.entries {
		over.merge(&top.entries[i], p.merged)
	}
	return &over
}

// merge finds the entries that are the same package as e of the highest layer.
func (u *Universe) merge(e *entry, merged map[place]bool) {
	for i, l := range u.layers {
		id, ok := l.ids[e.Name]
		if i == 0 || !ok || e.Checksum.IsZero() {
			continue
		}
		for _, r := range l.candidates(id) {
			if o := &l.entries[r.entry]; o.Checksum == e.Checksum && !u.hidden(i, o.Name) {
				merged[place{i, r.entry}] = true
				e.tags, e.available = e.tags|o.tags, e.available || o.available
				if e.repository < 0 {
					e.repository, e.standing = o.repository, o.standing
				}
			}
		}
	}
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

// lookup returns the name, which no layer may know.
func (p *problem) lookup(text string) *name {
	for i, l := range p.u.layers {
		if id, ok := l.ids[text]; ok {
			return p.nameOf(i, id)
		}
	}
	n, ok := p.extra[text]
	if !ok {
		n = p.newName(text)
		n.home = len(p.u.layers)
		p.extra[text] = n
	}
	return n
}

// nameOf returns the name with the number that a layer has for it.
func (p *problem) nameOf(layer int, id int32) *name {
	if at := p.byID[layer][id]; at != 0 {
		return p.names[at-1]
	}
	text := p.u.layers[layer].names[id]
	n := p.newName(text)
	n.home, n.homeID = layer, id
	p.byID[layer][id] = int32(len(p.names))
	for i, l := range p.u.layers {
		if i == layer {
			continue
		}
		if id, ok := l.ids[text]; ok {
			p.byID[i][id] = int32(len(p.names))
			if i < n.home {
				n.home, n.homeID = i, id
			}
		}
	}
	n.rank = rank(p.u.layers[n.home].buckets[n.homeID], n.home, n.homeID)
	return n
}

func (p *problem) newName(text string) *name {
	if len(p.nameBlock) == 0 {
		p.nameBlock = make([]name, 256)
	}
	n := &p.nameBlock[0]
	p.nameBlock = p.nameBlock[1:]
	n.text = text
	p.names = append(p.names, n)
	return n
}

// idIn returns the number that a layer has for a name.
func (p *problem) idIn(layer int, n *name) (int32, bool) {
	if layer == n.home {
		return n.homeID, true
	}
	if layer < n.home {
		return 0, false
	}
	id, ok := p.u.layers[layer].ids[n.text]
	return id, ok
}

// packOf returns the package with the number that a layer has for it.
func (p *problem) packOf(layer int, id int32) *pack {
	if k := p.byPack[layer][id]; k != nil {
		return k
	}
	if len(p.packBlock) == 0 {
		p.packBlock = make([]pack, 256)
	}
	k := &p.packBlock[0]
	p.packBlock = p.packBlock[1:]
	p.byPack[layer][id] = k
	l := p.u.layers[layer]
	e := &l.entries[id]
	refs := l.refs[e.refs:]
	if layer == 0 && len(p.options.Installed) > 0 {
		k.present = true
		k.oldTag = p.options.Tags[e.Name]
	}
	k.entry, k.name = e, p.nameOf(layer, refs[0])
	refs = refs[1:]
	k.depends = p.deps(layer, refs, e.Depends)
	refs = refs[len(e.Depends):]
	k.provides = p.deps(layer, refs, e.Provides)
	k.installIf = p.deps(layer, refs[len(e.Provides):], installIf(e.Package))
	return k
}

func (p *problem) deps(layer int, ids []int32, list []apk.Dependency) []dep {
	if len(list) > len(p.depBlock) {
		p.depBlock = make([]dep, max(2048, len(list)))
	}
	deps := p.depBlock[:len(list):len(list)]
	p.depBlock = p.depBlock[len(list):]
	for i := range list {
		deps[i] = dep{&list[i], p.nameOf(layer, ids[i])}
	}
	return deps
}

// discover takes in all that a name can lead to, depth first, and gives it its
// place in the order of decisions. That order is part of the law: among names
// that wait for a decision the marked come before the rest, names of packages
// before names that are only provided, and those discovered later before those
// discovered earlier, where a name counts as discovered when all that its
// candidates depend on is.
func (p *problem) discover(n *name) {
	if n.seen {
		return
	}
	n.seen = true
	n.candidates = p.candidatesOf(n)
	real := false
	n.dead = true
	for _, c := range n.candidates {
		if !c.seen {
			p.enter(c.pack)
		}
		n.dead = n.dead && c.barred
		real = real || c.name == n
	}
	n.waiting = p.waitingFor(n)
	for _, w := range n.waiting {
		p.discover(w)
	}
	for _, c := range n.candidates {
		for _, w := range p.waitingFor(c.name) {
			p.discover(w)
		}
		for _, d := range c.provides {
			p.discover(d.name)
		}
	}
	p.reached++
	n.order = p.reached
	if real {
		n.order |= 1 << 29
	}
	if p.marked(n) {
		n.order |= 1 << 30
	}
	for _, c := range n.candidates {
		for _, d := range c.installIf {
			p.discover(d.name)
		}
	}
}

// enter sets a package up and discovers what it depends on.
func (p *problem) enter(k *pack) {
	k.seen = true
	k.had = k.tags
	if k.present {
		k.had |= p.u.tagSet(k.oldTag)
	}
	k.open = k.installable && (k.available || k.InstalledSize == 0 || k.present)
	k.barred = len(k.installIf) == 0 || p.options.Flags&Available != 0 && !k.available
	k.tagsAllowed = 1
	k.tagPreferred = k.had&1 != 0 || k.InstalledSize == 0
	k.tagOK = k.tagPreferred || k.present
	for _, d := range k.depends {
		p.discover(d.name)
	}
}

func (p *problem) marked(n *name) bool {
	if p.options.Marks != nil {
		_, ok := p.options.Marks[n.text]
		return ok
	}
	return slices.ContainsFunc(p.world, func(w wanted) bool { return w.name == n })
}

// candidatesOf returns who goes by a name, the highest layer first.
func (p *problem) candidatesOf(n *name) []candidate {
	var list []candidate
	for layer := range p.u.layers {
		list = p.appendCandidates(list, n, layer)
	}
	return list
}

func (p *problem) appendCandidates(list []candidate, n *name, layer int) []candidate {
	id, ok := p.idIn(layer, n)
	if !ok {
		return list
	}
	l := p.u.layers[layer]
	refs := l.candidates(id)
	list = slices.Grow(list, len(refs))
	for _, r := range refs {
		e := &l.entries[r.entry]
		if layer > 0 && (p.merged[place{layer, r.entry}] || p.u.hidden(layer, e.Name)) {
			continue
		}
		list = append(list, candidate{p.packOf(layer, r.entry), r.version(e)})
	}
	return list
}

// waitingFor returns the names that have an install_if on n, in listing order.
func (p *problem) waitingFor(n *name) []*name {
	if n.waitingKnown {
		return n.waiting
	}
	n.waitingKnown = true
	for layer := range p.u.layers {
		p.addWaiting(n, layer)
	}
	if len(p.u.layers) > 1 {
		slices.SortFunc(n.waiting, func(a, b *name) int { return cmp.Compare(a.rank, b.rank) })
		n.waiting = slices.Compact(n.waiting)
	}
	return n.waiting
}

func (p *problem) addWaiting(n *name, layer int) {
	id, ok := p.idIn(layer, n)
	if !ok {
		return
	}
	for _, w := range p.u.layers[layer].waiting[id] {
		n.waiting = append(n.waiting, p.nameOf(layer, w))
	}
}

// addInstalled takes in what is installed and not within reach of the world,
// for it may have to go. The search proper never sees it.
func (p *problem) addInstalled() {
	if len(p.options.Installed) == 0 {
		return
	}
	for i := range p.u.layers[0].entries {
		p.installed = append(p.installed, p.packOf(0, int32(i)))
	}
	for _, k := range p.installed {
		p.addName(k.name)
		for _, d := range k.provides {
			p.addName(d.name)
		}
	}
}

func (p *problem) addName(n *name) {
	if n.seen || n.candidates != nil {
		return
	}
	n.candidates = p.appendCandidates(nil, n, 0)
	if !n.waitingKnown {
		n.waitingKnown = true
		p.addWaiting(n, 0)
	}
}

// linkDependents turns the dependencies around: every name learns which names
// have a candidate that depends on it, in listing order.
func (p *problem) linkDependents() {
	listing := slices.Clone(p.names)
	slices.SortFunc(listing, func(a, b *name) int { return cmp.Compare(a.rank, b.rank) })
	for _, n := range listing {
		for _, c := range n.candidates {
			for i := range c.depends {
				d := c.depends[i].name
				if d.lastDependent != n {
					d.lastDependent = n
					d.dependents = append(d.dependents, n)
				}
			}
		}
	}
}
