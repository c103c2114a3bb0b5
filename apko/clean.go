package main

import (
	"fmt"
	"math"
	"time"

	"distro.internal/shared/console"
	"distro.internal/shared/eviction"
	"github.com/spf13/cobra"
)

func (m *machine) clean() *cobra.Command {
	var o options
	var age time.Duration
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Remove what was fetched and made before",
		Long: `Remove from the cache what was not used for as long as --older-than says; all of it by default, but for what somebody
used within the last hour and may be reading. It is fetched and made again when it is needed.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := m.builder(&o)
			if err != nil {
				return err
			}
			if dryRun {
				age = math.MaxInt64
			}
			made, err := b.CAS.GC(age, 0)
			if err != nil {
				return fmt.Errorf("cleaning %s: %w", b.CAS.Dir, err)
			}
			fetched, err := b.Client.GC(age, 0)
			if err != nil {
				return fmt.Errorf("cleaning %s: %w", b.Client.Cache, err)
			}
			both := eviction.Collected{Bytes: made.Bytes + fetched.Bytes, LeftBytes: made.LeftBytes + fetched.LeftBytes}
			_, err = fmt.Fprintf(m.out, "removed %s, %s are left\n", console.Bytes(both.Bytes), console.Bytes(both.LeftBytes))
			return err
		},
	}
	cmd.Flags().StringVar(&o.cacheDir, "cache-dir", "", "folder for what was fetched and made before")
	cmd.Flags().DurationVar(&age, "older-than", time.Nanosecond, "remove only what was not used for as long")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "remove nothing, only tell how much there is")
	return cmd
}
