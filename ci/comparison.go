package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/ci/graph"
	"distro.internal/ci/policy"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/catalog"
	"distro.internal/shared/document"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// A comparison has two states of the repository: what is published, and that
// with what the branch makes in its place. The second is nowhere on the disk.
type comparison struct {
	*world
	*checker
	own     repository.Source // of what is published
	scratch *os.File
}

func (c *comparison) Close() {
	if c.scratch != nil {
		c.scratch.Close()
	}
}

// changes are those of all architectures that the workspace has.
func (c *comparison) changes(ctx context.Context) ([]*policy.Change, error) {
	var err error
	if c.own, _, err = c.world.published(ctx); err != nil {
		return nil, err
	}
	if c.scratch, err = os.CreateTemp("", "world-check-"); err != nil {
		return nil, err
	}
	if err := os.Remove(c.scratch.Name()); err != nil {
		return nil, err
	}
	var changes []*policy.Change
	published := false
	for _, arch := range c.config.Archs {
		index, err := c.client.Index(ctx, c.own, apk.Arch(arch))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			index = &apk.Index{} // the architecture is new
		case err != nil:
			return nil, fmt.Errorf("reading what is published: %w", err)
		default:
			published = true
		}
		change, err := c.change(ctx, apk.Arch(arch), newestOf(index))
		if err != nil {
			return nil, err
		}
		changes = append(changes, change)
	}
	if !published {
		return nil, fmt.Errorf("nothing is published in %s to compare with: build the base, or name a repository with --published", c.short(c.own.URL))
	}
	return changes, nil
}

// A newest is a repository's own packages of one architecture, of each name the newest.
type newest map[string]*apk.Package

func newestOf(x *apk.Index) newest {
	s := newest{}
	for _, p := range x.Packages {
		if old := s[p.Name]; old == nil || apk.Compare(p.Version, old.Version) > 0 {
			s[p.Name] = p
		}
	}
	return s
}

// after is what there is when all that differs is published.
func (s newest) after(changed []policy.Changed) []*apk.Package {
	now := maps.Clone(s)
	for _, p := range changed {
		delete(now, p.Name)
		if p.New != nil {
			now[p.Name] = p.New
		}
	}
	list := make([]*apk.Package, 0, len(now))
	for _, name := range slices.Sorted(maps.Keys(now)) {
		list = append(list, now[name])
	}
	return list
}

func (c *comparison) change(ctx context.Context, arch apk.Arch, before newest) (*policy.Change, error) {
	files := map[apk.Checksum]string{} // of what was made
	made, err := c.remade(ctx, arch, before, files)
	if err != nil {
		return nil, err
	}
	changed := append(made, c.gone(arch, before)...)
	slices.SortFunc(changed, func(a, b policy.Changed) int { return strings.Compare(a.Name, b.Name) })
	change := &policy.Change{Arch: arch, Packages: changed, Present: before.after(changed)}
	change.Contents = func(p *apk.Package) (*policy.Contents, error) { return c.contents(ctx, p, files[p.Checksum]) }

	others, err := c.otherSources(ctx, arch)
	if err != nil {
		return nil, err
	}
	own := catalog.Source{Source: c.own, Name: "published", Optional: true}
	if change.Before, err = catalog.Open(ctx, c.client, arch, append([]catalog.Source{own}, others...)...); err != nil {
		return nil, err
	}
	change.After = over(change.Before, changed)
	change.Images, err = c.images(ctx, arch, changed)
	return change, err
}

// over puts what differs over a universe.
func over(u *solve.Universe, changed []policy.Changed) *solve.Universe {
	var gone []string
	index := &apk.Index{}
	for _, p := range changed {
		if p.New == nil {
			gone = append(gone, p.Name)
		} else {
			index.Packages = append(index.Packages, p.New)
		}
	}
	return u.Overlay(solve.Repository{Name: "workspace", Index: index}, gone...)
}

// remade are the packages of affected nodes that are not as they are published, and where their files lie.
func (c *comparison) remade(ctx context.Context, arch apk.Arch, before newest, files map[apk.Checksum]string) ([]policy.Changed, error) {
	var changed []policy.Changed
	for _, n := range c.remakes(c.graph) {
		if n.Arch != arch {
			continue
		}
		packages, err := c.packagesOf(n)
		if err != nil {
			return nil, err
		}
		var places map[string]policy.Places
		for _, p := range packages {
			info, file, err := c.builder.Sign(ctx, p, c.seal)
			if err != nil {
				return nil, err
			}
			old := before[p.Name]
			if old != nil && old.Checksum == info.Checksum {
				continue
			}
			if places == nil {
				if places, err = c.places(n); err != nil {
					return nil, err
				}
			}
			files[info.Checksum] = file
			changed = append(changed, policy.Changed{Name: p.Name, Node: n.ID, Recipe: n.Name, Places: places[p.Name], Old: old, New: info})
		}
	}
	return changed, nil
}

