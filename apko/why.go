package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (m *machine) why() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "why CONFIG PACKAGE",
		Short: "Tell why a package is in an image",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runWhy(cmd.Context(), &o, args[0], args[1])
		},
	}
	o.register(cmd)
	return cmd
}

func (m *machine) runWhy(ctx context.Context, o *options, config, name string) error {
	s, err := m.session(ctx, o, config)
	if err != nil {
		return err
	}
	for _, arch := range s.archs {
		solution, err := s.builder.Solve(ctx, s.config, arch, s.sources)
		if err != nil {
			return err
		}
		if len(s.archs) > 1 {
			fmt.Fprintf(m.out, "%s:\n", arch)
		}
		chain := solution.Why(name)
		if len(chain) == 0 {
			return fmt.Errorf("%s is not among the %d packages of the image", name, len(solution.Packages))
		}
		for _, c := range chain {
			switch {
			case c.Reason.By == "":
				fmt.Fprintf(m.out, "%s-%s: the image file wants %s\n", c.Name, c.Version, c.Reason.Dependency)
			case c.Reason.InstallIf:
				fmt.Fprintf(m.out, "%s-%s: installs itself with %s, which is there for %s\n", c.Name, c.Version, c.Reason.Dependency, c.Reason.By)
			default:
				fmt.Fprintf(m.out, "%s-%s: %s depends on %s\n", c.Name, c.Version, c.Reason.By, c.Reason.Dependency)
			}
		}
	}
	return nil
}
