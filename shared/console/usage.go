package console

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What is wrong with a command line is said in the words of who typed it: which flag, what it wants, how the command is
// called. What the libraries say is about their functions.

// countArguments makes a command that gets too many arguments, or too few, tell how it is called.
func countArguments(c *cobra.Command) {
	for _, sub := range c.Commands() {
		countArguments(sub)
	}
	if c.Args == nil {
		return
	}
	accept := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if accept(c, args) == nil {
			return nil
		}
		found := fmt.Sprintf("%d arguments", len(args))
		switch len(args) {
		case 0:
			found = "no argument"
		case 1:
			found = "one argument"
		}
		return fmt.Errorf("found %s, want %s", found, c.UseLine())
	}
}

// flagError says which flag is not known, and what could be meant; or what a flag takes.
func (p Program) flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		if kind, ok := kinds[f.Value.Type()]; ok {
			return fmt.Errorf("--%s wants %s, found %q", f.Name, kind, invalid.GetValue())
		}
		return fmt.Errorf("--%s %q: %w", f.Name, invalid.GetValue(), errors.Unwrap(err))
	case !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "":
		return err
	}
	name := unknown.GetSpecifiedName()
	if what, ok := p.Elsewhere[name]; ok {
		return fmt.Errorf("%s has no --%s: %s", c.CommandPath(), name, what)
	}
	return fmt.Errorf("%s has no --%s (%s)", c.CommandPath(), name, p.flagHint(c, name))
}

// kinds are what flags take, by the type of their values.
var kinds = map[string]string{
	"int": "a whole number", "int64": "a whole number", "uint": "a whole number, zero or more", "float64": "a number",
	"duration": "a time like 90s or 2h30m", "bool": "true or false",
}

func (p Program) flagHint(c *cobra.Command, name string) string {
	var own []string
	c.Flags().VisitAll(func(f *pflag.Flag) { own = append(own, f.Name) })
	if p.Suggest != nil {
		if hint := p.Suggest(name, own); hint != "" {
			return hint
		}
	}
	if others := commandsWith(c, name); len(others) > 0 {
		return "it is one of " + strings.Join(others, ", ")
	}
	return "--help tells which there are"
}

// commandsWith are the other commands that have a flag.
func commandsWith(c *cobra.Command, name string) []string {
	var names []string
	for _, other := range c.Root().Commands() {
		if other != c && other.Flags().Lookup(name) != nil {
			names = append(names, other.CommandPath())
		}
	}
	slices.Sort(names)
	return names
}