// gone are the published packages that the base made and nobody makes any more.
func (c *comparison) gone(arch apk.Arch, before newest) []policy.Changed {
	makes := func(g *graph.Graph, yield func(*graph.Node, string)) {
		for _, n := range g.Nodes() {
			if n.Kind == graph.Packages && n.Arch == arch {
				for _, o := range n.Outputs {
					yield(n, o.Name)
				}
			}
		}
	}
	now := map[string]bool{}
	makes(c.graph, func(_ *graph.Node, name string) { now[name] = true })
	var gone []policy.Changed
	makes(c.old, func(n *graph.Node, name string) {
		if before[name] == nil || now[name] {
			return
		}
		p := policy.Changed{Name: name, Node: n.ID, Recipe: n.Name, Old: before[name]}
		if is, ok := c.graph.Node(n.ID); ok {
			p.Places.Name = document.Pos{File: is.File, Line: 1, Col: 1}
		}
		gone = append(gone, p)
	})
	return gone
}

// places are those of the packages of a node, by their names.
func (c *comparison) places(n *graph.Node) (map[string]policy.Places, error) {
	plan, err := n.Plan(0)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(c.dir, n.File))
	if err != nil {
		return nil, err
	}
	r, err := recipe.Parse(n.File, data, recipe.ParseOptions{})
	if err != nil {
		return nil, err
	}
	places := map[string]policy.Places{}
	for _, o := range plan.Outputs {
		at := policy.Places{Name: o.Pos, Version: r.Package.Version.Pos}
		if len(o.Licenses) == len(r.Package.Copyright) {
			for i, l := range o.Licenses {
				at.Licenses = append(at.Licenses, policy.Licensed{Pos: r.Package.Copyright[i].License.Pos, Expression: l.License})
			}
		}
		places[o.Name] = at
	}
	return places, nil
}

// otherSources are the repositories that ours stands on.
func (c *comparison) otherSources(ctx context.Context, arch apk.Arch) ([]catalog.Source, error) {
	keyring, err := c.client.Keyring(ctx, c.paths(c.config.Keyring)...)
	if err != nil {
		return nil, err
	}
	var sources []catalog.Source
	for _, url := range c.config.Repositories {
		tag, address := splitTag(url)
		sources = append(sources, catalog.Source{
			Source: repository.Source{URL: c.path(address), Keyring: keyring, Tag: tag}, Name: address,
			Optional: arch != apk.Arch(c.config.BuildArch),
		})
	}
	return sources, nil
}

// images are all of an architecture, with the repositories that they name; ours is as it is published, and as it would be.
func (c *comparison) images(ctx context.Context, arch apk.Arch, changed []policy.Changed) ([]policy.Image, error) {
	universes := map[string][2]*solve.Universe{}
	var images []policy.Image
	for _, n := range c.graph.Nodes() {
		if n.Kind != graph.Image || !slices.Contains(n.Image.Archs, arch) {
			continue
		}
		named := fmt.Sprintf("%q %q %q", n.Image.Contents.BuildRepositories, n.Image.Contents.Repositories, n.Image.Contents.Keyring)
		if _, ok := universes[named]; !ok {
			before, after, err := c.imageUniverses(ctx, n.Image, arch, changed)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", n.File, err)
			}
			universes[named] = [2]*solve.Universe{before, after}
		}
		i := policy.Image{Node: n.ID, Name: n.Name, Pos: document.Pos{File: n.File, Line: 1, Col: 1}, Before: universes[named][0], After: universes[named][1]}
		var err error
		if i.World, err = n.Image.World(); err != nil {
			return nil, fmt.Errorf("%s: %w", n.File, err)
		}
		if old, ok := c.old.Node(n.ID); ok {
			if i.WorldBefore, err = old.Image.World(); err != nil {
				return nil, fmt.Errorf("%s: %w", n.File, err)
			}
		}
		images = append(images, i)
	}
	return images, nil
}

func (c *comparison) imageUniverses(ctx context.Context, config *image.Config, arch apk.Arch, changed []policy.Changed) (before, after *solve.Universe, err error) {
	named, err := c.imageSources(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	ours := false
	sources := make([]catalog.Source, len(named))
	for i, s := range named {
		if s.URL == c.out("repository") {
			ours = true
			s.URL, s.Keyring = c.own.URL, c.own.Keyring
		}
		sources[i] = catalog.Source{Source: s, Optional: ours}
	}
	before, err = catalog.Open(ctx, c.client, arch, sources...)
	if err != nil || !ours {
		return before, before, err
	}
	return before, over(before, changed), nil
}

// contents are what is in a package. They are remembered as long as the store remembers anything.
func (c *comparison) contents(ctx context.Context, p *apk.Package, file string) (*policy.Contents, error) {
	key := cas.NewKey(policy.ContentsFormat)
	key.Add("package", p.Checksum.String())
	if r, err := c.builder.Store.Result(key.Digest()); err == nil {
		if d, ok := r.Output("contents"); ok {
			b, err := c.builder.Store.ReadAll(d)
			if err != nil {
				return nil, err
			}
			return policy.DecodeContents(b)
		}
	}
	found, err := c.readContents(ctx, p, file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.FileName(), err)
	}
	d, err := c.builder.Store.PutBytes(found.Encode())
	if err != nil {
		return nil, err
	}
	return found, c.builder.Store.SetResult(key.Digest(), &cas.Result{Outputs: []cas.Output{{Name: "contents", Digest: d}}})
}

// readContents reads a package that was made, or one that is published.
func (c *comparison) readContents(ctx context.Context, p *apk.Package, file string) (*policy.Contents, error) {
	if file == "" {
		var err error
		if file, err = c.client.Fetch(ctx, c.own, p); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Checksum: &p.Checksum})
	if err != nil {
		return nil, err
	}
	return policy.ReadContents(r, c.scratch)
}
