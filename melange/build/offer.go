package build

import (
	"context"
	"fmt"

	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// Repositories offers the packages that some repositories have for an
// architecture. What is fetched of them is held against their indexes.
func Repositories(ctx context.Context, client *repository.Client, sources []repository.Source, arch apk.Arch) (Offer, error) {
	var all []solve.Repository
	for _, s := range sources {
		index, err := client.Index(ctx, s, arch)
		if err != nil {
			return Offer{}, fmt.Errorf("reading the repository's index for %s: %w", arch, err)
		}
		all = append(all, solve.Repository{Name: s.URL, Tag: s.Tag, Index: index})
	}
	return Offer{Universe: solve.Compile(all, arch), Install: func(c solve.Chosen) Installed {
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
