package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"distro.internal/shared/apk"
)

func keygenCommand(s surroundings) *cobra.Command {
	var bits int
	c := &cobra.Command{
		Use:   "keygen [melange.rsa]",
		Short: "Make a key for signing packages and indexes: FILE, and FILE.pub to verify with",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := "melange.rsa"
			if len(args) > 0 {
				file = args[0]
			}
			if err := keygen(file, bits); err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "%s\n%s.pub\n", file, file)
			return nil
		},
	}
	c.Flags().IntVar(&bits, "key-size", apk.DefaultKeyBits, "size of the key in bits")
	return c
}

// keygen never overwrites a key.
func keygen(file string, bits int) error {
	for _, f := range []string{file, file + ".pub"} {
		if _, err := os.Lstat(f); err == nil {
			return fmt.Errorf("%s is there already", f)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	key, err := apk.GenerateKey(bits)
	if err != nil {
		return err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := create(file, apk.EncodePrivateKey(key), 0o600); err != nil {
		return err
	}
	return create(file+".pub", public, 0o644)
}

func create(file string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
