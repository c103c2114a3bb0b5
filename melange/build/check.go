package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"distro.internal/melange/lint"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// check runs a step of a test that looks at the finished package: at its files as they lie unpacked in the store, and,
// where it leads there, at those of the packages of the environment.
func (b *Builder) check(ctx context.Context, job Job, c *recipe.Check) error {
	i := slices.IndexFunc(job.Environment.Root, func(p Installed) bool { return p.Name == job.Test.Output })
	if i < 0 {
		return fmt.Errorf("package %s is not in its test's environment", job.Test.Output)
	}
	p := job.Environment.Root[i]
	layer, err := b.unpack(ctx, p)
	if err != nil {
		return err
	}
	tree, err := filetree.Scan(layer, filetree.ScanOptions{})
	if err != nil {
		return err
	}
	return lint.Structure{
		Name: p.Name, Description: p.Description, Depends: spelled(p.Depends), Provides: spelled(p.Provides), Tree: tree,
		Installed: func(path string) (bool, error) { return b.installedFile(ctx, job, path) },
		Provided: func(name string) bool {
			return slices.ContainsFunc(job.Environment.Root, func(p Installed) bool {
				return slices.ContainsFunc(p.Provides, func(d apk.Dependency) bool { return d.Name == name })
			})
		},
	}.Check(c.Name, c.With)
}

func spelled(list []apk.Dependency) []string {
	var texts []string
	for _, d := range list {
		texts = append(texts, d.String())
	}
	return texts
}

// unpack is the folder of a package's files.
func (b *Builder) unpack(ctx context.Context, p Installed) (string, error) {
	file, verify, err := p.File(ctx)
	if err != nil {
		return "", fmt.Errorf("getting %s: %w", p.Name, err)
	}
	layer, err := b.Roots.Unpack(ctx, file, verify)
	return layer.Dir, err
}

// installedFile says whether a package of the environment has a path.
func (b *Builder) installedFile(ctx context.Context, job Job, path string) (bool, error) {
	for _, p := range job.Environment.Root {
		layer, err := b.unpack(ctx, p)
		if err != nil {
			return false, err
		}
		root, err := os.OpenRoot(layer)
		if err != nil {
			return false, err
		}
		_, err = root.Lstat(filepath.FromSlash(path))
		root.Close()
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}
