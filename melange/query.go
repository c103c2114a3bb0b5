package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"distro.internal/melange/recipe"
)

// A subject of a query: the recipe as it is written, and what it means.
type querySubject struct {
	*recipe.Recipe
	Subpackages []recipe.Subpackage // in place of the recipe's
	options     recipe.PlanOptions
}

// Plan is worked out only where a template asks: a recipe can be looked at without the pipelines that it uses.
func (q querySubject) Plan() (*recipe.Plan, error) { return q.Recipe.Plan(q.options) }

func queryCommand(s surroundings) *cobra.Command {
	var p planFlags
	c := &cobra.Command{
		Use:   "query RECIPE TEMPLATE",
		Short: "Print a template filled from a recipe",
		Long: `Print a template of Go's text/template, filled from a recipe: its keys as they
are written, such as {{.Package.Name}}, but subpackages as ranges make them; and
below .Plan what they mean for the architecture, such as
{{range .Plan.Outputs}}{{.Name}} {{end}}, without those that an if excludes.`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := readRecipe(args[0])
			if err != nil {
				return err
			}
			t, err := template.New("template").Option("missingkey=error").Funcs(template.FuncMap{"join": strings.Join}).Parse(args[1])
			if err != nil {
				return err
			}
			archs, err := parseArchs(p.archs)
			if err != nil {
				return err
			}
			o, err := p.planOptions(args[0])
			if err != nil {
				return err
			}
			for _, o.Arch = range archs {
				if len(archs) > 1 && !r.Targets(o.Arch) {
					continue
				}
				var out strings.Builder
				if err := t.Execute(&out, querySubject{r, r.Instances(o), o}); err != nil {
					return err
				}
				fmt.Fprintln(s.stdout, strings.TrimSuffix(out.String(), "\n"))
			}
			return nil
		},
	}
	p.register(c.Flags())
	return c
}
