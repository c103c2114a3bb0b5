package build

import (
	"context"
	"fmt"

	"distro.internal/shared/apk"
	"distro.internal/shared/catalog"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// Repositories offers the packages that some repositories have for an
// architecture. What is fetched of them is held against their indexes. A cross
// build has packages of two architectures, but a repository of tools one: where
// there is an index for the other, none for arch means no packages.
func Repositories(ctx context.Context, client *repository.Client, sources []repository.Source, arch, other apk.Arch) (Offer, error) {
	all := make([]catalog.Source, len(sources))
	for i, s := range sources {
		all[i].Source = s
	}
	universe, err := catalog.Open(ctx, client, arch, all...)
	if absent(err) && other != arch {
		for i, s := range sources {
			_, none := client.Snapshot(ctx, s, other)
			all[i].Optional = none == nil
		}
		universe, err = catalog.Open(ctx, client, arch, all...)
	}
	if err != nil {
		return Offer{}, fmt.Errorf("reading the repository's index for %s: %w", arch, err)
	}
	return Offer{Universe: universe, Install: func(c solve.Chosen) Installed {
		return Fetched(client, sources[c.Repository], c.Package)
	}}, nil
}

// Fetched is a package of a repository, fetched when it is needed.
func Fetched(client *repository.Client, s repository.Source, p *apk.Package) Installed {
	return Installed{Package: p, File: func(ctx context.Context) (string, apk.Verify, error) {
		file, err := client.Fetch(ctx, s, p)
		return file, apk.Verify{Checksum: &p.Checksum}, err
	}}
}

// Above offers packages that were just built, in place of what another offer
// has of the same names. They are signed when they are installed.
func (b *Builder) Above(o Offer, made []Package, seal Seal) Offer {
	if len(made) == 0 {
		return o
	}
	own := make(map[*apk.Package]Package, len(made))
	index := &apk.Index{}
	for _, p := range made {
		own[p.Package] = p
		index.Packages = append(index.Packages, p.Package)
	}
	return Offer{
		Universe: o.Universe.Overlay(solve.Repository{Name: "workspace", Index: index}),
		Install: func(c solve.Chosen) Installed {
			if p, ok := own[c.Package]; ok {
				return b.installed(p, seal)
			}
			return o.Install(c)
		},
	}
}

func (b *Builder) installed(p Package, seal Seal) Installed {
	return Installed{Package: p.Package, Content: p.Content, File: func(ctx context.Context) (string, apk.Verify, error) {
		_, file, err := b.Sign(ctx, p, seal)
		return file, apk.Verify{Checksum: &p.Checksum}, err
	}}
}
