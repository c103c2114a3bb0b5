package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
	"distro.internal/shared/solve"
)

// Whether a package can be installed is the solver's to say, of the repository
// as it would be. Asked are the packages that differ, all that depends on them,
// directly or not, in either state, and the images. Only what could be installed
// before, or was not there, is the change's doing.
//
// A library that goes away takes everything that stands on it along. The solver
// names the root of each trouble; what has the same root is one finding.

// broken is what has one root.
type broken struct {
	problem  solve.Problem
	conflict *solve.Conflict // of the first
	packages []string
}

func (j *judge) installable() error {
	var roots []*broken
	for _, name := range j.concerned() {
		world := []apk.Dependency{{Name: name}}
		was := world
		if j.isNew(name) {
			was = nil
		}
		c, err := conflict(j.Before, was, j.After, world)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		p := c.Problems[0]
		i := slices.IndexFunc(roots, func(b *broken) bool { return b.problem.Name == p.Name && b.problem.What == p.What })
		if i < 0 {
			i = len(roots)
			roots = append(roots, &broken{problem: p, conflict: c})
		}
		roots[i].packages = append(roots[i].packages, name)
	}
	for _, b := range roots {
		c := j.blame(b)
		what := "can not be installed any more: " + names(b.packages)
		if c.Old == nil && slices.Equal(b.packages, []string{c.Name}) {
			what = "can not be installed: " + c.Name
		}
		j.report(c, c.Places.Name, Finding{What: what, Why: explained(b.conflict), Fix: j.remedy(b, c)})
	}
	return j.images()
}

// isNew tells whether no package of that name was there.
func (j *judge) isNew(name string) bool {
	return slices.ContainsFunc(j.Packages, func(c Changed) bool { return c.Name == name && c.Old == nil })
}

func (j *judge) images() error {
	for _, image := range j.Images {
		c, err := conflict(image.Before, image.WorldBefore, image.After, image.World)
		if err != nil {
			return err
		}
		if c == nil {
			continue
		}
		j.add(image.Pos, Finding{
			Nodes: []string{image.Node}, Recipe: image.Name,
			What: "the image can not be assembled any more", Why: explained(c),
		})
	}
	return nil
}

// conflict is why a world has no solution after the change, if the one before had one or was none. It is nil when that
// is not so.
func conflict(before *solve.Universe, was []apk.Dependency, after *solve.Universe, world []apk.Dependency) (*solve.Conflict, error) {
	_, err := after.Solve(world, solve.Options{})
	var c *solve.Conflict
	switch {
	case err == nil:
		return nil, nil
	case !errors.As(err, &c):
		return nil, err
	case was == nil:
		return c, nil
	}
	_, err = before.Solve(was, solve.Options{})
	var old *solve.Conflict
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &old):
		return nil, nil
	}
	return nil, err
}

