package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
)

func packageVersionCommand(s surroundings) *cobra.Command {
	return &cobra.Command{
		Use:   "package-version RECIPE",
		Short: "Print the name and full version of what a recipe builds",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readRecipe(args[0])
			if err != nil {
				return err
			}
			p := r.Package
			fmt.Fprintf(s.stdout, "%s-%s-r%d\n", p.Name.Value, p.Version.Value, p.Epoch)
			return nil
		},
	}
}

func readRecipe(file string) (*recipe.Recipe, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return recipe.Parse(file, data, recipe.ParseOptions{})
}
