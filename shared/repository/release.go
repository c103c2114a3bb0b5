package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"distro.internal/shared/apk"
)

// A client that has a package installs another one of that name when its version
// is higher, and otherwise not, whatever is in it. So who publishes must know
// which versions clients may have. That is more than what the present generation
// has: after a rollback, or when a package comes back that was taken out, some of
// them have something newer.

// A Release is a package as it was published.
type Release struct {
	Version  apk.Version
	Checksum string // as an index has it
}

// ReleaseOf is what a package is as a release.
func ReleaseOf(p *apk.Package) Release { return Release{p.Version, p.Checksum.String()} }

// Is reports whether the release is this very package.
func (r Release) Is(p *apk.Package) bool { return r == ReleaseOf(p) }

// Releases are the releases of each package for each architecture that matter to who publishes the next one: all that
// the present generation has, and the highest of the earlier ones if that is higher than those.
type Releases map[apk.Arch]map[string][]Release

// Releases tells what clients may have got from the repository; nothing if nothing was published.
func (r *Repository) Releases() (Releases, error) {
	g, err := r.Current()
	if errors.Is(err, fs.ErrNotExist) {
		return Releases{}, nil
	} else if err != nil {
		return nil, err
	}
	return r.releases(g)
}

// Present are the releases that a generation has; none if it is the zero one.
func (r *Repository) Present(g Generation) (Releases, error) {
	all := Releases{}
	for _, arch := range g.Archs {
		x, err := g.Index(arch, apk.Verify{Keyring: r.Keyring, Insecure: r.Keyring == nil})
		if err != nil {
			return nil, fmt.Errorf("reading what %s has: %w", g.Dir, err)
		}
		all.Add(arch, x)
	}
	return all, nil
}

func (r *Repository) releases(g Generation) (Releases, error) {
	s, err := readState(g.Dir)
	if err != nil {
		return nil, err
	}
	all, err := r.Present(g)
	if err != nil {
		return nil, err
	}
	for arch, names := range s.Higher {
		for name, release := range names {
			all.add(arch, name, release)
		}
	}
	return all, nil
}

// higher works out the state's Higher of the generation that comes after current.
func (r *Repository) higher(current Generation, next map[apk.Arch]*apk.Index) (map[apk.Arch]map[string]Release, error) {
	if current.Dir == "" {
		return nil, nil
	}
	before, err := r.releases(current)
	if err != nil {
		return nil, err
	}
	all := map[apk.Arch]map[string]Release{}
	for arch, names := range before {
		offered := map[string][]Release{}
		if x := next[arch]; x != nil {
			offered = releasesOf(x)
		}
		for name, releases := range names {
			top := highest(releases)
			if now := offered[name]; len(now) > 0 && apk.Compare(highest(now).Version, top.Version) >= 0 {
				continue
			}
			if all[arch] == nil {
				all[arch] = map[string]Release{}
			}
			all[arch][name] = top
		}
	}
	return all, nil
}

// Add adds those that an index has.
func (r Releases) Add(arch apk.Arch, x *apk.Index) {
	for name, releases := range releasesOf(x) {
		r.add(arch, name, releases...)
	}
}

func (r Releases) add(arch apk.Arch, name string, releases ...Release) {
	if r[arch] == nil {
		r[arch] = map[string][]Release{}
	}
	r[arch][name] = append(r[arch][name], releases...)
}

// releasesOf are those of an index by name.
func releasesOf(x *apk.Index) map[string][]Release {
	names := make(map[string][]Release, len(x.Packages))
	for _, p := range x.Packages {
		names[p.Name] = append(names[p.Name], ReleaseOf(p))
	}
	return names
}

func highest(releases []Release) Release {
	return slices.MaxFunc(releases, func(a, b Release) int { return apk.Compare(a.Version, b.Version) })
}
