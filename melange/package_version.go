package main

import (
	"fmt"
	"os"
	"strings"

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
			fmt.Fprintf(s.stdout, "%s-%s\n", r.Package.Name.Value, r.Package.FullVersion())
			return nil
		},
	}
}

// ownRecipes are the names that a recipe may have where there is only one, and nobody says which.
var ownRecipes = []string{".melange.yaml", ".melange.yml", "melange.yaml", "melange.yml"}

// recipeFile is the recipe that is meant: the argument, or the one of the folder.
func recipeFile(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	for _, name := range ownRecipes {
		if _, err := os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("no recipe is named, and there is none of %s here", strings.Join(ownRecipes, ", "))
}

func readRecipe(file string) (*recipe.Recipe, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return recipe.Parse(file, data, recipe.ParseOptions{})
}
