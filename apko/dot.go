package main

import (
	"context"
	"fmt"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve"
	"github.com/spf13/cobra"
)

func (m *machine) dot() *cobra.Command {
	var o options
	var tree bool
	cmd := &cobra.Command{
		Use:   "dot CONFIG",
		Short: "Print the packages of an image and what they depend on as a graph, for Graphviz",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runDot(cmd.Context(), &o, args[0], tree)
		},
	}
	o.register(cmd)
	cmd.Flags().BoolVarP(&tree, "spanning-tree", "S", false, "only the edge by which each package came in")
	return cmd
}

func (m *machine) runDot(ctx context.Context, o *options, config string, tree bool) error {
	s, err := m.session(ctx, o, config)
	if err != nil {
		return err
	}
	solution, err := s.builder.Solve(ctx, s.config, s.archs[0], s.sources)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("digraph image {\n")
	for _, p := range solution.Packages {
		fmt.Fprintf(&b, "  %q [label=%q];\n", p.Name, p.Name+"\n"+string(p.Version))
		if tree || p.Reason.By == "" {
			by := p.Reason.By
			if by == "" {
				by = "world"
			}
			fmt.Fprintf(&b, "  %q -> %q;\n", by, p.Name)
		}
		if !tree {
			writeEdges(&b, p, solution)
		}
	}
	b.WriteString("}\n")
	_, err = fmt.Fprint(m.out, b.String())
	return err
}

// writeEdges draws each dependency of a package to what satisfies it.
func writeEdges(b *strings.Builder, p solve.Chosen, s *solve.Solution) {
	drawn := make(map[string]bool)
	for _, d := range p.Depends {
		if d.Conflict {
			continue
		}
		if to := provider(d, s); to != "" && to != p.Name && !drawn[to] {
			drawn[to] = true
			fmt.Fprintf(b, "  %q -> %q;\n", p.Name, to)
		}
	}
}

func provider(d apk.Dependency, s *solve.Solution) string {
	for _, c := range s.Packages {
		if c.Satisfies(d) {
			return c.Name
		}
	}
	return ""
}
