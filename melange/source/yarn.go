package source

import (
	"context"
	"os"
	"path"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// yarn 1 looks for what its lock file names in a mirror, a folder of the files as the registry has them, before it asks
// anybody. It verifies them as it does those of a registry. A mirror that a program's own .yarnrc names goes before this one.

// yarnMirror and yarnCache are below the folder of caches.
const (
	yarnMirror = "yarn/mirror"
	yarnCache  = "yarn/cache"
)

func (s *Store) placeYarn(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := l.locate(src, workspace, "yarn.lock")
	if err != nil || file == "" {
		return err
	}
	data, err := readLock(workspace, file)
	if err != nil {
		return err
	}
	packages, err := lockfile.Yarn(file, data, !src.Found)
	if err != nil || len(packages) == 0 {
		return err
	}
	files := make([]locked, len(packages))
	for i, p := range packages {
		files[i] = locked{what: p.Name + "@" + p.Version, pos: p.Pos, want: npmWant(p.Resolved, p.Algorithm, p.Digest)}
		l.fetched(yarnPackage(p))
	}
	names, err := s.lockedFiles(ctx, files, s.npmAddresses())
	if err != nil || l.Caches == "" {
		return err
	}
	for i, p := range packages {
		if _, err := placeAs(l, path.Join(yarnMirror, p.File), names[i]); err != nil {
			return err
		}
	}
	l.set("YARN_YARN_OFFLINE_MIRROR", recipe.CacheDir+"/"+yarnMirror)
	l.set("YARN_CACHE_FOLDER", recipe.CacheDir+"/"+yarnCache)
	return nil
}
