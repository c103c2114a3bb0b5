package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"distro.internal/ci/stage0"
	"distro.internal/shared/apk"
	"distro.internal/shared/console"
)

func stage0Command(s surroundings, o *workspaceFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "stage0",
		Short: "Make the repository of the first tools from what its lock pins",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			unlock, err := w.lock()
			if err != nil {
				return err
			}
			defer unlock()
			return w.makeStage0(c.Context(), s.stderr)
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "emulator ARCH",
		Short: "Print the path of the static emulator that runs an architecture's programs here",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			file, err := w.emulator(c.Context(), apk.Arch(args[0]))
			if err != nil {
				return err
			}
			fmt.Fprintln(s.stdout, file)
			return nil
		},
	})
	c.AddCommand(&cobra.Command{
		Use:   "refresh",
		Short: "Pin the newest versions that Debian has now",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			config, err := w.stage0Config()
			if err != nil {
				return err
			}
			lock, err := stage0.Refresh(c.Context(), config.Apt, config.Spec, filepath.Join(config.Cache, "apt"))
			if err != nil {
				return err
			}
			file := filepath.Join(w.dir, w.config.Stage0, stage0Lock)
			if err := writeIfOther(file, lock.Text(), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "%s: %d packages, %s\n", w.short(file), len(lock.Pins), console.Bytes(lock.Size()))
			return nil
		},
	})
	c.AddCommand(stage0SourcesCommand(s, o))
	return c
}
