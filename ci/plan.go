package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/ci/run"
)

func planCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var all bool
	var since sinceFlag
	c := &cobra.Command{
		Use:   "plan [NODE...]",
		Short: "Tell what a build would make, and why; make nothing",
		Long: `Tell what a build of these nodes would make and publish, and why; make nothing.

  to make     its inputs are not as they were; with the version that its packages are
              released as, if they come out other than they are published
  depends     it is made again if what it needs comes out other than it was
  repository  which releases the next generation has or has not, as far as that is
              known before anything is made

The exit code is 2 when the environment of a node cannot be solved though all that
it needs is made.`,
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			if !all && !o.json && len(args) == 0 && since.base == "" {
				if nodes, ok := w.isSettled(c.Context()); ok {
					printCounts(s.stdout, map[verdict]int{upToDate: len(nodes)})
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
				findings = w.survey(c.Context(), w.graph.Ancestors(nodes...), len(words) == 0)
			}
			var failed error
			if slices.ContainsFunc(findings, func(f finding) bool { return f.err != nil }) {
				failed = run.ErrFailed
			}
			if o.json {
				objects := []findingObject{}
				for _, f := range findings {
					objects = append(objects, f.object())
				}
				return errors.Join(printJSON(s.stdout, objects), failed)
			}
			count := map[verdict]int{}
			for _, f := range findings {
				count[f.verdict]++
				if f.verdict != upToDate || all {
					fmt.Fprintf(s.stdout, "%-10s %-28s %s\n", f.verdict, f.id, f.reason()+prefixed("; ", released(f.next)))
				}
			}
			printCounts(s.stdout, count)
			if awaited, err := w.awaitsStage0(); err != nil {
				return err
			} else if awaited {
				fmt.Fprintf(s.stdout, "stage0: a build first makes %s of what %s pins; what follows from that is not counted\n",
					w.short(w.out("stage0")), filepath.Join(w.config.Stage0, stage0Lock))
			}
			if g, err := w.repository().Current(); err == nil && len(g.Undone) > 0 {
				fmt.Fprintf(s.stdout, "repository: %s\n", rolledBack(g))
			}
			return failed
		},
	}
	c.Flags().BoolVarP(&all, "verbose", "v", false, "print also what is up to date")
	since.register(c.Flags())
	return c
}

// released says what packages are that come out other than they are published.
func released(next string) string {
	if next == "" {
		return ""
	}
	return next + " if it comes out other than it is published"
}

func printCounts(w io.Writer, count map[verdict]int) {
	fmt.Fprintf(w, "%d to make, %d depend on those, %d up to date\n", count[stale], count[waiting], count[upToDate])
}
