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
	u := &Universe{arch: arch, tags: []string{""}}
	u.table = newTable(u.add(repositories), arch)
	return u
}

// Overlay returns u with one more repository on top. Its packages hide those
// of u that have the same name, whatever their versions, and are preferred
// where nothing else decides. It costs as much as compiling r alone.
func (u *Universe) Overlay(r Repository) *Universe {
	over := *u
	entries := over.add([]Repository{r})
	for i := range entries {
		entries[i].standing = -entries[i].repository
	}
	over.table = u.table.overlay(entries, u.arch)
	return &over
}

// withInstalled returns the table of u with what is installed listed first. A
// package that a repository has as well is one package. This compiles all of u
// again: it is meant for the one root of a machine, not for many.
func (u *Universe) withInstalled(packages []*apk.Package) *table {
	if len(packages) == 0 {
		return u.table
	}
	entries := make([]entry, 0, len(packages)+int(u.table.count()))
	for _, p := range packages {
		entries = append(entries, entry{Package: p, repository: -1, standing: math.MinInt32, installed: true})
	}
	for e := range u.table.each {
		entries = append(entries, *e)
	}
	return newTable(entries, u.arch)
}

// add takes repositories in and returns their entries, of which the table has
// yet to be told.
func (u *Universe) add(repositories []Repository) []entry {
	n := 0
	for _, r := range repositories {
		if r.Index != nil {
			n += len(r.Index.Packages)
		}
	}
	entries := make([]entry, 0, n)
	for i, r := range repositories {
		if r.Index == nil {
			continue
		}
		tag := uint64(1) << u.tag(r.Tag)
		u.used |= tag
		number := int32(len(u.repositories) + i)
		for _, p := range r.Index.Packages {
			entries = append(entries, entry{Package: p, repository: number, standing: number, tags: tag, available: !r.Unavailable})
		}
	}
	u.repositories = append(slices.Clip(u.repositories), repositories...)
	return entries
}

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
		*apk.Package
		version apk.Version
	}
	var found []provider
	for _, r := range u.table.candidates.of(id) {
		e := u.table.entry(r.entry)
		if v := r.version(e); e.installable && e.mayServe(u.tagSet(d.Tag)) && d.SatisfiedBy(v, e.Checksum) {
			found = append(found, provider{e.Package, v})
		}
	}
	slices.SortStableFunc(found, func(a, b provider) int {
		return cmp.Or(
			apk.Compare(b.version, a.version),
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
