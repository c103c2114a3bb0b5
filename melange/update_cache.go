package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
)

type updateCacheOptions struct {
	planFlags
	cacheDir string
	mirrors  []string
}

func updateCacheCommand(s surroundings) *cobra.Command {
	var o updateCacheOptions
	c := &cobra.Command{
		Use:   "update-cache RECIPE...",
		Short: "Fetch all that recipes are built and tested from, for builds without a network",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, file := range args {
				if err := o.fetch(c.Context(), s, file); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	o.register(f)
	f.StringVar(&o.cacheDir, "cache-dir", s.cache, "folder that builds have their sources from")
	f.StringSliceVar(&o.mirrors, "source-mirror", nil, "folders or URLs that hold sources by digest: sha256/HEX, sha512/HEX")
	return c
}

func (o *updateCacheOptions) fetch(ctx context.Context, s surroundings, file string) error {
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	store, err := sourceStore(o.cacheDir, o.mirrors...)
	if err != nil {
		return err
	}
	for _, plan := range plans {
		groups := [][]recipe.Source{plan.Sources}
		for _, t := range plan.Tests {
			groups = append(groups, t.Sources)
		}
		n, own := 0, o.local(file, plan)
		for _, sources := range groups {
			if err := fetchSources(ctx, store, sources, own); err != nil {
				return err
			}
			n += len(sources)
		}
		fmt.Fprintf(s.stdout, "%s/%s: %s in the cache\n", plan.Arch, plan.Name, count(n, "source"))
	}
	return nil
}

// fetchSources fetches what one workspace is made of. What lock files name is only
// known where they have been unpacked, or copied.
func fetchSources(ctx context.Context, store *source.Store, sources []recipe.Source, own fs.FS) error {
	if !slices.ContainsFunc(sources, recipe.Source.Locked) {
		return store.Fetch(ctx, sources)
	}
	dir, err := os.MkdirTemp("", "sources-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if own != nil {
		if err := os.CopyFS(dir, own); err != nil {
			return err
		}
	}
	_, err = store.Prepare(ctx, sources, dir, "")
	return err
}
