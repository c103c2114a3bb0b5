package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/melange/compat"
	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// planFlags are those that change what a recipe means.
type planFlags struct {
	archs                          []string
	buildArch                      string
	pipelineDirs, morePipelineDirs []string
	options                        []string
	envFiles                       []string
	varsFiles                      []string
	gitCommit                      string
	libc                           string
	sourceDir                      string
	unpinned                       bool
	network                        string
}

func (p *planFlags) register(f *pflag.FlagSet) {
	f.StringSliceVar(&p.archs, "arch", nil, "architectures to build for: names, host, or all that the recipe is for; the host's when none is given")
	f.StringVar(&p.buildArch, "build-arch", hostArch(), "architecture that the tools of a cross build run on")
	f.StringSliceVar(&p.pipelineDirs, "pipeline-dir", nil, "folders of pipelines, searched in order before the built-in ones")
	f.StringSliceVar(&p.morePipelineDirs, "pipeline-dirs", nil, "more such folders, searched after those of --pipeline-dir")
	f.StringSliceVar(&p.options, "build-option", nil, "build options of the recipe to switch on")
	f.StringSliceVar(&p.envFiles, "env-file", nil, "files of KEY=value lines for the steps' environment")
	f.StringSliceVar(&p.varsFiles, "vars-file", nil, "YAML files of variables that win over the recipe's")
	f.StringVar(&p.gitCommit, "git-commit", "", "commit of the recipe, for the packages' metadata")
	f.StringVar(&p.sourceDir, "source-dir", "", "folder of the recipe's own files; NAME/ beside the recipe when empty")
	f.BoolVar(&p.unpinned, "allow-unpinned", false, "take sources that have no digest or commit as they are now, and tell what to write into the recipe")
	f.StringVar(&p.network, "network-policy", "asked", "which steps may talk to the network: asked, those that ask for it; never; always")
	f.StringVar(&p.libc, "override-host-triplet-libc-substitution-flavor", "gnu", "C library in the triplets of native builds: gnu or musl")
}

// plans reads a recipe and decides it for each architecture.
func (p *planFlags) plans(file string) ([]*recipe.Plan, error) {
	r, err := readRecipe(file)
	if err != nil {
		return nil, err
	}
	o, err := p.planOptions(file)
	if err != nil {
		return nil, err
	}
	archs, err := parseArchs(p.archs)
	if err != nil {
		return nil, err
	}
	var plans []*recipe.Plan
	for _, o.Arch = range archs {
		plan, err := r.Plan(o)
		if errors.Is(err, recipe.ErrArchitecture) && len(archs) > 1 {
			continue
		} else if err != nil {
			return nil, err
		}
		plans = append(plans, plan)
	}
	return plans, nil
}

// planOptions are for any architecture.
func (p *planFlags) planOptions(file string) (o recipe.PlanOptions, err error) {
	buildArch, err := parseArch(p.buildArch)
	if err != nil {
		return o, err
	}
	network, ok := recipe.ParseNetwork(p.network)
	if !ok {
		return o, fmt.Errorf("--network-policy: want %s, found %q", strings.Join(recipe.Networks, ", "), p.network)
	}
	o = recipe.PlanOptions{
		Network: network, BuildArch: buildArch, Dir: os.DirFS(filepath.Dir(file)),
		Options: p.options, Commit: p.gitCommit, Libc: p.libc, AllowUnpinned: p.unpinned,
	}
	if p.sourceDir != "" {
		o.Local = os.DirFS(p.sourceDir)
	}
	o.Library = recipe.NewLibrary(pipelineFolders(slices.Concat(p.pipelineDirs, p.morePipelineDirs))...)
	if o.EnvFiles, err = readFiles(p.envFiles); err != nil {
		return o, err
	}
	o.VarsFiles, err = readFiles(p.varsFiles)
	return o, err
}

