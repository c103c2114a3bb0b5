package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/catalog"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
	"golang.org/x/sync/errgroup"
)

// Lock decides which packages the image is made of: for each architecture the solution of its world over the sources, in
// their order. It reads indexes only, so it knows of each package what an index tells; Complete adds the rest.
func (b *Builder) Lock(ctx context.Context, c *image.Config, archs []apk.Arch, sources []repository.Source) (*image.Lock, error) {
	return b.lock(ctx, c, archs, sources, func(apk.Arch) (kept, error) { return kept{}, nil })
}

// Relock is the lock with only the named packages updated, and of the others only what these need in another version.
func (b *Builder) Relock(ctx context.Context, c *image.Config, old *image.Lock, sources []repository.Source, update []string) (*image.Lock, error) {
	for _, name := range update {
		if !slices.ContainsFunc(old.Contents.Packages, func(p image.LockPackage) bool { return p.Name == name }) {
			return nil, fmt.Errorf("updating the lock: %s is not in it", name)
		}
	}
	return b.lock(ctx, c, old.Archs(), sources, func(arch apk.Arch) (kept, error) {
		k := kept{packages: old.Packages(arch)}
		k.options = solve.Options{Cautious: true, Marks: make(map[string]solve.Mark), Tags: make(map[string]string)}
		for _, name := range update {
			k.options.Marks[name] = solve.Mark{Flags: solve.Upgrade}
		}
		parts, err := b.parts(ctx, old, arch, sources)
		if err != nil {
			return k, err
		}
		for i, p := range parts {
			k.options.Installed = append(k.options.Installed, p.Package)
			if s, ok := sourceOf(k.packages[i], sources); ok && s.Tag != "" {
				k.options.Tags[p.Package.Name] = s.Tag
			}
		}
		return k, nil
	})
}

// kept is what a new lock keeps of an old one.
type kept struct {
	packages []image.LockPackage
	options  solve.Options
}

// entry is what the old lock says of a package, if it has the same one.
func (k kept) entry(p solve.Chosen) (image.LockPackage, bool) {
	for _, have := range k.packages {
		if have.Name == p.Name && have.Version == p.Version && have.Checksum == p.Checksum.String() {
			return have, true
		}
	}
	return image.LockPackage{}, false
}

// lock makes a lock; keep says what of an older one stays.
func (b *Builder) lock(
	ctx context.Context, c *image.Config, archs []apk.Arch, sources []repository.Source, keep func(apk.Arch) (kept, error),
) (*image.Lock, error) {
	digest, err := c.Digest()
	if err != nil {
		return nil, err
	}
	lock := &image.Lock{Version: image.LockVersion, Config: image.LockConfig{Digest: digest}}
	if lock.Contents.Keyring, err = lockKeys(sources); err != nil {
		return nil, err
	}
	for _, arch := range archs {
		old, err := keep(arch)
		if err != nil {
			return nil, err
		}
		beneath, err := b.base(ctx, c, arch)
		if err != nil {
			return nil, err
		}
		named, err := lockBase(c, arch)
		if err != nil {
			return nil, err
		}
		lock.Contents.BaseImages = append(lock.Contents.BaseImages, named...)
		solution, err := b.solve(ctx, c, arch, sources, old.options, beneath)
		if err != nil {
			return nil, err
		}
		for _, s := range sources {
			lock.Contents.Repositories = append(lock.Contents.Repositories, lockSource(s, arch))
		}
		for _, p := range solution.Packages {
			if beneath != nil && beneath.has(p.Name) {
				continue
			}
			entry, ok := old.entry(p)
			if !ok {
				entry = image.LockPackage{
					Name: p.Name, Version: p.Version, Architecture: arch, Checksum: p.Checksum.String(),
					URL: address(sources[p.Repository]) + "/" + string(arch) + "/" + p.FileName(),
				}
			}
			lock.Contents.Packages = append(lock.Contents.Packages, entry)
		}
	}
	return lock, nil
}

