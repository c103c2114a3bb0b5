package build

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/solve"
)

// An Environment is what a build runs in, decided: the packages of the root,
// and for a cross build those of the target's root, each in install order.
type Environment struct {
	Root    []Installed
	Sysroot []Installed
}

// An Installed package of an environment.
type Installed struct {
	*apk.Package
	// Content is the digest of what a build can see of the package. Without
	// one it is the package's checksum, which changes with every byte of it.
	Content string
	// File fetches the package's .apk, and says how to verify it.
	File func(context.Context) (string, apk.Verify, error)
}

func (p Installed) content() string {
	if p.Content != "" {
		return p.Content
	}
	return p.Checksum.String()
}

// An Offer is a universe of packages with a way to each of them.
type Offer struct {
	Universe *solve.Universe
	Install  func(solve.Chosen) Installed
}

// Resolve decides a plan's environment. root offers packages that run on the
// machine that builds, target those of the plan's architecture; only a cross
// build asks for both.
func Resolve(p *recipe.Plan, root, target Offer) (Environment, error) {
	var e Environment
	var err error
	if e.Root, err = root.install(p.Environment.Packages); err != nil {
		return e, placed(p.Environment, p.File, fmt.Errorf("solving the environment of %s for %s: %w", p.Name, Job{Plan: p}.rootArch(), err))
	}
	if !p.Environment.Cross {
		return e, nil
	}
	if e.Sysroot, err = target.install(p.Environment.Sysroot); err != nil {
		return e, placed(p.Environment, p.File, fmt.Errorf("solving the sysroot of %s for %s: %w", p.Name, p.Arch, err))
	}
	return e, nil
}

// placed says of a conflict where the recipe wants the first thing that cannot be had.
func placed(e recipe.Environment, file string, err error) error {
	var conflict *solve.Conflict
	if errors.As(err, &conflict) {
		for _, problem := range conflict.Problems {
			for _, w := range problem.Wanted {
				if pos := e.Place(w.Dependency); w.By == nil && pos.Line > 0 {
					return fmt.Errorf("%s: %w", pos, err)
				}
			}
		}
	}
	return fmt.Errorf("%s: %w", file, err)
}

func (o Offer) install(world []apk.Dependency) ([]Installed, error) {
	if len(world) == 0 {
		return nil, nil
	}
	solution, err := o.Universe.Solve(world, solve.Options{})
	if err != nil {
		return nil, err
	}
	installed := make([]Installed, len(solution.Packages))
	for i, c := range solution.Packages {
		installed[i] = o.Install(c)
	}
	return installed, nil
}

// ResolveTest decides the environment of a test, of the version of its package
// that the plan is for. It is a root of the architecture that was built for.
func ResolveTest(p *recipe.Plan, t *recipe.Test, target Offer) (Environment, error) {
	world := slices.Clone(t.Environment.Packages)
	if t.Structural() { // nothing runs that would want more than the package
		world = slices.DeleteFunc(world, func(d apk.Dependency) bool { return d.Name != t.Output })
	}
	for i, d := range world {
		if d.Name == t.Output && d.Op == "" {
			world[i].Op, world[i].Version = "=", p.FullVersion()
		}
	}
	root, err := target.install(world)
	if err != nil {
		return Environment{}, placed(t.Environment, p.File, fmt.Errorf("solving the environment of the test of %s for %s: %w", t.Output, p.Arch, err))
	}
	return Environment{Root: root}, nil
}
