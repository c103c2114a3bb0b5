package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
)

type buildOptions struct {
	roomFlags
	lintFlags
	outDir, signingKey string
	shell              bool
}

func buildCommand(s surroundings) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build RECIPE",
		Short: "Build the packages of a recipe into a repository",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.build(c.Context(), s, args[0])
		},
	}
	f := c.Flags()
	o.roomFlags.register(f, s)
	o.lintFlags.register(f)
	f.StringVar(&o.outDir, "out-dir", "packages", "repository that the packages are published in")
	f.StringVar(&o.signingKey, "signing-key", "", "private key to sign packages and index with")
	f.BoolVar(&o.shell, "shell", false, "when a step fails, open a shell where it failed")
	return c
}

func (o *buildOptions) build(ctx context.Context, s surroundings, file string) error {
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	builder, err := o.builder(s)
	if err != nil {
		return err
	}
	builder.Lint, builder.Record = o.policy, true
	if err := o.policy.Check(); err != nil {
		return err
	}
	seal, err := o.seal()
	if err != nil {
		return err
	}
	change := repository.Change{Add: map[apk.Arch][]repository.Addition{}}
	var files []string
	for _, plan := range plans {
		result, err := o.buildPlan(ctx, s, builder, file, plan)
		if err != nil {
			return err
		}
		for _, p := range result.Packages {
			info, path, err := builder.Sign(ctx, p, seal)
			if err != nil {
				return err
			}
			change.Add[plan.Arch] = append(change.Add[plan.Arch], repository.Addition{Package: info, File: path})
			files = append(files, filepath.Join(o.outDir, string(plan.Arch), info.FileName()))
		}
	}
	r := repository.Repository{Dir: o.outDir, Signer: seal.Signer}
	if _, err := r.Publish(ctx, change); err != nil {
		return err
	}
	for _, file := range files {
		fmt.Fprintln(s.stdout, file)
	}
	return nil
}

func (o *buildOptions) seal() (build.Seal, error) {
	if o.signingKey == "" {
		return build.Seal{}, nil
	}
	signer, err := apk.LoadSigner(o.signingKey)
	if err != nil {
		return build.Seal{}, err
	}
	return build.NewSeal(signer)
}

// buildPlan builds for one architecture, with the steps' output on stderr.
func (o *buildOptions) buildPlan(ctx context.Context, s surroundings, b *build.Builder, file string, plan *recipe.Plan) (*build.Result, error) {
	job, err := o.job(ctx, file, plan)
	if err != nil {
		return nil, err
	}
	job.Log, job.OnStep = s.stderr, announce(s.stderr, plan)
	if o.shell {
		job.OnFailure = func(ctx context.Context, r *build.Room, e *build.StepError) error {
			fmt.Fprintf(s.stderr, "melange: %v\nThis is where it failed; leave the shell to end the build.\n", e)
			return r.Shell(ctx, s.terminal(), e.Step)
		}
	}
	return b.Build(ctx, job)
}
