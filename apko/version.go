package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is what this release is called. It stands in the images it makes, so it changes when they do, not with each
// commit.
const version = "0.1.0"

func release() string { return version }

func (m *machine) version() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return json.NewEncoder(m.out).Encode(map[string]string{"version": version, "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(m.out, "apko", version)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
