// Portable is the built-in portable programs, in one: which of them it is, its name says. It is compiled to WebAssembly
// once and runs on every machine, with the workspace as its only folder and nothing of the environment's packages.
//
// A program is a file here and a function of its arguments, which are --key=value. What it does with given files has a
// version, in pipelines.Programs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// programs are what wasm: can name.
var programs = map[string]func(args []string) error{
	"patch":          patch,
	"perl/cleanup":   perlCleanup,
	"ruby/clean":     rubyClean,
	"split/alldocs":  splitFolders("split/alldocs", infoPages, manualPages, documents),
	"split/bin":      splitBin,
	"split/debug":    splitDebug,
	"split/dev":      splitDev,
	"split/infodir":  splitFolders("split/infodir", infoPages),
	"split/lib":      splitLib,
	"split/locales":  splitFolders("split/locales", translations),
	"split/manpages": splitFolders("split/manpages", manualPages),
	"split/static":   splitStatic,
	"strip":          strip,
}

func main() {
	name := os.Args[0]
	program, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no portable program %q; there are %s\n", name, strings.Join(slices.Sorted(maps.Keys(programs)), ", "))
		os.Exit(2)
	}
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// parse reads the arguments of a program. What they are is the pipeline files' business: a wrong one is no user's mistake.
func parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return errors.New("arguments are written --key=value")
	}
	return nil
}
