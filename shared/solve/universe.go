package solve

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"distro.internal/shared/apk"
)

// A Universe is repositories compiled for solving: every name with the packages
// that go by it. It is immutable, and any number of goroutines may solve over it.
//
// It is a stack of layers. A package of a layer is hidden when a layer above
// owns its name.
type Universe struct {
	arch         apk.Arch
	repositories []Repository
	tags         []string // tags[0] is no tag; bit i of a tag set is tags[i]
	used         uint64   // tags that some repository has
	layers       []*layer // highest first
	err          error
}

const maxTags = 64

// Compile builds the Universe of some repositories. Earlier repositories are
// preferred where nothing else decides.
func Compile(repositories []Repository, arch apk.Arch) *Universe {
	u := &Universe{arch: arch, tags: []string{""}}
	u.push(repositories, false)
	return u
}

// Overlay returns u with one more repository on top. Its packages hide those
// of u that have the same name, whatever their versions. It costs as much as
// compiling the new repository alone.
func (u *Universe) Overlay(r Repository) *Universe {
	over := *u
	over.push([]Repository{r}, true)
	return &over
}

// Repositories returns what Chosen.Repository counts: those given to Compile,
// then those of each Overlay.
func (u *Universe) Repositories() []Repository { return slices.Clone(u.repositories) }

func (u *Universe) push(repositories []Repository, owns bool) {
	b := newBuilder(u.arch, repositories)
	b.owns = owns
	for i, r := range repositories {
		if r.Index == nil {
			continue
		}
		tag := uint64(1) << u.tag(r.Tag)
		u.used |= tag
		e := entry{repository: int32(len(u.repositories) + i), tags: tag, available: !r.Unavailable}
		e.standing = e.repository
		if owns {
			e.standing = -e.repository
		}
		for _, e.Package = range r.Index.Packages {
			b.add(e)
		}
	}
	u.repositories = append(slices.Clip(u.repositories), repositories...)
	u.layers = append([]*layer{b.finish()}, u.layers...)
}

// tag returns the number of a tag, making one for a tag not met before.
func (u *Universe) tag(name string) int {
	if i := slices.Index(u.tags, name); i >= 0 {
		return i
	}
	if len(u.tags) == maxTags {
		u.err = fmt.Errorf("more than %d repository tags", maxTags-1)
		return 0
	}
	u.tags = append(slices.Clip(u.tags), name)
	return len(u.tags) - 1
}

// tagSet returns the set of the one tag, which is empty if no repository has it.
func (u *Universe) tagSet(tag string) uint64 {
	i := slices.Index(u.tags, tag)
	if i < 0 {
		return 0
	}
	return u.used & (1 << i)
}

// hidden reports whether the package is under one that owns its name, given
// the position of its own layer.
func (u *Universe) hidden(layer int, name string) bool {
	for _, l := range u.layers[:layer] {
		if l.owned[name] {
			return true
		}
	}
	return false
}

