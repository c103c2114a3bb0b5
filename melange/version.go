package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is what this release is called. It is no part of what is built.
const version = "0.1.0"

func versionCommand(s surroundings) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return writeJSON(s.stdout, map[string]string{"version": version, "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(s.stdout, "melange", version)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
