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
	u.table = newBuilder(&table{}, u.add(repositories), arch).finish(nil)
	return u
}

// Overlay returns u with one more repository on top. Its packages hide those
// of u that have the same name, whatever their versions, and are preferred
// where nothing else decides. It costs a fraction of compiling u again.
func (u *Universe) Overlay(r Repository) *Universe {
	over := *u
	entries := over.add([]Repository{r})
	owned := make(map[string]bool, len(entries))
	for i := range entries {
		owned[entries[i].Name] = true
		entries[i].standing = -entries[i].repository
	}
	over.table = newBuilder(u.table, entries, u.arch).finish(func(e *entry) bool { return !owned[e.Name] })
	return &over
}

// withInstalled returns u with what is installed listed first, hiding nothing.
// A package that a repository has as well is one package.
func (u *Universe) withInstalled(packages []*apk.Package) *Universe {
	if len(packages) == 0 {
		return u
	}
	over := *u
	entries := make([]entry, len(packages))
	merged := map[apk.Checksum]bool{}
	for i, p := range packages {
		entries[i] = u.installedEntry(p)
		if entries[i].repository >= 0 {
			merged[p.Checksum] = true
		}
	}
	over.table = newBuilder(u.table, entries, u.arch).finish(func(e *entry) bool { return !merged[e.Checksum] })
	return &over
}

// installedEntry is the entry of an installed package, with what the
// repositories know about it.
func (u *Universe) installedEntry(p *apk.Package) entry {
	e := entry{Package: p, repository: -1, standing: math.MinInt32, installed: true}
	id, ok := u.table.id(p.Name)
	if !ok || p.Checksum.IsZero() {
		return e
	}
	for _, r := range u.table.candidates(id) {
		if o := &u.table.entries[r.entry]; o.Checksum == p.Checksum {
			e.repository, e.standing, e.tags, e.available = o.repository, o.standing, o.tags, o.available
			break
		}
	}
	return e
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
	for _, r := range u.table.candidates(id) {
		e := &u.table.entries[r.entry]
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
