package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
)

type buildOptions struct {
	roomFlags
	lintFlags
	outDir, signingKey string
	shell, trace       bool
	distribution       build.Distribution
	keep               keepFlag
	from               int
	provenance         bool
}

func buildCommand(s surroundings) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build [RECIPE]",
		Short: "Build the packages of a recipe into a repository",
		Long: `Build the packages of a recipe into a repository: of the named one, or of
melange.yaml or .melange.yaml in the folder.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := recipeFile(args)
			if err != nil {
				return err
			}
			return o.build(c.Context(), s, file)
		},
	}
	f := c.Flags()
	o.roomFlags.register(f, s)
	o.lintFlags.register(f)
	f.StringVar(&o.outDir, "out-dir", "packages", "repository that the packages are published in")
	f.StringVar(&o.signingKey, "signing-key", "", "private key to sign packages and index with")
	f.BoolVar(&o.shell, "shell", false, "when the build fails, open a shell where it failed")
	f.BoolVarP(&o.shell, "interactive", "i", false, "the same as --shell")
	f.BoolVar(&o.trace, "debug", false, "print the commands of steps before they run")
	f.StringVar(&o.distribution.Name, "namespace", "", "distribution that the packages are of, in the package URLs of their bills of materials")
	f.StringVar(&o.distribution.Recipes, "git-repo-url", "", "git repository of the recipe, for bills of materials; of the commit that --git-commit or the recipe names")
	f.StringVar(&o.distribution.License, "license", "", "licence of the recipe itself, for bills of materials")
	o.keep.register(f)
	f.BoolVar(&o.provenance, "generate-provenance", false, "write SLSA provenance beside each package: how and of what it was made, signed with the same key")
	f.IntVar(&o.from, "from-step", 0, "go on from this step in the kept workspace, without running those before it; from one more than there are, to make the packages of what is there")
	return c
}

func (o *buildOptions) build(ctx context.Context, s surroundings, file string) error {
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	warn(s, plans)
	builder, err := o.builder(s)
	if err != nil {
		return err
	}
	if plans, err = pin(ctx, builder.Sources, plans); err != nil {
		return err
	}
	builder.Lint, builder.Record, builder.Distribution = o.policy, true, o.distribution
	if err := errors.Join(o.policy.Check(), o.keep.check()); err != nil {
		return err
	}
	if o.from != 0 && (o.from < 1 || len(plans) != 1) {
		return errors.New("--from-step is the number of a step, counted from 1, of one recipe for one architecture")
	}
	if o.from != 0 && o.provenance {
		return errors.New("--generate-provenance is for builds from the beginning: who knows what was done in a kept workspace?")
	}
	seal, err := o.seal()
	if err != nil {
		return err
	}
	key, err := provenanceKey(o.signingKey)
	if err != nil {
		return err
	}
	change := repository.Change{Add: map[apk.Arch][]repository.Addition{}}
	var files []string
	var statements []statement
	for _, plan := range plans {
		job, result, err := o.buildPlan(ctx, s, builder, file, plan)
		if err != nil {
			return err
		}
		for _, p := range result.Packages {
			info, path, err := builder.Sign(ctx, p, seal)
			if err != nil {
				return err
			}
			change.Add[plan.Arch] = append(change.Add[plan.Arch], repository.Addition{Package: info, File: path})
			published := filepath.Join(o.outDir, string(plan.Arch), info.FileName())
			files = append(files, published)
			if !o.provenance {
				continue
			}
			st, err := provenance(builder, job, path, published, key)
			if err != nil {
				return err
			}
			statements = append(statements, st)
		}
	}
	r := repository.Repository{Dir: o.outDir, Signer: seal.Signer}
	if _, err := r.Publish(ctx, change); err != nil {
		return err
	}
	for _, st := range statements {
		if err := st.write(); err != nil {
			return err
		}
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

// buildPlan builds for one architecture, with the steps' output on stderr and in a log.
func (o *buildOptions) buildPlan(ctx context.Context, s surroundings, b *build.Builder, file string, plan *recipe.Plan) (job build.Job, _ *build.Result, err error) {
	if job, err = o.job(ctx, file, plan); err != nil {
		return job, nil, err
	}
	job.Keep, job.From, job.Trace = o.keep.when(), o.from, o.trace
	if o.from > 0 && job.Keep == build.KeepNever {
		job.Keep = build.KeepFailed
	}
	log := newStepLog(o.cacheDir, job)
	defer func() { err = errors.Join(err, log.Close()) }()
	out := io.MultiWriter(s.stderr, log)
	job.Log, job.OnStep = out, announce(out, plan)
	if o.shell {
		job.OnFailure = func(ctx context.Context, r *build.Room, failure error) error {
			fmt.Fprintf(s.stderr, "melange: %v\nThis is where it failed; leave the shell to end the build.\n", failure)
			at := recipe.Step{Dir: recipe.Workspace}
			var step *build.StepError
			if errors.As(failure, &step) {
				at = step.Step
			}
			var exit *sandbox.ExitError
			if err := r.Shell(ctx, s.terminal(), at); !errors.As(err, &exit) {
				return err
			}
			return ctx.Err() // how the shell ended is the person's business: the build has failed
		}
	}
	result, err := b.Build(ctx, job)
	switch {
	case err != nil:
		s.explain(job, log, err)
	case o.from > 0:
		fmt.Fprintf(s.stderr, "These packages come of a kept workspace: build the recipe from its beginning before others get them.\n")
	}
	if err == nil && job.Keep == build.KeepAlways {
		fmt.Fprintf(s.stderr, "kept: melange shell --kept %s%s\n", job.KeptName(), s.cacheFlag(o.cacheDir))
	}
	return job, result, err
}

// keepFlag says when workspaces are kept.
type keepFlag string

func (k *keepFlag) register(f *pflag.FlagSet) {
	f.StringVar((*string)(k), "keep", "", "keep the workspace when it fails; with =always in any case, and run the steps also when there is a result")
	f.Lookup("keep").NoOptDefVal = "failed"
}

func (k keepFlag) check() error {
	switch k.when() {
	case build.KeepNever, build.KeepFailed, build.KeepAlways:
		return nil
	}
	return fmt.Errorf("--keep is failed or always, not %q", string(k))
}

func (k keepFlag) when() build.Keep { return build.Keep(k) }