// warn says what a recipe's author should know, once for all architectures.
func warn(s surroundings, plans []*recipe.Plan) {
	said := map[document.Error]bool{}
	for _, p := range plans {
		for _, w := range p.Warnings {
			if !said[*w] {
				fmt.Fprintf(s.stderr, "melange: warning: %v\n", w)
			}
			said[*w] = true
		}
	}
}

func readFiles(names []string) ([]recipe.File, error) {
	var files []recipe.File
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		files = append(files, recipe.File{Name: name, Data: data})
	}
	return files, nil
}

// parseArchs reads architectures, each once: in anybody's spelling, the host's by that word, or all.
func parseArchs(words []string) ([]apk.Arch, error) {
	if len(words) == 0 {
		words = []string{"host"}
	}
	var archs []apk.Arch
	for _, word := range words {
		some := apk.Archs()
		if word != "all" {
			a, err := parseArch(word)
			if err != nil {
				return nil, err
			}
			some = []apk.Arch{a}
		}
		for _, a := range some {
			if !slices.Contains(archs, a) {
				archs = append(archs, a)
			}
		}
	}
	return archs, nil
}

func parseArch(word string) (apk.Arch, error) {
	if word == "host" {
		return apk.HostArch(), nil
	}
	return apk.ParseArch(word)
}

func hostArch() string { return string(apk.HostArch()) }

func compileCommand(s surroundings) *cobra.Command {
	var p planFlags
	var other bool
	c := &cobra.Command{
		Use:   "compile [RECIPE]",
		Short: "Print what a recipe means: one JSON object per architecture, with nothing left to decide",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := recipeFile(args)
			if err != nil {
				return err
			}
			plans, err := p.plans(file)
			if err != nil {
				return err
			}
			warn(s, plans)
			e := json.NewEncoder(s.stdout)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			for _, plan := range plans {
				var form any = plan
				if other {
					form = compat.Of(plan)
				}
				if err := e.Encode(form); err != nil {
					return err
				}
			}
			return nil
		},
	}
	p.register(c.Flags())
	c.Flags().BoolVar(&other, "compat", false, "print it in the form of another melange's compile, to be compared with what that prints")
	return c
}

func pipelinesCommand(s surroundings) *cobra.Command {
	var dirs []string
	c := &cobra.Command{
		Use:   "pipelines [NAME]",
		Short: "List what uses: can name, or show one with its inputs",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			folders := pipelineFolders(dirs)
			if len(args) == 0 {
				fmt.Fprintln(s.stdout, strings.Join(recipe.NewLibrary(folders...).Names(), "\n"))
				return nil
			}
			text, err := pipelineText(folders, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(s.stdout, "%s", text)
			return nil
		},
	}
	c.Flags().StringSliceVar(&dirs, "pipeline-dir", nil, "folders of pipelines, searched in order before the built-in ones")
	return c
}

// pipelineFolders are where uses: looks, the built-in pipelines last.
func pipelineFolders(dirs []string) []fs.FS {
	var folders []fs.FS
	for _, dir := range dirs {
		folders = append(folders, os.DirFS(dir))
	}
	return append(folders, pipelines.Files)
}

func pipelineText(folders []fs.FS, name string) ([]byte, error) {
	for _, folder := range folders {
		if text, err := fs.ReadFile(folder, name+".yaml"); err == nil {
			return text, nil
		}
	}
	if hint := document.DidYouMean(name, recipe.NewLibrary(folders...).Names()); hint != "" {
		return nil, fmt.Errorf("no pipeline %q (%s)", name, hint)
	}
	return nil, fmt.Errorf("no pipeline %q", name)
}

// local is the folder of a recipe's own files; nil when there is none.
func (p *planFlags) local(file string, plan *recipe.Plan) fs.FS {
	switch {
	case p.sourceDir != "":
		return os.DirFS(p.sourceDir)
	case plan.LocalDir != "":
		return os.DirFS(filepath.Join(filepath.Dir(file), plan.LocalDir))
	}
	return nil
}
