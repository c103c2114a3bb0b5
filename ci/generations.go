package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/shared/repository"
)

func generationsCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "generations",
		Short: "List the published states of the repository that are kept",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			r := &repository.Repository{Dir: w.out("repository")}
			generations, err := r.Generations()
			if err != nil {
				return err
			}
			current, err := r.Current()
			if err != nil {
				return fmt.Errorf("nothing is published in %s: %w", w.short(r.Dir), err)
			}
			objects := []generationObject{}
			for _, g := range generations {
				info, err := os.Stat(g.Dir)
				if err != nil {
					return err
				}
				objects = append(objects, generationObject{g.Number, info.ModTime().UTC(), g.Number == current.Number, g.Of})
			}
			if o.json {
				return printJSON(s.stdout, objects)
			}
			for _, g := range objects {
				mark := " "
				if g.Current {
					mark = "*"
				}
				of := ""
				if g.Of > 0 {
					of = fmt.Sprintf("  what %d had", g.Of)
				}
				fmt.Fprintf(s.stdout, "%s %4d  %s%s\n", mark, g.Number, g.Published.Format(time.DateTime), of)
			}
			return nil
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "rollback NUMBER",
		Short: "Publish what another state had, for all architectures at once",
		Long: `Publish what another kept state had, for all architectures at once, as a new
generation. It holds: a build that comes to what was rolled back publishes
nothing, and says so. One that comes to something else publishes that; and to
roll back to the newer state, by its number, publishes it again.

New machines and images get the older packages. A machine that has the newer
ones keeps them, for apk takes no lower version: what those should have is best
built, and is a new release then.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("%q is not the number of a generation", args[0])
			}
			if err := w.openKey(o.key); err != nil {
				return err
			}
			g, err := w.repository().Rollback(c.Context(), n)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "generation %d has what generation %d had\n", g.Number, n)
			return nil
		},
	})
	return c
}

type generationObject struct {
	Number    int       `json:"number"`
	Published time.Time `json:"published"`
	Current   bool      `json:"current"`
	Of        int       `json:"of,omitempty"` // the generation that it is a rollback to
}
