package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

// A Program is a command as all of this project are: it logs as --log-level says, tells its version, ends in order when it
// is interrupted, and says of what went wrong one line with its name before it.
type Program struct {
	Root     *cobra.Command // with its subcommands; it becomes the program's
	Args     []string       // without the name; nil: those of the process
	Out, Err io.Writer

	Interrupted string // said when a signal ended it; empty: "interrupted"
	Told        error  // the cause of a failure of which all was said: nothing more is

	// Suggest says which of the known words a mistyped one may be, or nothing; Elsewhere what is there in place of
	// flags that people look for.
	Suggest   func(word string, known []string) string
	Elsewhere map[string]string
}

// Ended is how something ended that was run for the user: its exit code is the program's own.
type Ended struct {
	Code int
	Err  error // what is to be said; nil for nothing
}

func (e *Ended) Error() string { return fmt.Sprintf("exit code %d", e.Code) }
func (e *Ended) Unwrap() error { return e.Err }

// Run returns the exit code: 0; 1 after a message; 2 for what was told; that of what [Ended].
func (p Program) Run(ctx context.Context) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p.complete()
	err := p.Root.ExecuteContext(ctx)
	var end *Ended
	switch {
	case err == nil:
		return 0
	case errors.As(err, &end):
		if end.Err != nil {
			p.complain(end.Err)
		}
		return end.Code
	case p.Told != nil && errors.Is(err, p.Told):
		return 2
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
		if p.Interrupted != "" {
			err = errors.New(p.Interrupted)
		}
	}
	p.complain(err)
	return 1
}

func (p Program) complain(err error) { fmt.Fprintf(p.Err, "%s: %v\n", p.Root.Name(), err) }

func (p Program) complete() {
	root := p.Root
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	if p.Args != nil {
		root.SetArgs(p.Args)
	}
	root.SetFlagErrorFunc(p.flagError)
	countArguments(root)
	var level string
	root.PersistentFlags().StringVar(&level, "log-level", "warn", "what is logged on stderr: debug, info, warn, error")
	before := root.PersistentPreRunE
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		ctx, err := Logged(c.Context(), p.Err, level)
		if err != nil {
			return err
		}
		c.SetContext(ctx)
		if before == nil {
			return nil
		}
		return before(c, args)
	}
	if root.Version != "" {
		root.AddCommand(version(root.Name(), root.Version, p.Out))
	}
}

func version(name, number string, out io.Writer) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				enc := json.NewEncoder(out)
				enc.SetIndent("", "  ")
				return enc.Encode(map[string]string{"version": number, "go": runtime.Version()})
			}
			_, err := fmt.Fprintln(out, name, number)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
