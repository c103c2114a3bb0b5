package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
	"distro.internal/shared/console"
)

func gcCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var age time.Duration
	var size string
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove from the cache what was not used for long, or what is too much",
		Long: `Remove from the cache results, unpacked packages and fetched packages that were
not used for as long as --older-than says, and of what is left, the longest unused
first, as much as must go for each of the three to be no larger than --max-size.
What is removed is made or fetched again when it is needed. Sources stay: nobody
else may have them any more. Kept workspaces that nobody worked in for as long go
as well, and portable steps that were not run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			var limit int64
			if size != "" {
				if limit, err = recipe.ParseSize(size); err != nil {
					return err
				}
			}
			results, err := w.builder.Store.GC(age, limit)
			if err != nil {
				return err
			}
			roots, err := w.builder.Roots.GC(age, limit)
			if err != nil {
				return err
			}
			packages, err := w.client.GC(age, limit)
			if err != nil {
				return err
			}
			if err := w.builder.Sweep(c.Context(), age); err != nil {
				return err
			}
			modules, err := w.builder.Modules.GC(age)
			if err != nil {
				return err
			}
			freed := results.Bytes + roots.Bytes + packages.Bytes + modules
			if o.json {
				return printJSON(s.stdout, map[string]int64{
					"results": results.Bytes, "unpacked": roots.Bytes, "fetched": packages.Bytes, "modules": modules,
				})
			}
			fmt.Fprintf(s.stdout, "removed %s: results %s, unpacked packages %s, fetched packages %s, portable steps %s\n", console.Bytes(freed),
				console.Bytes(results.Bytes), console.Bytes(roots.Bytes), console.Bytes(packages.Bytes), console.Bytes(modules))
			return nil
		},
	}
	c.Flags().DurationVar(&age, "older-than", 30*24*time.Hour, "how long something must not have been used to go; 0 removes nothing for its age")
	c.Flags().StringVar(&size, "max-size", "", "how much may stay of each kind, like 20Gi; no limit when empty")
	return c
}
