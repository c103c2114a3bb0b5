package source

import (
	"context"
	"os"
	"path"
	"slices"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// pnpm knows the address of a package by its name and version, and reads files where the address is one of a file. So its
// registry is a folder. Installing what a lock file names it asks a registry for nothing else. An address that the lock
// file itself has becomes, in the workspace, that of the file from there: one with a scheme it wants to be of a server.

// pnpmFolder is below the folder of caches.
const pnpmFolder = "pnpm"

// pnpmRegistry has two slashes and not three: pnpm 8 wants a registry to have a host, and takes that for the beginning of a
// path when it reads the file.
const pnpmRegistry = "file:/" + recipe.CacheDir + "/" + pnpmFolder + "/registry/"

func (s *Store) placePNPM(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := l.locate(src, workspace, "pnpm-lock.yaml")
	if err != nil || file == "" {
		return err
	}
	data, err := readLock(workspace, file)
	if err != nil {
		return err
	}
	packages, err := lockfile.PNPM(file, data, !src.Found)
	if err != nil || len(packages) == 0 {
		return err
	}
	packages = slices.DeleteFunc(packages, func(p lockfile.PNPMPackage) bool { return !p.Needed(string(src.Arch)) })
	files := make([]locked, len(packages))
	for i, p := range packages {
		files[i] = locked{what: p.Name + "@" + p.Version, pos: p.Pos, want: npmWant(p.Resolved, p.Algorithm, p.Digest)}
		l.fetched(npmPackage(src.Kind, p.NPMPackage))
	}
	names, err := s.lockedFiles(ctx, files, s.npmAddresses())
	if err != nil || l.Caches == "" {
		return err
	}
	for i, p := range packages {
		to := path.Join(pnpmFolder, "registry", p.File)
		if _, err := placeAs(l, to, names[i]); err != nil {
			return err
		}
		if p.Resolved != "" {
			if err := readdress(workspace, file, "tarball: "+p.Resolved, "tarball: ./"+p.File); err != nil {
				return err
			}
		}
	}
	for name, value := range map[string]string{
		"store_dir": recipe.CacheDir + "/" + pnpmFolder + "/store",
		"cache_dir": recipe.CacheDir + "/" + pnpmFolder + "/cache",
		// questions to a registry
		"update_notifier":                 "false",
		"manage_package_manager_versions": "false",
	} {
		l.set("npm_config_"+name, value)
	}
	return l.setRegistry(file, pnpmRegistry)
}
