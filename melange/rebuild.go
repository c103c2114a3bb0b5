package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
)

type rebuildOptions struct {
	roomFlags
	recipe, recipeDir string
	outDir            string
	work              string // results of this run, which must not be found done
}

func rebuildCommand(s surroundings) *cobra.Command {
	var o rebuildOptions
	c := &cobra.Command{
		Use:   "rebuild PACKAGE.apk...",
		Short: "Build finished packages again in the environment that they were built in, and compare",
		Long: `Build finished packages again, and compare them byte for byte with what there
is. What they were built in stands in the packages that "melange build" makes:
each package of the environment with its version and checksum. These very files
must be in the repositories given. The recipe is looked for under the name of
the package's origin, and must mean what it meant.

What differs is printed: fields of .PKGINFO, other files of the control section,
and files of the package. Signatures are not compared. Differences are an error.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range decidedByThePackage {
				if c.Flags().Changed(name) {
					return fmt.Errorf("--%s: that is what it was when the package was built", name)
				}
			}
			return o.rebuild(c.Context(), s, args)
		},
	}
	f := c.Flags()
	o.register(f, s)
	f.StringVar(&o.recipe, "recipe", "", "the recipe, when all packages are of one; ORIGIN.yaml in --recipe-dir when empty")
	f.StringVar(&o.recipeDir, "recipe-dir", ".", "folder of recipes")
	f.StringVar(&o.outDir, "out-dir", "", "folder that the rebuilt packages are put in, unsigned")
	for _, name := range decidedByThePackage {
		f.Lookup(name).Hidden = true
	}
	return c
}

// decidedByThePackage are flags of a build that have no place in doing it again.
var decidedByThePackage = []string{"arch", "build-arch", "build-date"}

func (o *rebuildOptions) rebuild(ctx context.Context, s surroundings, files []string) error {
	var err error
	if o.work, err = os.MkdirTemp("", "rebuild-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.work)
	differ := 0
	made := map[string]*made{}
	for _, file := range files {
		same, err := o.rebuildOne(ctx, s, file, made)
		if err != nil {
			return fmt.Errorf("rebuilding %s: %w", file, err)
		}
		if !same {
			differ++
		}
	}
	if differ > 0 {
		return fmt.Errorf("%s cannot be reproduced", count(differ, "package"))
	}
	return nil
}

// made is what came of a record. The packages of one build have the same.
type made struct {
	builder  *build.Builder
	packages []build.Package
}

func (o *rebuildOptions) rebuildOne(ctx context.Context, s surroundings, file string, done map[string]*made) (same bool, err error) {
	old, err := openContent(file)
	if err != nil {
		return false, err
	}
	text, ok := old.Control[build.RecordFile]
	if !ok {
		return false, fmt.Errorf("it does not say what it was built in: there is no %s in it", build.RecordFile)
	}
	m := done[string(text)]
	if m == nil {
		if m, err = o.again(ctx, s, text); err != nil {
			return false, err
		}
		done[string(text)] = m
	}
	for _, p := range m.packages {
		if p.Name != old.Package.Name {
			continue
		}
		_, again, err := m.builder.Sign(ctx, p, build.Seal{})
		if err != nil {
			return false, err
		}
		if err := o.keep(again, old.Package); err != nil {
			return false, err
		}
		fresh, err := openContent(again)
		if err != nil {
			return false, err
		}
		lines, err := difference(old, fresh)
		if err != nil {
			return false, err
		}
		word := "same"
		if len(lines) > 0 {
			word = "other"
		}
		fmt.Fprintf(s.stdout, "%-5s %s\n", word, old.Package.FileName())
		for _, line := range lines {
			fmt.Fprintf(s.stdout, "      %s\n", line)
		}
		return len(lines) == 0, nil
	}
	return false, fmt.Errorf("the recipe makes no package %s any more", old.Package.Name)
}

// keep puts a rebuilt package where the user wants it.
func (o *rebuildOptions) keep(file string, p *apk.Package) error {
	if o.outDir == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	dir := filepath.Join(o.outDir, string(p.Arch))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, p.FileName()), 0o644, atomicfile.Bytes(data))
}

// again builds what a record tells of.
func (o *rebuildOptions) again(ctx context.Context, s surroundings, text []byte) (*made, error) {
	record, err := build.ParseRecord(text)
	if err != nil {
		return nil, err
	}
	file, plan, err := o.planOf(record)
	if err != nil {
		return nil, err
	}
	b, err := o.builder(s)
	if err != nil {
		return nil, err
	}
	plans, err := pin(ctx, b.Sources, []*recipe.Plan{plan})
	if err != nil {
		return nil, err
	}
	plan = plans[0]
	if d := plan.Digests(); d.Build != record.Record.BuildPlan || d.Package != record.Record.PackagesPlan {
		fmt.Fprintf(s.stderr, "melange: %s does not mean what it meant when %s was built\n", file, record.Package.Name)
	}
	job := build.Job{Plan: plan, Local: o.local(file, plan), Log: s.stderr, OnStep: announce(s.stderr, plan)}
	if job.Environment, err = o.recorded(ctx, plan, record); err != nil {
		return nil, err
	}
	b.Record, b.Epoch = true, record.Record.Time
	if d := record.Record.Distribution; d != nil {
		b.Distribution = *d
	}
	b.Store = cas.Layered{Store: cas.Store{Dir: filepath.Join(o.work, "cas")}}
	result, err := b.Build(ctx, job)
	if err != nil {
		return nil, err
	}
	return &made{b, result.Packages}, nil
}

// planOf decides the recipe that a record names, as it was decided then.
func (o *rebuildOptions) planOf(r *build.Record) (file string, plan *recipe.Plan, err error) {
	file = o.recipe
	if file == "" {
		file = filepath.Join(o.recipeDir, r.Package.Name+".yaml")
	}
	p := o.planFlags
	p.archs, p.buildArch = []string{string(r.Record.Arch)}, string(r.Record.BuildArch)
	if p.gitCommit == "" {
		p.gitCommit = r.Package.Commit
	}
	plans, err := p.plans(file)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil, fmt.Errorf("%w: name the recipe with --recipe, or its folder with --recipe-dir", err)
	} else if err != nil {
		return file, nil, err
	}
	plan = plans[0]
	if plan.Name != r.Package.Name || plan.Version != r.Package.Version || plan.Epoch != r.Package.Epoch {
		return file, nil, fmt.Errorf("%s is the recipe of %s-%s, and the package is of %s-%s-r%d",
			file, plan.Name, plan.FullVersion(), r.Package.Name, r.Package.Version, r.Package.Epoch)
	}
	return file, plan, o.append(&plan.Environment)
}

// recorded is the environment of a record, from the repositories of the recipe and
// of the command line.
func (o *rebuildOptions) recorded(ctx context.Context, plan *recipe.Plan, r *build.Record) (build.Environment, error) {
	client := o.client()
	sources, err := o.sources(ctx, client, plan.Environment)
	if err != nil {
		return build.Environment{}, err
	}
	offered := map[apk.Arch][]build.Installed{}
	return r.Environment(plan.Environment.Cross, func(arch apk.Arch, want build.RecordedPackage) (build.Installed, error) {
		if offered[arch] == nil {
			if offered[arch], err = offeredBy(ctx, client, sources, arch); err != nil {
				return build.Installed{}, err
			}
		}
		there := ""
		for _, p := range offered[arch] {
			if p.Name != want.Name {
				continue
			}
			if p.Checksum.String() == want.Checksum {
				return p, nil
			}
			there += fmt.Sprintf(", but %s %s", p.Version, p.Checksum)
		}
		return build.Installed{}, fmt.Errorf("no repository has %s-%s %s%s", want.Name, want.Version, want.Checksum, there)
	})
}

func offeredBy(ctx context.Context, client *repository.Client, sources []repository.Source, arch apk.Arch) ([]build.Installed, error) {
	all := []build.Installed{}
	for _, s := range sources {
		index, err := client.Index(ctx, s, arch)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a repository of tools has one architecture
		} else if err != nil {
			return nil, err
		}
		for _, p := range index.Packages {
			all = append(all, build.Fetched(client, s, p))
		}
	}
	return all, nil
}
