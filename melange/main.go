// Melange builds packages from recipes. One file per command; this one is the
// table of them, and the only place that reads the process's surroundings.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"distro.internal/melange/plugin"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/console"
	"distro.internal/shared/repository"
)

// surroundings is what the process was given.
type surroundings struct {
	stdin          *os.File
	stdout, stderr io.Writer
	cache          string // the user's cache folder of this project
	epoch          string // $SOURCE_DATE_EPOCH
	term           string // $TERM
	noColor        bool   // $NO_COLOR
	args           []string
	access         repository.Access
}

func main() {
	sandbox.Main()
	plugin.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := surroundings{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, epoch: os.Getenv("SOURCE_DATE_EPOCH"), term: os.Getenv("TERM"), noColor: os.Getenv("NO_COLOR") != ""}
	if dir, err := os.UserCacheDir(); err == nil {
		s.cache = filepath.Join(dir, "distro")
	}
	var err error
	if s.access, err = repository.AccessFrom(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "melange:", err)
		os.Exit(1)
	}
	os.Exit(run(ctx, s, os.Args[1:]))
}

// run returns the exit code: 0, or 1 after one message.
func run(ctx context.Context, s surroundings, args []string) int {
	var level string
	s.args = args
	root := &cobra.Command{
		Use:           "melange",
		Short:         "Build apk packages from recipes, in a sandbox, without network and without root",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			ctx, err := console.Logged(c.Context(), s.stderr, level)
			c.SetContext(ctx)
			return err
		},
	}
	root.PersistentFlags().StringVar(&level, "log-level", "warn", "what is logged on stderr: debug, info, warn, error")
	for _, command := range []func(surroundings) *cobra.Command{
		buildCommand, bumpCommand, compileCommand, convertCommand, indexCommand, keygenCommand, licenseCheckCommand, lintCommand, packageVersionCommand, pipelinesCommand, queryCommand, rebuildCommand, scanCommand, shellCommand, signCommand, signIndexCommand, sourceCommand, testCommand, updateCacheCommand, updateCommand, versionCommand,
	} {
		root.AddCommand(command(s))
	}
	root.SetFlagErrorFunc(flagError)
	root.SetArgs(args)
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(s.stderr, "melange:", err)
		return 1
	}
	return 0
}
