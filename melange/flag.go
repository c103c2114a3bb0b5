package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/shared/document"
)

// elsewhere tells what is there in place of flags that other melanges have, and that Makefiles of distributions give.
var elsewhere = map[string]string{
	"runner":               "there is one sandbox, which needs no other program: leave it out",
	"cleanup":              "nothing is left behind in any case: leave it out",
	"rm":                   "nothing is left behind unless --keep says so: leave it out",
	"debug-runner":         "--keep=always leaves the workspace, melange shell --kept NAME enters it",
	"workspace-dir":        "--keep=always leaves the workspace, melange shell --kept NAME enters it",
	"empty-workspace":      "--source-dir names an empty folder",
	"cache-source":         "--source-mirror names folders and servers that have sources by digest",
	"cpumodel":             "no machine is emulated whose model could be chosen: leave it out",
	"generate-index":       "packages and index are published in one step: leave it out",
	"create-build-log":     "what was built is what is printed",
	"dependency-log":       "melange scan PACKAGE.apk... tells what packages need and provide",
	"fail-on-lint-warning": "--lint-require names the linters whose findings are errors",
	"strip-origin-name":    "a package of no origin would be built by nobody: leave it out",
	"persist-lint-results": "melange lint --json prints what was found",
	"trace":                "world writes traces of what it builds",
	"scan-type":            "--deep looks in all folders",
	"workdir":              "sources are taken from --cache-dir",
	"format":               "one expression is written for all that is found",
	"comments":             "they are printed unless --diff is given",
	"diff":                 "differences are printed in any case",
	"log-policy":           "--log-level",
}

// flagError says of a flag that is not known what could be meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	name := unknown.GetSpecifiedName()
	if what, ok := elsewhere[name]; ok {
		return fmt.Errorf("%s has no --%s: %s", c.CommandPath(), name, what)
	}
	var own []string
	c.Flags().VisitAll(func(f *pflag.Flag) { own = append(own, f.Name) })
	hint := document.DidYouMean(name, own)
	if others := commandsWith(c, name); hint == "" && len(others) > 0 {
		hint = "it is one of " + strings.Join(others, ", ")
	}
	if hint == "" {
		hint = "--help tells which there are"
	}
	return fmt.Errorf("%s has no --%s (%s)", c.CommandPath(), name, hint)
}

// commandsWith are the other commands that have a flag.
func commandsWith(c *cobra.Command, name string) []string {
	var names []string
	for _, other := range c.Root().Commands() {
		if other != c && other.Flags().Lookup(name) != nil {
			names = append(names, "melange "+other.Name())
		}
	}
	slices.Sort(names)
	return names
}
