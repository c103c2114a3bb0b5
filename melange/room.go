package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"distro.internal/melange/build"
	"distro.internal/melange/plugin"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
)

// roomFlags say what the environment is made of that build, test and shell prepare.
type roomFlags struct {
	planFlags
	repositories, keys []string
	packages           []string
	ignoreSignatures   bool
	allowOlder         bool
	cacheDir           string
	apkCacheDir        string
	mirrors            []string
	buildDate          string
	emulator           string
	limits             sandbox.Limits
	memory, disk       string
	cpu                float64
	access             repository.Access
}

func (o *roomFlags) register(f *pflag.FlagSet, s surroundings) {
	o.planFlags.register(f)
	o.access = s.access
	f.StringSliceVarP(&o.repositories, "repository-append", "r", nil, "repositories for the environment, besides the recipe's: folders or URLs")
	f.StringSliceVarP(&o.keys, "keyring-append", "k", nil, "public keys that these repositories are signed with: files or https URLs")
	f.StringSliceVar(&o.packages, "package-append", nil, "packages for the environment, besides the recipe's")
	f.BoolVar(&o.ignoreSignatures, "ignore-signatures", false, "use repositories without verifying their indexes")
	f.BoolVar(&o.allowOlder, "allow-older-index", false, "take the index of a repository though a newer one was seen")
	f.StringVar(&o.cacheDir, "cache-dir", s.cache, "folder for sources, unpacked packages and results")
	f.StringVar(&o.apkCacheDir, "apk-cache-dir", "", "folder for downloaded packages and indexes; in --cache-dir when empty")
	f.StringSliceVar(&o.mirrors, "source-mirror", nil, "folders or URLs that hold sources by digest: sha256/HEX, sha512/HEX")
	f.StringVar(&o.buildDate, "build-date", "", "time of the build as RFC 3339; the newest file of the sources when empty; $SOURCE_DATE_EPOCH wins")
	f.StringVar(&o.emulator, "emulator", "", "static user-mode emulator for the architecture, when it is not the host's; found in PATH when empty")
	o.limits = build.DefaultLimits()
	f.StringVar(&o.memory, "memory", "", "memory that a step may use, like 4Gi; when empty what the recipe says, and no more than most of the machine's")
	f.DurationVar(&o.limits.Wall, "timeout", o.limits.Wall, "time that a step may take; 0 for no limit")
	f.DurationVar(&o.limits.Silence, "silence-timeout", o.limits.Silence, "time that a step may go without printing anything; 0 for no limit")
	f.Float64Var(&o.cpu, "cpu", 0, "processors that a step may use; 0 for what the recipe says, or all")
	f.StringVar(&o.disk, "disk", "", "bytes that an environment may fill, like 20Gi; when empty what the recipe says, or all")
	f.IntVar(&o.limits.Pids, "processes", o.limits.Pids, "processes and threads that a step may have; 0 for no limit")
}

// job decides the environment of a recipe's build.
func (o *roomFlags) job(ctx context.Context, file string, plan *recipe.Plan) (build.Job, error) {
	if err := o.append(&plan.Environment); err != nil {
		return build.Job{}, err
	}
	root, target, err := o.offers(ctx, plan, plan.Environment)
	if err != nil {
		return build.Job{}, err
	}
	job := build.Job{Plan: plan, Local: o.local(file, plan)}
	job.Environment, err = build.Resolve(plan, root, target)
	return job, err
}

// append adds the packages of the command line.
func (o *roomFlags) append(e *recipe.Environment) error { return appendPackages(e, o.packages) }

func appendPackages(e *recipe.Environment, packages []string) error {
	for _, p := range packages {
		d, err := apk.ParseDependency(p)
		if err != nil {
			return err
		}
		e.Packages = append(e.Packages, d)
	}
	return nil
}

// offers reads the repositories for the root of an environment, and for the
// target that it is for.
func (o *roomFlags) offers(ctx context.Context, plan *recipe.Plan, e recipe.Environment) (root, target build.Offer, err error) {
	client := o.client()
	sources, err := o.sources(ctx, client, e)
	if err != nil {
		return root, target, err
	}
	if len(sources) == 0 && len(e.Packages) > 0 {
		return root, target, fmt.Errorf("%s is to be in the environment, and no repository is named: by -r, with its key by -k, or in the recipe", e.Packages[0])
	}
	machine := plan.Arch
	if plan.Environment.Cross { // its tests, too, may name repositories that only tools are in
		machine = plan.BuildArch
	}
	if target, err = build.Repositories(ctx, client, sources, plan.Arch, machine); err != nil {
		return root, target, err
	}
	if !e.Cross || machine == plan.Arch {
		return target, target, nil
	}
	root, err = build.Repositories(ctx, client, sources, machine, plan.Arch)
	return root, target, err
}

// client reads the repositories.
func (o *roomFlags) client() *repository.Client {
	return &repository.Client{Cache: cmp.Or(o.apkCacheDir, filepath.Join(o.cacheDir, "apk")), Access: o.access, AllowOlder: o.allowOlder}
}

// sources are the repositories of an environment, then those of the command line.
func (o *roomFlags) sources(ctx context.Context, client *repository.Client, e recipe.Environment) ([]repository.Source, error) {
	keyring, err := client.Keyring(ctx, slices.Concat(e.Keyring, o.keys)...)
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

func (o *roomFlags) builder(s surroundings) (*build.Builder, error) {
	sources, err := sourceStore(o.cacheDir, o.mirrors...)
	if err != nil {
		return nil, err
	}
	cache, err := filepath.Abs(o.cacheDir) // a sandbox takes no other names
	if err != nil {
		return nil, err
	}
	b := &build.Builder{
		Store:   cas.Layered{Store: cas.Store{Dir: filepath.Join(cache, "cas")}},
		Roots:   rootfs.Store{Dir: filepath.Join(cache, "store")},
		Sources: sources,
		Modules: &plugin.Store{Dir: filepath.Join(cache, "modules")},
		WorkDir: filepath.Join(cache, "work"),
		Limits:  o.limits, Overrides: sandbox.Limits{CPU: o.cpu},
		Emulator: func(_ context.Context, arch apk.Arch) (string, error) {
			if o.emulator != "" {
				return filepath.Abs(o.emulator)
			}
			return build.FindEmulator(arch)
		},
	}
	if o.memory != "" {
		if b.Overrides.Memory, err = recipe.ParseSize(o.memory); err != nil {
			return nil, err
		}
	}
	if o.disk != "" {
		if b.Overrides.Disk, err = recipe.ParseSize(o.disk); err != nil {
			return nil, err
		}
	}
	b.Epoch, err = epoch(s.epoch, o.buildDate)
	return b, err
}

// sourceStore is where sources are kept.
func sourceStore(cacheDir string, mirrors ...string) (*source.Store, error) {
	if cacheDir == "" {
		return nil, errors.New("no cache folder: set HOME or XDG_CACHE_HOME, or give --cache-dir")
	}
	dir, err := filepath.Abs(filepath.Join(cacheDir, "sources"))
	store := &source.Store{Dir: dir}
	for _, address := range mirrors {
		store.Mirrors = append(store.Mirrors, source.DigestMirror{Address: address})
	}
	return store, err
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

// announce tells of each step before it runs.
func announce(w io.Writer, plan *recipe.Plan) func(n, of int, s recipe.Step) {
	return func(n, of int, s recipe.Step) {
		fmt.Fprintf(w, "%s/%s: step %d of %d: %s (%s)\n", plan.Arch, plan.Name, n, of, s.Title(), s.Pos)
	}
}