// Solve decides the packages of one architecture, with the reasons.
func (b *Builder) Solve(ctx context.Context, c *image.Config, arch apk.Arch, sources []repository.Source) (*solve.Solution, error) {
	beneath, err := b.base(ctx, c, arch)
	if err != nil {
		return nil, err
	}
	return b.solve(ctx, c, arch, sources, solve.Options{}, beneath)
}

func (b *Builder) solve(
	ctx context.Context, c *image.Config, arch apk.Arch, sources []repository.Source, o solve.Options, beneath *base,
) (*solve.Solution, error) {
	world, err := c.World()
	if err != nil {
		return nil, err
	}
	if beneath != nil {
		world = append(beneath.pins(), world...)
		o.Installed = append(beneath.installed(), o.Installed...)
	}
	named := make([]catalog.Source, len(sources))
	for i, s := range sources {
		named[i] = catalog.Source{Source: s, Name: address(s)}
	}
	universe, err := catalog.Open(ctx, b.Client, arch, named...)
	if err != nil {
		return nil, err
	}
	solution, err := universe.Solve(world, o)
	if err != nil {
		return nil, fmt.Errorf("solving the image's packages for %s: %w", arch, err)
	}
	return solution, nil
}

// base is the address of a source without credentials.
func address(s repository.Source) string { return strings.TrimRight(image.Redact(s.URL), "/") }

func lockSource(s repository.Source, arch apk.Arch) image.LockSource {
	folder := address(s) + "/" + string(arch)
	return image.LockSource{Name: folder, URL: folder + "/APKINDEX.tar.gz", Architecture: arch}
}

// lockKeys lists the keys that vouch for the sources, by name.
func lockKeys(sources []repository.Source) ([]image.LockKey, error) {
	keys := make(map[string]string)
	for _, s := range sources {
		for name, key := range s.Keyring {
			pem, err := apk.EncodePublicKey(key)
			if err != nil {
				return nil, err
			}
			if have, ok := keys[name]; ok && have != string(pem) {
				return nil, fmt.Errorf("two keys are called %s", name)
			}
			keys[name] = string(pem)
		}
	}
	var list []image.LockKey
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		list = append(list, image.LockKey{Name: name, URL: name, Content: keys[name]})
	}
	return list, nil
}

// Complete returns the lock with the sections of every package, for which it reads the packages.
func (b *Builder) Complete(ctx context.Context, lock *image.Lock, sources ...repository.Source) (*image.Lock, error) {
	whole := *lock
	whole.Contents.Packages = slices.Clone(lock.Contents.Packages)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.jobs())
	for i := range whole.Contents.Packages {
		p := &whole.Contents.Packages[i]
		g.Go(func() error {
			t, err := b.part(ctx, *p, func(ctx context.Context) (string, error) { return b.fetch(ctx, *p, sources) })
			if err != nil {
				return err
			}
			p.Signature, p.Control, p.Data = t.Signature, t.Control, t.Data
			return nil
		})
	}
	return &whole, g.Wait()
}

// fetch returns the file of a package of the lock.
func (b *Builder) fetch(ctx context.Context, p image.LockPackage, sources []repository.Source) (string, error) {
	sum, err := apk.ParseChecksum(p.Checksum)
	if err != nil {
		return "", err
	}
	from, _ := sourceOf(p, sources)
	return b.Client.Fetch(ctx, from, &apk.Package{Name: p.Name, Version: p.Version, Arch: p.Architecture, Checksum: sum})
}

// sourceOf is the source that serves the package's address; one of only that address when none of them does.
func sourceOf(p image.LockPackage, sources []repository.Source) (from repository.Source, ok bool) {
	folder := p.URL[:max(0, strings.LastIndexByte(p.URL, '/'))]
	from.URL = strings.TrimSuffix(folder, "/"+string(p.Architecture))
	for _, s := range sources {
		if address(s) == from.URL {
			from, ok = s, true
		}
	}
	return from, ok
}
