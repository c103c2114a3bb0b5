package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
)

func planCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var all bool
	var since sinceFlag
	c := &cobra.Command{
		Use:   "plan [NODE...]",
		Short: "Tell what a build would make, and why; make nothing",
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			if !all && !o.json && len(args) == 0 && since.base == "" {
				if nodes, ok := w.isSettled(c.Context()); ok {
					printCounts(s.stdout, map[verdict]int{upToDate: len(nodes) - 1}) // a plan has no node that publishes
					return nil
				}
			}
			if err := w.read(c.Context()); err != nil {
				return err
			}
			words, none, err := since.words(c.Context(), w, o, (*graph.Node).Definition, args)
			if err != nil {
				return err
			}
			var findings []finding
			if !none {
				nodes, err := w.find(words)
				if err != nil {
					return err
				}
				findings = w.survey(c.Context(), w.graph.Ancestors(nodes...))
			}
			if o.json {
				objects := []findingObject{}
				for _, f := range findings {
					objects = append(objects, f.object())
				}
				return printJSON(s.stdout, objects)
			}
			count := map[verdict]int{}
			for _, f := range findings {
				count[f.verdict]++
				if f.verdict != upToDate || all {
					fmt.Fprintf(s.stdout, "%-10s %-28s %s\n", f.verdict, f.node.ID, f.reason())
				}
			}
			printCounts(s.stdout, count)
			if w.config.Stage0 != "" {
				c, err := w.stage0Config()
				if err != nil {
					return err
				}
				if !c.Stands() {
					fmt.Fprintf(s.stdout, "stage0: a build first makes %s of what %s pins; what follows from that is not counted\n",
						w.short(c.Dir), filepath.Join(w.config.Stage0, stage0Lock))
				}
			}
			if g, err := w.repository().Current(); err == nil && len(g.Undone) > 0 {
				fmt.Fprintf(s.stdout, "repository: %s\n", rolledBack(g))
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&all, "verbose", "v", false, "print also what is up to date")
	since.register(c.Flags())
	return c
}

func printCounts(w io.Writer, count map[verdict]int) {
	fmt.Fprintf(w, "%d to make, %d depend on those, %d up to date\n", count[stale], count[waiting], count[upToDate])
}
