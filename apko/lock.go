package main

import (
	"context"
	"path/filepath"
	"strings"

	"distro.internal/apko/image"
	"github.com/spf13/cobra"
)

func (m *machine) lock() *cobra.Command {
	var o options
	var output string
	cmd := &cobra.Command{
		Use:   "lock CONFIG",
		Short: "Write which packages, to the byte, an image would be made of",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runLock(cmd.Context(), &o, args[0], output)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&output, "output", "", "the lock file; by default CONFIG with .lock.json for its extension")
	return cmd
}

func (m *machine) runLock(ctx context.Context, o *options, config, output string) error {
	s, err := m.session(ctx, o, config)
	if err != nil {
		return err
	}
	lock, err := s.builder.Lock(ctx, s.config, s.archs, s.sources)
	if err != nil {
		return err
	}
	if lock, err = s.builder.Complete(ctx, lock, s.sources...); err != nil {
		return err
	}
	lock.Config = image.LockConfig{Name: filepath.Base(config), Digest: s.digest}
	if output == "" {
		output = strings.TrimSuffix(config, filepath.Ext(config)) + ".lock.json"
	}
	return lock.WriteFile(output)
}
