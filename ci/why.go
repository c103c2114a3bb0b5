package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/ci/run"
	"distro.internal/shared/console"
)

func whyCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "why NODE...",
		Short: "Tell which inputs of a node changed since it was last made: old and new",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openForReading(c.Context(), s, o)
			if err != nil {
				return err
			}
			nodes, err := w.find(args)
			if err != nil {
				return err
			}
			asked := map[string]bool{}
			for _, n := range nodes {
				asked[n.ID] = true
			}
			objects := []whyObject{}
			for _, f := range w.survey(c.Context(), w.graph.Ancestors(nodes...), false) {
				if !asked[f.id] {
					continue
				}
				why := whyObject{findingObject: f.object()}
				if last, ok := w.journal.Last(f.id); ok {
					why.Last = &last
				}
				objects = append(objects, why)
			}
			if o.json {
				return printJSON(s.stdout, objects)
			}
			for _, why := range objects {
				printWhy(s.stdout, why)
			}
			return nil
		},
	}
}

type whyObject struct {
	findingObject
	Last *run.Record `json:"last,omitempty"`
}

func printWhy(w io.Writer, why whyObject) {
	fmt.Fprintf(w, "%s: %s\n", why.Node, why.Verdict)
	if l := why.Last; l != nil {
		fmt.Fprintf(w, "  last %s %s, took %s%s\n", l.Status, l.Time.Format(time.DateTime), console.Duration(l.Took), prefixed("; ", l.Note))
	} else {
		fmt.Fprintln(w, "  was never made here")
	}
	if why.Error != "" {
		fmt.Fprintf(w, "  %s\n", why.Error)
	}
	for _, id := range why.After {
		fmt.Fprintf(w, "  depends on what comes of %s\n", id)
	}
	for _, c := range why.Changes {
		switch {
		case c.Old == "":
			fmt.Fprintf(w, "  new      %s: %s\n", c.Input, c.New)
		case c.New == "":
			fmt.Fprintf(w, "  gone     %s: %s\n", c.Input, c.Old)
		default:
			fmt.Fprintf(w, "  changed  %s\n    old %s\n    new %s\n", c.Input, c.Old, c.New)
		}
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
