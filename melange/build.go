package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
)

type buildOptions struct {
	planFlags
	repositories, keys []string
	packages           []string
	ignoreSignatures   bool
	outDir, signingKey string
	sourceDir          string
	cacheDir           string
	mirrors            []string
	buildDate          string
	emulator           string
	limits             sandbox.Limits
	memory             string
	credentials        repository.Credentials
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
	o.register(f)
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "repositories for the environment, besides the recipe's: folders or URLs")
	f.StringSliceVarP(&o.keys, "keyring-append", "k", nil, "public keys that these repositories are signed with")
	f.StringSliceVar(&o.packages, "package-append", nil, "packages for the environment, besides the recipe's")
	f.BoolVar(&o.ignoreSignatures, "ignore-signatures", false, "use repositories without verifying their indexes")
	f.StringVar(&o.outDir, "out-dir", "packages", "repository that the packages are published in")
	f.StringVar(&o.signingKey, "signing-key", "", "private key to sign packages and index with")
	f.StringVar(&o.sourceDir, "source-dir", "", "folder of the recipe's own files; NAME/ beside the recipe when empty")
	f.StringVar(&o.cacheDir, "cache-dir", s.cache, "folder for sources, unpacked packages and results")
	f.StringSliceVar(&o.mirrors, "source-mirror", nil, "folders or URLs that hold sources by digest: sha256/HEX, sha512/HEX")
	f.StringVar(&o.buildDate, "build-date", "", "time of the build as RFC 3339; the newest file of the sources when empty; $SOURCE_DATE_EPOCH wins")
	f.StringVar(&o.emulator, "emulator", "", "static user-mode emulator for the architecture, when it is not the host's; found in PATH when empty")
	o.limits = build.DefaultLimits()
	f.StringVar(&o.memory, "memory", "", "memory that a step may use, like 4Gi; most of the machine's when empty")
	f.DurationVar(&o.limits.Wall, "timeout", o.limits.Wall, "time that a step may take; 0 for no limit")
	f.DurationVar(&o.limits.Silence, "silence-timeout", o.limits.Silence, "time that a step may go without printing anything; 0 for no limit")
	f.Float64Var(&o.limits.CPU, "cpu", 0, "processors that a step may use; 0 for all")
	f.IntVar(&o.limits.Pids, "processes", o.limits.Pids, "processes and threads that a step may have; 0 for no limit")
	return c
}

func (o *buildOptions) build(ctx context.Context, s surroundings, file string) error {
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	o.credentials = s.credentials
	builder, err := o.builder(s)
	if err != nil {
		return err
	}
	seal, err := o.seal()
	if err != nil {
		return err
	}
	change := repository.Change{Add: map[apk.Arch][]repository.Addition{}}
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
			fmt.Fprintf(s.stdout, "%s\n", filepath.Join(o.outDir, string(plan.Arch), info.FileName()))
		}
	}
	r := repository.Repository{Dir: o.outDir, Signer: seal.Signer}
	_, err = r.Publish(ctx, change)
	return err
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
	for _, p := range o.packages {
		d, err := apk.ParseDependency(p)
		if err != nil {
			return nil, err
		}
		plan.Environment.Packages = append(plan.Environment.Packages, d)
	}
	job := build.Job{Plan: plan, Log: s.stderr, OnStep: func(n, of int, step recipe.Step) {
		fmt.Fprintf(s.stderr, "%s/%s: step %d of %d: %s (%s)\n", plan.Arch, plan.Name, n, of, stepName(step), step.Pos)
	}}
	if o.sourceDir != "" {
		job.Local = os.DirFS(o.sourceDir)
	} else if plan.LocalDir != "" {
		job.Local = os.DirFS(filepath.Join(filepath.Dir(file), plan.LocalDir))
	}
	var err error
	if job.Environment, err = o.environment(ctx, plan); err != nil {
		return nil, err
	}
	return b.Build(ctx, job)
}

func (o *buildOptions) environment(ctx context.Context, plan *recipe.Plan) (build.Environment, error) {
	sources, err := o.sources(plan)
	if err != nil {
		return build.Environment{}, err
	}
	client := &repository.Client{Cache: filepath.Join(o.cacheDir, "apk"), Credentials: o.credentials}
	offers := map[apk.Arch]build.Offer{}
	for _, arch := range []apk.Arch{plan.Arch, plan.BuildArch} {
		if _, ok := offers[arch]; ok || arch == plan.BuildArch && !plan.Environment.Cross {
			continue
		}
		if offers[arch], err = build.Repositories(ctx, client, sources, arch); err != nil {
			return build.Environment{}, err
		}
	}
	root := offers[plan.Arch]
	if plan.Environment.Cross {
		root = offers[plan.BuildArch]
	}
	return build.Resolve(plan, root, offers[plan.Arch])
}

// sources are the repositories of the recipe, then those of the command line.
func (o *buildOptions) sources(plan *recipe.Plan) ([]repository.Source, error) {
	e := plan.Environment
	keyring, err := apk.LoadKeyring(append(append([]string{}, e.Keyring...), o.keys...)...)
	if err != nil {
		return nil, err
	}
	var sources []repository.Source
	for _, r := range append(append([]string{}, e.Repositories...), o.repositories...) {
		s := repository.Source{URL: r, Keyring: keyring, Insecure: o.ignoreSignatures}
		if tagged, ok := strings.CutPrefix(r, "@"); ok {
			s.Tag, s.URL, _ = strings.Cut(tagged, " ")
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func (o *buildOptions) builder(s surroundings) (*build.Builder, error) {
	if o.cacheDir == "" {
		return nil, errors.New("no cache folder: set HOME or XDG_CACHE_HOME, or give --cache-dir")
	}
	b := &build.Builder{
		Store:   cas.Store{Dir: filepath.Join(o.cacheDir, "cas")},
		Roots:   rootfs.Store{Dir: filepath.Join(o.cacheDir, "store")},
		Sources: &source.Store{Dir: filepath.Join(o.cacheDir, "sources")},
		WorkDir: filepath.Join(o.cacheDir, "work"),
		Limits:  o.limits,
		Emulator: func(_ context.Context, arch apk.Arch) (string, error) {
			if o.emulator != "" {
				return filepath.Abs(o.emulator)
			}
			return build.FindEmulator(arch)
		},
	}
	for _, address := range o.mirrors {
		b.Sources.Mirrors = append(b.Sources.Mirrors, source.DigestMirror{Address: address})
	}
	var err error
	if o.memory != "" {
		if b.Limits.Memory, err = build.ParseSize(o.memory); err != nil {
			return nil, err
		}
	}
	b.Epoch, err = epoch(s.epoch, o.buildDate)
	return b, err
}

// epoch is the time of the build from outside, in seconds; 0 when nobody says.
func epoch(environment, date string) (int64, error) {
	switch {
	case environment != "":
		n, err := strconv.ParseInt(environment, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		return n, nil
	case date != "":
		t, err := time.Parse(time.RFC3339, date)
		if err != nil {
			return 0, fmt.Errorf("--build-date: %w", err)
		}
		return t.Unix(), nil
	}
	return 0, nil
}

func stepName(s recipe.Step) string {
	switch {
	case s.Name != "":
		return s.Name
	case s.Uses != "":
		return s.Uses
	}
	first, _, _ := strings.Cut(strings.TrimSpace(s.Script), "\n")
	return first
}