// concerned are the packages whose solution may be another one, by name.
func (j *judge) concerned() []string {
	seen := map[string]bool{}   // packages
	walked := map[string]bool{} // names of all kinds
	var queue []string
	goesBy := func(p *apk.Package) {
		if p == nil {
			return
		}
		queue = append(queue, p.Name)
		for _, d := range p.Provides {
			queue = append(queue, d.Name)
		}
	}
	for _, c := range j.Packages {
		switch {
		case solvesAlike(c.Old, c.New):
			continue
		case differInVersions(c.Old, c.New):
			contested := j.whoMinds(c.Old, c.New, func(p *apk.Package) {
				seen[p.Name] = true
				goesBy(p)
			})
			queue = append(queue, contested...)
		default:
			goesBy(c.Old)
			goesBy(c.New)
		}
		if c.New != nil {
			seen[c.Name] = true
		}
	}
	for len(queue) > 0 {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if walked[name] {
			continue
		}
		walked[name] = true
		for _, p := range j.After.Dependents(name) {
			if !seen[p.Name] {
				seen[p.Name] = true
				goesBy(p)
			}
		}
	}
	var list []string
	for name := range seen {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// solvesAlike tells of two packages between which no solver sees a difference: most that are only built again.
func solvesAlike(old, now *apk.Package) bool {
	return old != nil && now != nil && old.Version == now.Version && old.ProviderPriority == now.ProviderPriority &&
		(old.InstalledSize == 0) == (now.InstalledSize == 0) &&
		slices.Equal(old.Depends, now.Depends) && slices.Equal(old.Provides, now.Provides) && slices.Equal(old.InstallIf, now.InstallIf)
}

// differInVersions tells of two packages that they go by the same names and ask for the same, as the next release of
// nearly all does.
func differInVersions(old, now *apk.Package) bool {
	named := func(a, b apk.Dependency) bool { return a.Name == b.Name }
	return old != nil && now != nil && old.ProviderPriority == now.ProviderPriority &&
		(old.InstalledSize == 0) == (now.InstalledSize == 0) &&
		slices.Equal(old.Depends, now.Depends) && slices.EqualFunc(old.Provides, now.Provides, named) && slices.Equal(old.InstallIf, now.InstallIf)
}

// whoMinds finds those to whom it makes a difference that a package differs in versions: the dependents that one
// version serves and the other does not. Of a name that others go by as well, where the version decides who is chosen,
// all may; such names are returned.
func (j *judge) whoMinds(old, now *apk.Package, minds func(*apk.Package)) (contested []string) {
	for i := -1; i < len(now.Provides); i++ {
		name, was, is := now.Name, old.Version, now.Version
		if i >= 0 {
			name, was, is = now.Provides[i].Name, old.Provides[i].Version, now.Provides[i].Version
		}
		if others(j.After.Providers(apk.Dependency{Name: name}), now.Name) {
			contested = append(contested, name)
			continue
		}
		for _, p := range j.After.Dependents(name) {
			if slices.ContainsFunc(p.Depends, func(d apk.Dependency) bool {
				return d.Name == name && d.SatisfiedBy(was, old.Checksum) != d.SatisfiedBy(is, now.Checksum)
			}) {
				minds(p)
			}
		}
	}
	return contested
}

func others(providers []*apk.Package, than string) bool {
	return slices.ContainsFunc(providers, func(p *apk.Package) bool { return p.Name != than })
}

// blame finds the changed package that a trouble comes from: what is missing was its, or it asks for it.
func (j *judge) blame(b *broken) Changed {
	for _, ask := range []func(Changed) bool{
		func(c Changed) bool { return c.Old != nil && isCalled(c.Old, b.problem.Name) },
		func(c Changed) bool { return slices.Contains(b.packages, c.Name) },
		func(c Changed) bool { return c.New != nil && isCalled(c.New, b.problem.Name) },
		func(c Changed) bool { return c.New != nil && strings.Contains(b.conflict.Error(), full(c.New)) },
	} {
		if i := slices.IndexFunc(j.Packages, ask); i >= 0 {
			return j.Packages[i]
		}
	}
	return j.Packages[0]
}

// isCalled tells whether a package goes by a name.
func isCalled(p *apk.Package, name string) bool {
	return p.Name == name || slices.ContainsFunc(p.Provides, func(d apk.Dependency) bool { return d.Name == name })
}

// remedy is what somebody can do about a root.
func (j *judge) remedy(b *broken, c Changed) string {
	name := b.problem.Name
	switch {
	case c.Old != nil && isCalled(c.Old, name) && (c.New == nil || !isCalled(c.New, name)):
		return fmt.Sprintf("keep %s, or change in the same branch what needs it", name)
	case b.problem.Fix != "":
		return "" // told with the rest
	case c.New != nil && slices.ContainsFunc(c.New.Depends, func(d apk.Dependency) bool { return d.Name == name }):
		return fmt.Sprintf("correct what %s asks for of %s", c.Name, name)
	}
	return ""
}

// explained is a conflict in the solver's words, without its first line.
func explained(c *solve.Conflict) string {
	_, text, _ := strings.Cut(c.Error(), "\n")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// at is where a package's recipe names it; for one that is gone, nowhere.
func at(c Changed) document.Pos { return c.Places.Name }
