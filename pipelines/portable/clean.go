package main

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// perlCleanup removes what installing a module leaves behind.
func perlCleanup(args []string) error {
	f := flag.NewFlagSet("perl/cleanup", flag.ContinueOnError)
	dir := f.String("dir", "", "folder of the package")
	if err := parse(f, args); err != nil {
		return err
	}
	return removeNamed(*dir, "perllocal.pod", ".packlist")
}

// gemFolders match where versions of Ruby keep their gems; the last is Debian's.
var gemFolders = []string{"usr/lib/ruby/gems/*", "usr/local/lib/ruby/gems/*", "var/lib/gems/*"}

// rubyClean removes what installing a gem leaves behind, of whatever version of Ruby.
func rubyClean(args []string) error {
	f := flag.NewFlagSet("ruby/clean", flag.ContinueOnError)
	dir := f.String("dir", "", "folder of the package")
	if err := parse(f, args); err != nil {
		return err
	}
	for _, pattern := range gemFolders {
		folders, err := filepath.Glob(quoteMeta(*dir) + "/" + pattern)
		if err != nil {
			return err
		}
		for _, gems := range folders {
			if err := cleanGems(gems); err != nil {
				return err
			}
		}
	}
	return nil
}

func cleanGems(dir string) error {
	return errors.Join(
		os.RemoveAll(path.Join(dir, "build_info")),
		os.RemoveAll(path.Join(dir, "cache")),
		removeNamed(dir, "gem_make.out", "mkmf.log"),
	)
}

// removeNamed removes all files of some names below a folder.
func removeNamed(dir string, names ...string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains(names, d.Name()) {
			return err
		}
		return os.Remove(file)
	})
}
