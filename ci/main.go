// World builds a distribution: it plans packages and images as one graph, and
// makes what is not made already. One file per command; this one is the table
// of them, and the only place that reads the process's surroundings.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/ci/run"
	"distro.internal/melange/plugin"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/console"
	"distro.internal/shared/document"
	"distro.internal/shared/repository"
)

// surroundings is what the process was given.
type surroundings struct {
	stdout, stderr io.Writer
	dir            string // where the workspace is looked for when no flag says
	cache, config  string // the user's folders of this project
	epoch          string // $SOURCE_DATE_EPOCH
	access         repository.Access
}

func main() {
	sandbox.Main()
	plugin.Main()
	s := surroundings{stdout: os.Stdout, stderr: os.Stderr, epoch: os.Getenv("SOURCE_DATE_EPOCH")}
	if dir, err := os.UserCacheDir(); err == nil {
		s.cache = filepath.Join(dir, "distro")
	}
	if dir, err := os.UserConfigDir(); err == nil {
		s.config = filepath.Join(dir, "distro")
	}
	// To plan is to make much garbage and keep little of it: half as many collections cost 20 MB and save a fifth of the time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	var err error
	if s.access, err = repository.AccessFrom(os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		os.Exit(1)
	}
	os.Exit(execute(context.Background(), s, os.Args[1:]))
}

// execute returns the exit code: 0; 1 after a message; 2 when nodes failed,
// each of which has told its story, or a change was found to have errors.
func execute(ctx context.Context, s surroundings, args []string) int {
	var o workspaceFlags
	root := &cobra.Command{
		Use:   "world",
		Short: "Build a distribution: packages and images as one graph, only what changed",
	}
	o.register(root.PersistentFlags(), s)
	for _, command := range []func(surroundings, *workspaceFlags) *cobra.Command{
		affectedCommand, buildCommand, checkCommand, gcCommand, generationsCommand, graphCommand, planCommand, remoteCommand, stage0Command, testCommand, verifyCommand, whyCommand,
	} {
		root.AddCommand(command(s, &o))
	}
	return console.Program{
		Root: root, Args: args, Out: s.stdout, Err: s.stderr,
		Interrupted: "interrupted; what was finished is kept", Told: run.ErrFailed,
		Suggest: document.DidYouMean,
	}.Run(ctx)
}

// workspaceFlags say which workspace, and with which folders and key.
type workspaceFlags struct {
	dir, file  string
	cache, key string
	json       bool
	allowOlder bool
	published  string
}

func (o *workspaceFlags) register(f *pflag.FlagSet, s surroundings) {
	f.StringVarP(&o.dir, "workspace", "C", "", "folder of the workspace; when empty this one, or the nearest above it that has --config")
	f.StringVar(&o.file, "config", "ci/world.yaml", "what the workspace consists of, relative to it")
	f.StringVar(&o.cache, "cache-dir", s.cache, "folder for sources, unpacked packages and results")
	f.StringVar(&o.key, "signing-key", filepath.Join(s.config, "distro.rsa"), "private key to sign with; made when it is not there")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.published, "published", "", "folder or URL of the repository that people have, if builds do not publish to it; as published: of the workspace")
	f.BoolVar(&o.allowOlder, "allow-older-index", false, "take the index of a repository though a newer one was seen")
}
