package solve

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"distro.internal/shared/apk"
)

// A Universe is repositories compiled for solving: every name with the packages
// that go by it. It is immutable, and any number of goroutines may solve over it.
type Universe struct {
	arch         apk.Arch
	repositories []Repository
	tags         []string // tags[0] is no tag; bit i of a tag set is tags[i]
	used         uint64   // tags that some repository has
	table        *table
	err          error
}

const maxTags = 64

// Compile builds the Universe of some repositories. Earlier repositories are
// preferred where nothing else decides.
func Compile(repositories []Repository, arch apk.Arch) *Universe {
	c := NewCompiler(arch, size(repositories))
	for _, r := range repositories {
		c.Begin(r)
	}
	return c.Universe()
}

// A Compiler builds the Universe of repositories whose indexes come piece by
// piece.
type Compiler struct {
	u    *Universe
	b    *builder
	from detail // the present repository
}

// NewCompiler returns a compiler that knows no repository yet. It makes room for
// about so many packages.
func NewCompiler(arch apk.Arch, packages int) *Compiler {
	return &Compiler{u: &Universe{arch: arch, tags: []string{""}}, b: newBuilder(nil, arch, packages)}
}

// Begin adds a repository, and what it holds.
func (c *Compiler) Begin(r Repository) { c.from = c.u.begin(c.b, r) }

// Add adds entries of the index of the repository that was begun last. They
// may change afterwards.
func (c *Compiler) Add(list []apk.Entry) {
	if err := c.b.addEntries(list, c.from); err != nil && c.u.err == nil {
		c.u.err = fmt.Errorf("repository %s: %w", c.u.repositories[c.from.repository].Name, err)
	}
}

// Merge adds what u holds to the repository that was begun last, as if its
// index were added, without reading that again. u was compiled from texts.
func (c *Compiler) Merge(u *Universe) error {
	if u.err != nil {
		return u.err
	}
	return c.b.addTable(u.table, c.from)
}

// Universe returns the universe of what was added, once.
func (c *Compiler) Universe() *Universe {
	c.u.table = c.b.done()
	return c.u
}

// Overlay returns u with one more repository on top. Its packages hide those
// of u that have the same name, whatever their versions, and are preferred
// where nothing else decides. It costs as much as compiling r alone. Packages
// of the names in without are hidden as well.
func (u *Universe) Overlay(r Repository, without ...string) *Universe {
	over := *u
	list := []Repository{r}
	b := newBuilder(u.table, u.arch, size(list))
	over.add(b, list)
	for i := range b.details {
		b.details[i].standing = -b.details[i].repository
	}
	over.table = b.overlay(without)
	return &over
}

func size(repositories []Repository) (packages int) {
	for _, r := range repositories {
		if r.Index != nil {
			packages += len(r.Index.Packages)
		}
	}
	return packages
}

// withInstalled returns the table of u with what is installed listed first. A
// package that a repository has as well is one package. This compiles all of u
// again: it is meant for the one root of a machine, not for many.
func (u *Universe) withInstalled(packages []*apk.Package) *table {
	if len(packages) == 0 {
		return u.table
	}
	b := newBuilder(nil, u.arch, len(packages)+int(u.table.entryCount()))
	for _, p := range packages {
		b.addPackage(p, detail{repository: -1, standing: math.MinInt32, facts: installed})
	}
	for e := range u.table.each {
		d := *e.detail()
		d.facts &= available
		b.addPackage(e.Package(), d)
	}
	return b.done()
}

// add takes repositories in, whose packages it hands to b, unless that has them.
func (u *Universe) add(b *builder, repositories []Repository) {
	for _, r := range repositories {
		u.begin(b, r)
	}
}

func (u *Universe) begin(b *builder, r Repository) detail {
	number := int32(len(u.repositories))
	u.repositories = append(slices.Clip(u.repositories), r)
	tag := uint64(1) << u.tag(r.Tag)
	u.used |= tag
	from := detail{repository: number, standing: number, tags: tag}
	if !r.Unavailable {
		from.facts = available
	}
	if b == nil {
		return from
	}
	if r.Index != nil {
		for _, p := range r.Index.Packages {
			b.addPackage(p, from)
		}
	}
	return from
}

// Err returns what is wrong with the repositories, which Solve returns as well.
func (u *Universe) Err() error { return u.err }

// Repositories returns what Chosen.Repository counts: those given to Compile,
// then those of each Overlay.
func (u *Universe) Repositories() []Repository { return slices.Clone(u.repositories) }

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

// Providers returns all packages that satisfy d on their own, best first: by
// the version under the name asked for, then their own, then by provider
// priority. A conflict has no providers.
func (u *Universe) Providers(d apk.Dependency) []*apk.Package {
	id, ok := u.table.id(d.Name)
	if d.Conflict || !ok {
		return nil
	}
	type provider struct {
		entry
		version apk.Version
	}
	var found []provider
	for _, r := range u.table.candidates.of(id) {
		e := u.table.entry(r.entry)
		k, v := e.detail(), r.version(e)
		if k.is(installable) && k.mayServe(u.tagSet(d.Tag)) && d.SatisfiedBy(v, e.origin().checksum) {
			found = append(found, provider{e, v})
		}
	}
	slices.SortStableFunc(found, func(a, b provider) int {
		return cmp.Or(
			apk.Compare(b.version, a.version),
			apk.Compare(b.entry.version(), a.entry.version()),
			cmp.Compare(b.detail().priority, a.detail().priority),
		)
	})
	packages := make([]*apk.Package, 0, len(found))
	for i, p := range found {
		if i == 0 || p.entry != found[i-1].entry {
			packages = append(packages, p.Package())
		}
	}
	return packages
}
