// Sh is a POSIX shell and a few small Unix tools in one static program: all
// that the environment of a test's build has.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func main() {
	err := run(context.Background(), os.Args[1:])
	var status interp.ExitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		os.Exit(2)
	}
}

// run knows two ways to be called: -c SCRIPT [NAME [ARGUMENT...]], and without
// arguments for a script on the input.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		script, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		args = []string{"-c", string(script)}
	}
	if len(args) < 2 || args[0] != "-c" {
		return errors.New("usage: sh [-c SCRIPT [NAME [ARGUMENT...]]]")
	}
	name, params := "sh", []string{}
	if len(args) > 2 {
		name, params = args[2], args[3:]
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(args[1]), name)
	if err != nil {
		return err
	}
	shell, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(append([]string{"--"}, params...)...),
		interp.ExecHandlers(handle),
	)
	if err != nil {
		return err
	}
	return shell.Run(ctx, file)
}

// handle runs the tools in this process, everything else as a program.
func handle(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		tool, ok := tools[args[0]]
		if !ok {
			return next(ctx, args)
		}
		h := interp.HandlerCtx(ctx)
		c := call{dir: h.Dir, in: h.Stdin, out: h.Stdout, options: map[byte]string{}}
		err := c.parse(args[1:], tool.valued)
		if err == nil {
			err = tool.run(ctx, &c)
		}
		if err != nil {
			fmt.Fprintf(h.Stderr, "%s: %v\n", args[0], err)
			return interp.ExitStatus(1)
		}
		return nil
	}
}

// A call is a tool's arguments and surroundings.
type call struct {
	dir     string
	in      io.Reader
	out     io.Writer
	options map[byte]string
	args    []string
}

// parse splits options off; the letters of valued are followed by a value.
func (c *call) parse(args []string, valued string) error {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		letters := args[0][1:]
		args = args[1:]
		for i := range len(letters) {
			value := ""
			if strings.IndexByte(valued, letters[i]) >= 0 {
				if len(args) == 0 {
					return fmt.Errorf("-%c needs a value", letters[i])
				}
				value, args = args[0], args[1:]
			}
			c.options[letters[i]] = value
		}
	}
	c.args = args
	return nil
}

func (c *call) has(letter byte) bool {
	_, ok := c.options[letter]
	return ok
}

func pause(ctx context.Context, c *call) error {
	d, err := time.ParseDuration(strings.Join(c.args, "") + "s")
	if err != nil {
		return err
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
