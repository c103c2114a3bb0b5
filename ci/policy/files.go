package policy

import (
	"fmt"
	"io/fs"
	"slices"

	"distro.internal/shared/apk"
	"distro.internal/shared/rootfs"
	"distro.internal/shared/solve"
)

// clash is what two packages both have.
type clash struct {
	Changed
	other *apk.Package
	paths []string
}

// files looks for the names that are new in the changed packages in all others. Two that can not be installed together
// may have what they like. Most changes bring no new name, and then no other package is read.
func (j *judge) files() error {
	owners := map[string][]Changed{}
	for _, p := range j.Packages {
		if p.New == nil {
			continue
		}
		now, err := j.Contents(p.New)
		if err != nil {
			return err
		}
		old, err := j.contents(p.Old)
		if err != nil {
			return err
		}
		had := map[string]bool{}
		for _, f := range old.Files {
			had[f.Path] = !f.Mode.IsDir()
		}
		for _, f := range now.Files {
			if !f.Mode.IsDir() && !had[f.Path] {
				owners[f.Path] = append(owners[f.Path], p)
			}
		}
	}
	if len(owners) == 0 {
		return nil
	}
	for _, other := range j.Present {
		clashes, err := j.clashes(owners, other)
		if err != nil {
			return err
		}
		for _, c := range clashes {
			if err := j.tellClash(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// clashes lists with whom a package has names in common, of which each pair is told once.
func (j *judge) clashes(owners map[string][]Changed, other *apk.Package) ([]*clash, error) {
	c, err := j.Contents(other)
	if err != nil {
		return nil, err
	}
	var list []*clash
	for _, f := range c.Files {
		for _, p := range owners[f.Path] {
			both := slices.ContainsFunc(owners[f.Path], func(c Changed) bool { return c.Name == other.Name })
			if p.Name == other.Name || f.Mode.IsDir() || both && other.Name < p.Name {
				continue
			}
			if _, settled := rootfs.TakesFile(p.New, other); settled {
				continue
			}
			i := slices.IndexFunc(list, func(c *clash) bool { return c.Name == p.Name })
			if i < 0 {
				i = len(list)
				list = append(list, &clash{Changed: p, other: other})
			}
			list[i].paths = append(list[i].paths, f.Path)
		}
	}
	return list, nil
}

// tellClash reports names of two packages that can be installed together, and did not have them before.
func (j *judge) tellClash(c *clash) error {
	world := []apk.Dependency{{Name: c.Name}, {Name: c.other.Name}}
	s, err := j.After.Solve(world, solve.Options{})
	if err != nil || s == nil {
		return nil
	}
	was, err := j.clashedBefore(c)
	if err != nil || was {
		return err
	}
	j.report(c.Changed, at(c.Changed), Finding{
		What: fmt.Sprintf("%s and %s both have %s", c.Name, c.other.Name, names(c.paths)),
		Why:  "apk installs whichever comes first, and refuses the file of the other",
		Fix:  fmt.Sprintf("leave it out of one of them, or let one replace the other: dependencies: {replaces: [%s]}", c.other.Name),
	})
	return nil
}

// clashedBefore tells whether both had the first of the names already, and nobody minded.
func (j *judge) clashedBefore(c *clash) (bool, error) {
	had := func(p *apk.Package) (bool, error) {
		old, err := j.contents(p)
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(old.Files, func(f File) bool { return f.Path == c.paths[0] && f.Mode.Type() != fs.ModeDir }), nil
	}
	first, err := had(c.Old)
	if err != nil || !first {
		return false, err
	}
	other := c.other
	if i := slices.IndexFunc(j.Packages, func(p Changed) bool { return p.Name == c.other.Name }); i >= 0 {
		other = j.Packages[i].Old
	}
	if other == nil {
		return false, nil
	}
	if _, settled := rootfs.TakesFile(c.Old, other); settled {
		return false, nil
	}
	return had(other)
}
