package source

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/mod/sumdb/dirhash"

	"distro.internal/melange/recipe"
)

// Pin fetches what a source that names no digest yields now, and returns the
// source with the digest, commit or sum of that.
func (s *Store) Pin(ctx context.Context, src recipe.Source) (recipe.Source, error) {
	switch src.Kind {
	case recipe.SourceFetch:
		name, err := s.File(ctx, src)
		if err != nil {
			return src, located(src, err)
		}
		src.SHA256 = filepath.Base(name) // what came without a digest lies under its SHA-256
	case recipe.SourceGit:
		r, err := s.commit(ctx, src)
		if err != nil {
			return src, located(src, err)
		}
		src.Commit = r.commit.String()
	case recipe.SourceModule:
		zip, err := s.module(ctx, src)
		if err != nil {
			return src, located(src, err)
		}
		if src.Sum, err = dirhash.HashZip(zip, dirhash.Hash1); err != nil {
			return src, located(src, err)
		}
	default:
		return src, located(src, fmt.Errorf("a %s source cannot be pinned", src.Kind))
	}
	return src, nil
}
