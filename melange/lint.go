package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/melange/lint"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// lintFlags say which linters run.
type lintFlags struct{ policy lint.Policy }

func (l *lintFlags) register(f *pflag.FlagSet) {
	f.StringSliceVar(&l.policy.Require, "lint-require", nil, "linters whose findings are errors, in place of the usual ones")
	f.StringSliceVar(&l.policy.Warn, "lint-warn", nil, "linters whose findings are warnings, in place of the usual ones")
}

func lintCommand(s surroundings) *cobra.Command {
	var o lintFlags
	var list bool
	c := &cobra.Command{
		Use:   "lint PACKAGE.apk...",
		Short: "Look in packages for what should not be in them",
		RunE: func(_ *cobra.Command, files []string) error {
			if list {
				for _, l := range lint.Linters() {
					fmt.Fprintf(s.stdout, "%-17s %-9s %s\n", l.Name, l.Severity, l.Explanation)
				}
				return nil
			}
			if len(files) == 0 {
				return errors.New("no packages to look at; --list tells what is looked for")
			}
			return lintFiles(s, o.policy, files)
		},
	}
	o.register(c.Flags())
	c.Flags().BoolVar(&list, "list", false, "list the linters")
	return c
}

func lintFiles(s surroundings, policy lint.Policy, files []string) error {
	if err := policy.Check(); err != nil {
		return err
	}
	errorCount := 0
	for _, file := range files {
		info, tree, err := openPackage(file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		findings, err := lint.Run(lint.Package{Name: info.Name, Tree: tree}, policy)
		if err != nil {
			return err
		}
		for _, f := range findings {
			if f.Severity == lint.Required {
				errorCount++
			}
			fmt.Fprintln(s.stdout, f)
		}
	}
	if errorCount > 0 {
		return fmt.Errorf("%s", count(errorCount, "error"))
	}
	return nil
}

// openPackage reads a package of whoever's key: what it says of itself, and its files.
func openPackage(file string) (*apk.Package, *filetree.Tree, error) {
	c, err := openContent(file)
	if err != nil {
		return nil, nil, err
	}
	return c.Package, c.tree, nil
}
