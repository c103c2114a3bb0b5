// Command apko makes container images from apk packages, as an image file describes them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"distro.internal/shared/console"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	debug.SetGCPercent(400) // most commands are over before a collection would pay
	m := machine{out: os.Stdout, err: os.Stderr, env: os.Getenv}
	if err := m.command().ExecuteContext(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(m.err, "apko: %v\n", err)
		return 1
	}
	return 0
}

// machine is the world outside: everything that commands read and write beyond their arguments.
type machine struct {
	out, err io.Writer
	env      func(string) string
}

func (m *machine) command() *cobra.Command {
	var level, dir string
	root := &cobra.Command{
		Use:           "apko",
		Short:         "Make container images from apk packages",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			ctx, err := console.Logged(cmd.Context(), m.err, level)
			if err != nil {
				return err
			}
			cmd.SetContext(ctx)
			if dir != "" {
				return os.Chdir(dir)
			}
			return nil
		},
	}
	root.SetOut(m.out)
	root.SetErr(m.err)
	root.PersistentFlags().StringVar(&level, "log-level", "warn", "what is logged: debug, info, warn, error")
	root.PersistentFlags().StringVarP(&dir, "workdir", "C", "", "work in this folder")
	root.AddCommand(
		m.build(), m.publish(), m.verify(), m.buildMinirootfs(), m.buildCPIO(), m.lock(),
		m.showPackages(), m.showConfig(), m.dot(), m.why(), m.login(), m.clean(), m.version(),
	)
	return root
}
