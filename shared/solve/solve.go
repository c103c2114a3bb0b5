// Package solve decides which packages satisfy a world: given what is wanted
// and what the repositories hold, it names the packages to install, in the
// order in which to install them, each with its reason; or it says why there
// is no such set.
//
// The law is apk-tools 3: where apk finds an answer this package finds the same
// one in the same order, and where apk refuses it refuses. Like apk it decides
// by propagation and never takes a decision back (search.go tells how), so an
// answer takes time proportional to the part of the repositories that the
// world can reach, and a refusal does not prove that no other choice would do.
//
// The package is pure: values in, values out. It knows nothing of files,
// downloads, signatures or of how a package is laid out on disk. What a package
// replaces is a matter of files and plays no part here.
package solve

import "distro.internal/shared/apk"

// A Repository is an index to choose from. Packages of a repository with a Tag
// are chosen only for a wanted name@tag and what it depends on.
type Repository struct {
	Name  string
	Tag   string // without "@"; empty: open to all
	Index *apk.Index

	// Unavailable says that the packages are known but can not be had.
	Unavailable bool
}

// A Request is all that Solve needs to know. Installed is what the root holds
// already; it is kept where it fits.
type Request struct {
	World        []apk.Dependency
	Repositories []Repository
	Arch         apk.Arch
	Installed    []*apk.Package
}

// Solve compiles the repositories and solves the world once. Whoever solves
// more than one world over the same repositories keeps the Universe.
// An error about the world is a *Conflict.
func Solve(r Request) (*Solution, error) {
	return Compile(r.Repositories, r.Arch).Solve(r.World, Options{Installed: r.Installed})
}

// A Solution is a set of packages that satisfies a world.
type Solution struct {
	Packages []Chosen         // all that the root holds in the end, in install order
	Changes  []Change         // what to do to get there, in order
	Dropped  []apk.Dependency // world that was given up (Options.DropBroken)
}

// Package returns the chosen package of that name.
func (s *Solution) Package(name string) (Chosen, bool) {
	for _, c := range s.Packages {
		if c.Name == name {
			return c, true
		}
	}
	return Chosen{}, false
}

// Why returns the chain of reasons that leads from the world to the chosen
// package of that name; the last element is the package itself.
func (s *Solution) Why(name string) []Chosen {
	by := make(map[string]Chosen, len(s.Packages))
	for _, c := range s.Packages {
		by[c.Name] = c
	}
	var chain []Chosen
	for name != "" && len(chain) <= len(by) {
		c, ok := by[name]
		if !ok {
			break
		}
		chain = append([]Chosen{c}, chain...)
		name = c.Reason.By
	}
	return chain
}

// A Chosen package.
type Chosen struct {
	*apk.Package
	Repository int    // which one holds it; -1: none, it is only installed
	Tag        string // of the repository, when it was chosen for its tag
	Reason     Reason
}

// A Reason is the first cause in install order for a package to be there.
type Reason struct {
	Dependency apk.Dependency
	By         string // name of the package that depends on it; empty: the world
	InstallIf  bool   // Dependency is the last one of its own install_if to come true
}

// A Change is one step from what is installed to what is to be. Old is nil for
// an installation, New for a removal; both are the same package when it stays
// and only its tag changes, or when it is to be installed anew.
type Change struct {
	Old, New       *apk.Package
	OldTag, NewTag string
	Reinstall      bool
}

// Flags say how to treat what is installed. The zero value changes as little
// as possible.
type Flags uint8

const (
	Upgrade       Flags = 1 << iota // take the newest
	Available                       // take what the repositories still have
	Reinstall                       // install again even if nothing changes
	Latest                          // the newest or a refusal; never an older one that would fit
	KeepInstalled                   // keep what is installed even if it could be upgraded
	Remove                          // do not keep it only because it is installed
)

// A Mark singles out a name, as naming it on apk's command line does: it is
// decided before all names that are not marked.
type Mark struct {
	Flags   Flags // for the packages that go by the name
	Inherit Flags // for what these depend on
}

// Options are what apk's commands differ in. The zero value does what
// "apk add WORLD" does in an empty root.
type Options struct {
	Installed []*apk.Package
	Tags      map[string]string // of the repositories that the installed packages came from, by package name

	Flags Flags
	Marks map[string]Mark // nil: all names of the world are marked, with no flags

	// Cautious keeps what is installed unless a mark says Upgrade.
	Cautious bool

	// DropBroken gives up what the world wants in vain instead of refusing;
	// Solution.Dropped names it.
	DropBroken bool
}

// Solve finds the packages that satisfy world. What the world asks for twice
// must hold twice. It is safe to call from any number of goroutines.
func (u *Universe) Solve(world []apk.Dependency, o Options) (*Solution, error) {
	if u.err != nil {
		return nil, u.err
	}
	broken := map[string]bool{}
	for {
		c := &commit{search: &search{problem: u.pose(world, o, broken)}}
		if !o.DropBroken {
			if err := c.checkWorld(); err != nil {
				return nil, err
			}
		}
		c.search.run()
		c.run()
		if c.failures == 0 {
			return c.finish(), nil
		}
		if !o.DropBroken || !c.giveUp(broken) {
			return nil, c.explain(world, u)
		}
	}
}

// giveUp adds to broken what the world wanted in vain, and reports whether
// there was anything.
func (c *commit) giveUp(broken map[string]bool) bool {
	n := len(broken)
	for _, w := range c.world {
		if k := w.name.chosen.pack; k == nil || k.failed != nil {
			broken[w.Name] = true
		}
	}
	return len(broken) > n
}
