package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
)

func signCommand(surroundings) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "sign PACKAGE.apk...",
		Short: "Put a new signature on packages, in place of any they have",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			signer, err := apk.LoadSigner(key)
			if err != nil {
				return err
			}
			for _, file := range files {
				if err := rewrite(file, func(w io.Writer, r io.Reader) error { return apk.Resign(w, r, signer) }); err != nil {
					return fmt.Errorf("signing %s: %w", file, err)
				}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&key, "signing-key", "k", "melange.rsa", "private key to sign with")
	return c
}

// rewrite replaces a file by what write makes of it; a failure leaves the file
// as it was.
func rewrite(file string, write func(io.Writer, io.Reader) error) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.WriteSynced(file, 0o644, func(w io.Writer) error { return write(w, in) })
}
