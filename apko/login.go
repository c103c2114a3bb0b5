package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"distro.internal/apko/oci"
	"github.com/spf13/cobra"
)

// maxPassword is far more than any password or token has, in bytes.
const maxPassword = 64 << 10

func (m *machine) login() *cobra.Command {
	var user, password string
	var fromInput bool
	cmd := &cobra.Command{
		Use:     "login REGISTRY",
		Short:   "Keep a registry's password where docker login keeps it",
		Example: "  apko login registry.example --username me --password-stdin < token",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if fromInput {
				text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPassword))
				if err != nil {
					return fmt.Errorf("reading password: %w", err)
				}
				password = strings.TrimRight(string(text), "\r\n")
			}
			if user == "" || password == "" {
				return errors.New("login: user and password must be given: --username with --password-stdin or --password")
			}
			file, err := oci.Login(args[0], user, password)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(m.err, "kept in", file)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&user, "username", "u", "", "user")
	f.StringVarP(&password, "password", "p", "", "password; others can see it in the list of processes")
	f.BoolVar(&fromInput, "password-stdin", false, "read the password from the standard input")
	cmd.MarkFlagsMutuallyExclusive("password", "password-stdin")
	return cmd
}
