// Melange builds packages from recipes. One file per command; this one is the
// table of them, and the only place that reads the process's surroundings.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"distro.internal/melange/plugin"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/console"
	"distro.internal/shared/document"
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
	debug.SetGCPercent(400) // most commands are over before a collection would pay
	s := surroundings{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, epoch: os.Getenv("SOURCE_DATE_EPOCH"), term: os.Getenv("TERM"), noColor: os.Getenv("NO_COLOR") != ""}
	if dir, err := os.UserCacheDir(); err == nil {
		s.cache = filepath.Join(dir, "distro")
	}
	var err error
	if s.access, err = repository.AccessFrom(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "melange:", err)
		os.Exit(1)
	}
	os.Exit(run(context.Background(), s, os.Args[1:]))
}

// version is what this release is called. It is no part of what is built.
const version = "0.1.0"

// run returns the exit code: 0, that of a program which was run for the user, or 1 after one message.
func run(ctx context.Context, s surroundings, args []string) int {
	s.args = args
	root := &cobra.Command{
		Use:     "melange",
		Short:   "Build apk packages from recipes, in a sandbox, without network and without root",
		Version: version,
	}
	for _, command := range []func(surroundings) *cobra.Command{
		buildCommand, bumpCommand, compileCommand, convertCommand, indexCommand, keygenCommand, licenseCheckCommand, lintCommand, packageVersionCommand, pipelinesCommand, queryCommand, rebuildCommand, scanCommand, shellCommand, signCommand, signIndexCommand, sourceCommand, testCommand, updateCacheCommand, updateCommand,
	} {
		root.AddCommand(command(s))
	}
	return console.Program{
		Root: root, Args: args, Out: s.stdout, Err: s.stderr,
		Suggest: document.DidYouMean, Elsewhere: elsewhere,
	}.Run(ctx)
}
