package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/console"
)

type shellOptions struct {
	roomFlags
	test    string
	kept    string
	network bool
}

func shellCommand(s surroundings) *cobra.Command {
	var o shellOptions
	c := &cobra.Command{
		Use:   "shell RECIPE.yaml | PACKAGE... | --kept NAME",
		Short: "Open a shell in the environment of a recipe's build or test, or in one of some packages",
		Long: `Open a shell in exactly the environment that the steps of a recipe's build find
when the first of them starts, sources unpacked; with --test in that of the test
of one of its packages; or in one that some packages make up. What is done there
leaves no trace. With --kept it opens where a step failed under --keep; what is
done there stays. Without a terminal, the shell reads its commands from the input.
The exit code is the shell's.`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.open(c.Context(), s, args)
		},
	}
	f := c.Flags()
	o.register(f, s)
	f.StringVar(&o.test, "test", "", "package whose test's environment it is to be")
	f.StringVar(&o.kept, "kept", "", "kept workspace that it is to be in, such as x86_64/zlib")
	f.BoolVar(&o.network, "network", false, "let the shell talk to the network")
	return c
}

func (o *shellOptions) open(ctx context.Context, s surroundings, args []string) error {
	b, err := o.builder(s)
	if err != nil {
		return err
	}
	b.Limits.Wall, b.Limits.Silence, b.Limits.Output = 0, 0, 0 // a person may think
	switch {
	case o.kept != "" && len(args) == 0:
		return o.openKept(ctx, s, b)
	case o.kept != "" || len(args) == 0:
		return errors.New("a shell is in a recipe's environment, in one of packages, or in a kept workspace: name one of them")
	}
	job, err := o.shellJob(ctx, b, args)
	if err != nil {
		return err
	}
	room, err := b.Enter(ctx, job)
	if err != nil {
		return err
	}
	at := recipe.Step{Dir: recipe.Workspace, Network: o.network}
	return s.enter(ctx, room, at)
}

// openKept enters a kept workspace, in the folder and with the variables of the step that failed.
func (o *shellOptions) openKept(ctx context.Context, s surroundings, b *build.Builder) error {
	names := b.Kept()
	if !slices.Contains(names, o.kept) {
		if len(names) == 0 {
			return fmt.Errorf("no workspace %s is kept: there is none", o.kept)
		}
		return fmt.Errorf("no workspace %s is kept: there are %s", o.kept, strings.Join(names, ", "))
	}
	room, at, err := b.Reenter(ctx, o.kept)
	if err != nil {
		return err
	}
	if at.Dir == "" {
		at.Dir = recipe.Workspace
	}
	at.Network = at.Network || o.network
	return s.enter(ctx, room, at)
}

// enter opens a shell in a room. The shell's exit code is that of the command. On a terminal a person has seen why, and
// knows; of a script that was fed in it is told.
func (s surroundings) enter(ctx context.Context, room *build.Room, at recipe.Step) error {
	t := s.terminal()
	err := room.Shell(ctx, t, at)
	closing := room.Close()
	var exit *sandbox.ExitError
	if closing != nil || ctx.Err() != nil || !errors.As(err, &exit) {
		return errors.Join(err, closing)
	}
	if t.Raw {
		err = nil
	}
	code := exit.Code
	if exit.Signal != 0 {
		code = 128 + int(exit.Signal) // as shells say it
	}
	return &console.Ended{Code: code, Err: err}
}

// terminal is where the person sits who called the command, if anybody does.
func (s surroundings) terminal() build.Terminal {
	return build.Terminal{In: s.stdin, Out: s.stdout, Err: s.stderr, Raw: console.IsTerminal(s.stdin), Kind: s.term}
}

func (o *shellOptions) shellJob(ctx context.Context, b *build.Builder, args []string) (build.Job, error) {
	if !isRecipe(args[0]) {
		return o.packagesJob(ctx, args)
	}
	plans, err := o.plans(args[0])
	if err != nil {
		return build.Job{}, err
	}
	if plans, err = pin(ctx, b.Sources, plans); err != nil {
		return build.Job{}, err
	}
	if len(plans) != 1 || len(args) != 1 {
		return build.Job{}, errors.New("a shell has one recipe, for one architecture")
	}
	if o.test == "" {
		job, err := o.job(ctx, args[0], plans[0])
		job.Network = o.network
		return job, err
	}
	tests, err := testsOf(plans[0], []string{o.test})
	if err != nil {
		return build.Job{}, err
	}
	if tests[0].Structural() {
		return build.Job{}, fmt.Errorf("the test of %s only looks at the package and has no environment; melange shell %s opens one with it", o.test, o.test)
	}
	job := build.Job{Plan: plans[0], Test: &tests[0], Local: o.local(args[0], plans[0]), Network: o.network}
	return job, o.resolveTest(ctx, b, &job, nil)
}

// isRecipe tells a recipe from the name of a package.
func isRecipe(word string) bool {
	if strings.HasSuffix(word, ".yaml") || strings.HasSuffix(word, ".yml") {
		return true
	}
	info, err := os.Stat(word)
	return err == nil && info.Mode()&fs.ModeType == 0
}

// packagesJob is a job with nothing to do but to have packages.
func (o *shellOptions) packagesJob(ctx context.Context, names []string) (build.Job, error) {
	archs, err := parseArchs(o.archs)
	switch {
	case err != nil:
		return build.Job{}, err
	case len(archs) > 1 || o.test != "":
		return build.Job{}, errors.New("a shell of packages has one architecture, and no test")
	}
	plan := &recipe.Plan{Name: "shell", Arch: archs[0], BuildArch: archs[0]}
	for _, name := range names {
		d, err := apk.ParseDependency(name)
		if err != nil {
			return build.Job{}, fmt.Errorf("package %q: %w", name, err)
		}
		plan.Environment.Packages = append(plan.Environment.Packages, d)
	}
	job, err := o.job(ctx, "", plan)
	job.Network = o.network
	return job, err
}