// Providers returns all packages that satisfy d on their own, best first: by
// the version under the name asked for, then their own, then by provider
// priority and repository. A conflict has no providers.
func (u *Universe) Providers(d apk.Dependency) []*apk.Package {
	type provider struct {
		*apk.Package
		version apk.Version
	}
	if d.Conflict {
		return nil
	}
	var found []provider
	for i, l := range u.layers {
		id, ok := l.ids[d.Name]
		if !ok {
			continue
		}
		for _, r := range l.candidates(id) {
			e := &l.entries[r.entry]
			v := r.version(e)
			if e.installable && !u.hidden(i, e.Name) && e.mayServe(u, d.Tag) && d.SatisfiedBy(v, e.Checksum) {
				found = append(found, provider{e.Package, v})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b provider) int {
		return cmp.Or(
			compareProvided(b.version, a.version),
			apk.Compare(b.Version, a.Version),
			cmp.Compare(b.ProviderPriority, a.ProviderPriority),
		)
	})
	packages := make([]*apk.Package, 0, len(found))
	for i, p := range found {
		if i == 0 || p.Package != found[i-1].Package {
			packages = append(packages, p.Package)
		}
	}
	return packages
}

// compareProvided compares versions under a shared name. One that is provided
// without a version is neither older nor newer.
func compareProvided(a, b apk.Version) int {
	if a == "" || b == "" {
		return 0
	}
	return apk.Compare(a, b)
}

// A layer is the name table of some repositories: every name that they
// mention, numbered in the order of first mention, and who goes by it.
type layer struct {
	names   []string
	ids     map[string]int32
	buckets []uint16 // of each name, see bucket
	entries []entry
	refs    []int32 // names that an entry mentions, one entry after another

	// The candidates of name i are cands[candAt[i]:candAt[i+1]].
	candAt []int32
	cands  []ref

	// waiting lists the names that have an install_if on a name, in listing order.
	waiting map[int32][]int32

	owned map[string]bool // package names that lower layers have no say in
}

// An entry is one package of a layer.
type entry struct {
	*apk.Package
	refs        int32 // its own name in layer.refs; then those of Depends, Provides, InstallIf
	repository  int32 // the first that lists it; -1: none
	standing    int32 // of the repository among all; the lowest is preferred
	tags        uint64
	available   bool
	installable bool
}

// mayServe reports whether the package may be chosen for something wanted
// under the tag.
func (e *entry) mayServe(u *Universe, tag string) bool {
	return e.tags&(1|u.tagSet(tag)) != 0 || e.InstalledSize == 0
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

func (l *layer) candidates(id int32) []ref { return l.cands[l.candAt[id]:l.candAt[id+1]] }

// installIf returns when p wants to come along by itself. A condition that
// can not be read is no condition at all, not a weaker one.
func installIf(p *apk.Package) []apk.Dependency {
	for _, d := range p.InstallIf {
		if !d.Valid() || d.Tag != "" {
			return nil
		}
	}
	return p.InstallIf
}

func installable(p *apk.Package, arch apk.Arch) bool {
	if p.Arch != "" && p.Arch != "noarch" && p.Arch != arch {
		return false
	}
	for i := range p.Depends {
		if d := &p.Depends[i]; d.Op != apk.Any && !d.Valid() || d.Tag != "" {
			return false
		}
	}
	return true
}

// A builder makes a layer.
type builder struct {
	*layer
	arch     apk.Arch
	owns     bool
	byDigest map[apk.Checksum]int32
}

func newBuilder(arch apk.Arch, repositories []Repository) *builder {
	n := 0
	for _, r := range repositories {
		if r.Index != nil {
			n += len(r.Index.Packages)
		}
	}
	return &builder{
		arch:     arch,
		byDigest: make(map[apk.Checksum]int32, n),
		layer: &layer{
			ids:     make(map[string]int32, n),
			names:   make([]string, 0, n),
			entries: make([]entry, 0, n),
			refs:    make([]int32, 0, 8*n),
			waiting: map[int32][]int32{},
		},
	}
}

func (b *builder) intern(name string) {
	id, ok := b.ids[name]
	if !ok {
		id = int32(len(b.names))
		b.ids[name] = id
		b.names = append(b.names, name)
	}
	b.refs = append(b.refs, id)
}

// add enters a package. Packages with the same checksum are the same package.
func (b *builder) add(e entry) {
	p := e.Package
	if !p.Checksum.IsZero() {
		if i, ok := b.byDigest[p.Checksum]; ok {
			b.entries[i].tags |= e.tags
			b.entries[i].available = b.entries[i].available || e.available
			return
		}
		b.byDigest[p.Checksum] = int32(len(b.entries))
	}
	e.refs = int32(len(b.refs))
	e.installable = installable(p, b.arch)
	b.entries = append(b.entries, e)
	b.intern(p.Name)
	for i := range p.Depends {
		b.intern(p.Depends[i].Name)
	}
	for i := range p.Provides {
		b.intern(p.Provides[i].Name)
	}
	for _, d := range installIf(p) {
		b.intern(d.Name)
	}
}

func (b *builder) finish() *layer {
	b.buckets = make([]uint16, len(b.names))
	for i, n := range b.names {
		b.buckets[i] = bucket(n)
	}
	b.fillCandidates()
	b.fillWaiting()
	if b.owns {
		b.owned = make(map[string]bool, len(b.entries))
		for i := range b.entries {
			b.owned[b.entries[i].Name] = true
		}
	}
	return b.layer
}

// fillCandidates sorts the ways to go by a name under that name, keeping the
// order of the packages: count, sum up, fill.
func (b *builder) fillCandidates() {
	b.candAt = make([]int32, len(b.names)+1)
	b.eachCandidate(func(name int32, _ ref) { b.candAt[name+1]++ })
	for i := range b.names {
		b.candAt[i+1] += b.candAt[i]
	}
	b.cands = make([]ref, b.candAt[len(b.names)])
	at := slices.Clone(b.candAt)
	b.eachCandidate(func(name int32, r ref) {
		b.cands[at[name]] = r
		at[name]++
	})
}

func (b *builder) eachCandidate(yield func(name int32, r ref)) {
	for i := range b.entries {
		e := &b.entries[i]
		yield(b.refs[e.refs], ref{int32(i), -1})
		provides := b.refs[int(e.refs)+1+len(e.Depends):]
		for j := range e.Provides {
			yield(provides[j], ref{int32(i), int32(j)})
		}
	}
}

func (b *builder) fillWaiting() {
	for i := range b.entries {
		e := &b.entries[i]
		conditions := len(installIf(e.Package))
		if conditions == 0 {
			continue
		}
		refs := b.refs[e.refs:]
		provides := refs[1+len(e.Depends):][:len(e.Provides)]
		for _, on := range refs[1+len(e.Depends)+len(e.Provides):][:conditions] {
			b.waiting[on] = append(append(b.waiting[on], refs[0]), provides...)
		}
	}
	for on := range maps.Keys(b.waiting) {
		ids := b.waiting[on]
		slices.SortFunc(ids, func(x, y int32) int {
			return cmp.Or(cmp.Compare(b.buckets[x], b.buckets[y]), cmp.Compare(y, x))
		})
		b.waiting[on] = slices.Compact(ids)
	}
}
