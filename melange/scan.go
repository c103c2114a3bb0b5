package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
	"distro.internal/melange/scan"
	"distro.internal/shared/apk"
)

type scanOptions struct {
	planFlags
	outDir string
	only   string
	diff   bool
}

func scanCommand(s surroundings) *cobra.Command {
	var o scanOptions
	c := &cobra.Command{
		Use:   "scan PACKAGE.apk... | RECIPE.yaml",
		Short: "Print what finished packages need and provide, as read from their files",
		Long: `Print what the files of finished packages say that the packages need and
provide. Packages that are named together are taken for those of one build. Of a
recipe, the packages are looked for in the repository that it is built into, and
its own words come first; else a package's own are those of its metadata that no
file could have said. With --diff only what the metadata says otherwise is
printed, and differences are an error.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return o.scan(s.stdout, args)
		},
	}
	f := c.Flags()
	o.register(f)
	f.StringVar(&o.outDir, "out-dir", "packages", "repository that the recipe's packages are in")
	f.StringVarP(&o.outDir, "repository-append", "r", "packages", "the same as --out-dir")
	f.StringVarP(&o.only, "package", "p", "", "package that is told of, when it is to be one only")
	f.BoolVar(&o.diff, "diff", false, "print how the packages' metadata differs")
	return c
}

func (o *scanOptions) scan(w io.Writer, args []string) error {
	if !isRecipe(args[0]) || strings.HasSuffix(args[0], ".apk") {
		return o.scanFiles(w, args, nil)
	}
	if len(args) > 1 {
		return errors.New("one recipe at a time")
	}
	plans, err := o.plans(args[0])
	if err != nil {
		return err
	}
	for _, plan := range plans {
		var files []string
		for _, p := range plan.Outputs {
			name := (&apk.Package{Name: p.Name, Version: plan.FullVersion()}).FileName()
			files = append(files, filepath.Join(o.outDir, string(plan.Arch), name))
		}
		if err := o.scanFiles(w, files, plan.Outputs); err != nil {
			return err
		}
	}
	return nil
}

// scanFiles scans the packages of one build, whose recipe may be known.
func (o *scanOptions) scanFiles(w io.Writer, files []string, outputs []recipe.Output) error {
	infos := make([]*apk.Package, len(files))
	siblings := make([]scan.Package, len(files))
	for i, file := range files {
		info, tree, err := openPackage(file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		infos[i], siblings[i] = info, scan.Package{Name: info.Name, Tree: tree}
	}
	if o.only != "" && !slices.ContainsFunc(infos, func(p *apk.Package) bool { return p.Name == o.only }) {
		return fmt.Errorf("there is no package %s among them", o.only)
	}
	differ := 0
	for i, info := range infos {
		if o.only != "" && info.Name != o.only {
			continue
		}
		in := scan.Input{Package: siblings[i], Siblings: siblings, Version: string(info.Version)}
		if outputs != nil {
			recipeWords(&in, outputs[i])
		} else {
			in.Depends, in.Provides = written(info.Depends), written(info.Provides)
		}
		found, err := scan.Scan(in)
		if err != nil {
			return err
		}
		if !o.diff {
			printFound(w, info, found)
		} else if printDifference(w, info, found) {
			differ++
		}
	}
	if differ > 0 {
		return fmt.Errorf("the metadata of %s differs from what the files say", count(differ, "package"))
	}
	return nil
}

func recipeWords(in *scan.Input, p recipe.Output) {
	in.Depends, in.Provides = p.Depends, p.Provides
	in.Options = scan.Options{NoProvides: p.Options.NoProvides, NoDepends: p.Options.NoDepends, NoCommands: p.Options.NoCommands}
}

// written are the dependencies that scanning does not find: those that name a
// package, and not what is in one.
func written(deps []apk.Dependency) []string {
	var words []string
	for _, d := range deps {
		if !strings.Contains(d.Name, ":") {
			words = append(words, d.String())
		}
	}
	return words
}

func printFound(w io.Writer, info *apk.Package, found scan.Result) {
	fmt.Fprintf(w, "pkgname = %s\n", info.Name)
	for _, d := range found.Depends {
		fmt.Fprintf(w, "depend = %s\n", d)
	}
	for _, p := range found.Provides {
		fmt.Fprintf(w, "provides = %s\n", p)
	}
	for _, v := range found.Vendored {
		fmt.Fprintf(w, "# vendored = %s\n", v)
	}
}

// printDifference prints what only the metadata has, and what only the files have.
func printDifference(w io.Writer, info *apk.Package, found scan.Result) (differs bool) {
	for _, list := range []struct {
		word  string
		has   []apk.Dependency
		found []string
	}{{"depend", info.Depends, found.Depends}, {"provides", info.Provides, found.Provides}} {
		has := make([]string, len(list.has))
		for i, d := range list.has {
			has[i] = d.String()
		}
		for _, side := range []struct {
			sign     string
			in, from []string
		}{{"-", has, list.found}, {"+", list.found, has}} {
			for _, d := range side.in {
				if slices.Contains(side.from, d) {
					continue
				}
				if !differs {
					fmt.Fprintf(w, "%s\n", info.FileName())
				}
				differs = true
				fmt.Fprintf(w, "%s %s = %s\n", side.sign, list.word, d)
			}
		}
	}
	return differs
}
