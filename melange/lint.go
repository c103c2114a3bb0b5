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
	var list, asJSON bool
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
			return lintFiles(s, o.policy, files, asJSON)
		},
	}
	o.register(c.Flags())
	c.Flags().BoolVar(&list, "list", false, "list the linters")
	c.Flags().BoolVar(&asJSON, "json", false, "print what was found as JSON")
	return c
}

func lintFiles(s surroundings, policy lint.Policy, files []string, asJSON bool) error {
	if err := policy.Check(); err != nil {
		return err
	}
	errorCount, all := 0, []lint.Finding{}
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
			if !asJSON {
				fmt.Fprintln(s.stdout, f)
			}
		}
		all = append(all, findings...)
	}
	if asJSON {
		if err := writeJSON(s.stdout, all); err != nil {
			return err
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
