package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"distro.internal/apko/image"
	"github.com/spf13/cobra"
)

// locking are the flags of apko lock.
type locking struct {
	options
	output string
	check  bool
	update []string
}

func (m *machine) lock() *cobra.Command {
	var o locking
	cmd := &cobra.Command{
		Use:     "lock CONFIG",
		Aliases: []string{"resolve"},
		Short:   "Write which packages, to the byte, an image would be made of",
		Long: `Write which packages, to the byte, an image would be made of. With --update only the named packages, and what they need
in another version, are those of today; the others stay as the lock has them. With --check nothing is written: what
would change in the lock is printed, and it is an error if anything would.`,
		Example: `  apko lock nginx.yaml
  apko lock nginx.yaml --update openssl
  apko lock nginx.yaml --check`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runLock(cmd.Context(), &o, args[0])
		},
	}
	o.register(cmd)
	o.registerLimits(cmd)
	cmd.Flags().StringVar(&o.output, "output", "", "the lock file; by default CONFIG with .lock.json for its extension")
	cmd.Flags().BoolVar(&o.check, "check", false, "only tell whether the lock is as it would be made now")
	cmd.Flags().StringSliceVar(&o.update, "update", nil, "packages to update; all others stay")
	return cmd
}

func (m *machine) runLock(ctx context.Context, o *locking, config string) error {
	if o.output == "" {
		o.output = strings.TrimSuffix(config, filepath.Ext(config)) + ".lock.json"
	}
	s, err := m.session(ctx, &o.options, config)
	if err != nil {
		return err
	}
	lock, err := s.relocked(ctx, o)
	if err != nil {
		return err
	}
	if o.check {
		return m.checkLock(s, o.output, lock)
	}
	if lock, err = s.builder.Complete(ctx, lock, s.sources...); err != nil {
		return err
	}
	lock.Config = image.LockConfig{Name: filepath.Base(config), Files: s.config.Files, Digest: s.digest}
	return lock.WriteFile(o.output)
}

// relocked is the lock as it is to be: all new, or the old one with some packages updated.
func (s *session) relocked(ctx context.Context, o *locking) (*image.Lock, error) {
	if len(o.update) == 0 {
		return s.builder.Lock(ctx, s.config, s.archs, s.sources)
	}
	old, err := image.ReadLock(o.output)
	if err != nil {
		return nil, err
	}
	return s.builder.Relock(ctx, s.config, old, s.sources, o.update)
}

func (m *machine) checkLock(s *session, file string, now *image.Lock) error {
	have, err := image.ReadLock(file)
	if err != nil {
		return err
	}
	if have.Config.Digest != s.digest {
		return fmt.Errorf("the lock %s was made for another image file or other flags: lock it again", file)
	}
	differences := have.Diff(now)
	for _, d := range differences {
		fmt.Fprintln(m.out, d)
	}
	if len(differences) > 0 {
		return fmt.Errorf("the lock %s is not what it would be now: packages that differ: %d", file, len(differences))
	}
	return nil
}
