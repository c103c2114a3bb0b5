package solve

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"distro.internal/shared/apk"
)

// TestOverlay checks that an overlay is the same universe as one compiled from
// the new repository and what it leaves of the old ones.
func TestOverlay(t *testing.T) {
	for seed := range uint64(300) {
		l := draw(seed + 1<<20)
		base := l.repositories()
		first, second := Repository{Index: l.index()}, Repository{Index: l.index()}
		gone := l.index() // of its packages only the names count
		over := Compile(base, "x86_64").Overlay(first).Overlay(second, namesOf(gone)...)
		rest := append([]Repository{without(first, second)}, withoutAll(base, first, second)...)
		flat := Compile(append([]Repository{second}, withoutAll(rest, Repository{Index: gone})...), "x86_64")
		for range 4 {
			world := l.world(base)
			s, err := over.Solve(world, Options{})
			want, refusal := flat.Solve(world, Options{})
			if (err == nil) != (refusal == nil) || err == nil && steps(s.Changes) != steps(want.Changes) {
				t.Fatalf("seed %d, world %v:\nover: %v\nflat: %v", seed, world, render(s, err), render(want, refusal))
			}
			for _, d := range world {
				if got, want := over.Providers(d), flat.Providers(d); !slices.Equal(got, want) {
					t.Fatalf("seed %d: providers of %s: %d, want %d", seed, d, len(got), len(want))
				}
				if got, want := over.Dependents(d.Name), dependents(d.Name, second, rest, gone); !slices.Equal(got, want) {
					t.Fatalf("seed %d: dependents of %s: %v, want %v", seed, d.Name, got, want)
				}
			}
		}
	}
}

func namesOf(x *apk.Index) []string {
	var names []string
	for _, p := range x.Packages {
		names = append(names, p.Name)
	}
	return names
}

// dependents reads all that is left and notes who depends on a name.
func dependents(name string, second Repository, rest []Repository, gone *apk.Index) []*apk.Package {
	newest := map[string]*apk.Package{}
	for _, r := range append([]Repository{second}, withoutAll(rest, Repository{Index: gone})...) {
		for _, p := range r.Index.Packages {
			if n := newest[p.Name]; fitFor(p, "x86_64") && (n == nil || apk.Compare(p.Version, n.Version) > 0) {
				newest[p.Name] = p
			}
		}
	}
	var list []*apk.Package
	for _, n := range slices.Sorted(maps.Keys(newest)) {
		if slices.ContainsFunc(newest[n].Depends, func(d apk.Dependency) bool { return d.Name == name && !d.Conflict }) {
			list = append(list, newest[n])
		}
	}
	return list
}

func render(s *Solution, err error) string {
	if err != nil {
		return err.Error()
	}
	return steps(s.Changes)
}

func withoutAll(list []Repository, owners ...Repository) []Repository {
	list = slices.Clone(list)
	for _, o := range owners {
		for i := range list {
			list[i] = without(list[i], o)
		}
	}
	return list
}

// without returns r without the packages whose names owner has.
func without(r, owner Repository) Repository {
	owned := map[string]bool{}
	for _, p := range owner.Index.Packages {
		owned[p.Name] = true
	}
	x := &apk.Index{}
	for _, p := range r.Index.Packages {
		if !owned[p.Name] {
			x.Packages = append(x.Packages, p)
		}
	}
	r.Index = x
	return r
}

func TestOverlayRepository(t *testing.T) {
	big := Repository{Name: "big", Index: &apk.Index{Packages: []*apk.Package{
		{Name: "lib", Version: "9-r0", InstalledSize: 1},
		{Name: "app", Version: "1-r0", InstalledSize: 1, Depends: []apk.Dependency{{Name: "lib"}}},
	}}}
	local := Repository{Name: "local", Index: &apk.Index{Packages: []*apk.Package{
		{Name: "lib", Version: "1-r0", InstalledSize: 1},
	}}}
	base := Compile([]Repository{big}, "x86_64")
	over := base.Overlay(local)
	s, err := over.Solve([]apk.Dependency{{Name: "app"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range s.Packages {
		got = append(got, fmt.Sprintf("%s from %s", full(c.Package), over.Repositories()[c.Repository].Name))
	}
	if want := []string{"lib-1-r0 from local", "app-1-r0 from big"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s, err := base.Solve([]apk.Dependency{{Name: "app"}}, Options{}); err != nil || steps(s.Changes) != "lib-9-r0 app-1-r0" {
		t.Errorf("the base has changed: %s", render(s, err))
	}
}
