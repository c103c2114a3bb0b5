// Survey plans every recipe of a folder and says how it went: how many, how fast, which not, and why.
//
//	go run ./melange/recipe/survey [-arch x86_64] [-peer FOLDER] FOLDER
//
// With -peer it compares each plan with what another implementation made of the same recipe, NAME.json in the folder, as
// written by "melange compile --arch ARCH NAME.yaml", and counts the differences by kind.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
)

func main() {
	var s survey
	flag.StringVar((*string)(&s.arch), "arch", "x86_64", "plan for this architecture")
	flag.StringVar(&s.peer, "peer", "", "compare with the compiled recipes in this folder")
	flag.IntVar(&s.examples, "examples", 3, "show so many examples of each kind of difference")
	flag.BoolVar(&s.shell, "shell", false, "check the syntax of all scripts")
	flag.BoolVar(&s.unpinned, "unpinned", false, "accept sources without a digest")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	s.dir = flag.Arg(0)
	if err := s.run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type survey struct {
	dir, peer string
	arch      apk.Arch
	examples  int
	unpinned  bool
	shell     bool
}

// outcome is what became of one recipe.
type outcome struct {
	file        string
	plan        *recipe.Plan
	err         error
	spent       time.Duration
	differences []difference
}

func (s *survey) run(w io.Writer) error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.yaml"))
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), ".") })
	library := recipe.NewLibrary(os.DirFS(filepath.Join(s.dir, "pipelines")), pipelines.Files)
	outcomes := make([]outcome, len(files))
	start := time.Now()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			outcomes[i] = s.plan(file, library)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.report(w, outcomes, time.Since(start))
	if s.peer == "" {
		return nil
	}
	return s.compare(w, outcomes)
}

func (s *survey) plan(file string, library *recipe.Library) (o outcome) {
	start := time.Now()
	defer func() { o.spent = time.Since(start) }()
	o.file = filepath.Base(file)
	data, err := os.ReadFile(file)
	if err != nil {
		o.err = err
		return o
	}
	r, err := recipe.Parse(o.file, data, recipe.ParseOptions{})
	if err != nil {
		o.err = err
		return o
	}
	o.plan, o.err = r.Plan(recipe.PlanOptions{
		Arch: s.arch, Library: library, Dir: os.DirFS(s.dir), AllowUnpinned: s.unpinned, CheckShell: s.shell, Commit: "unknown",
	})
	if o.err == nil {
		o.plan.Digests()
	}
	return o
}

func (s *survey) report(w io.Writer, outcomes []outcome, total time.Duration) {
	var planned, otherwise, steps, tests, outputs int
	sources := map[string]int{}
	spent := make([]time.Duration, 0, len(outcomes))
	for _, o := range outcomes {
		spent = append(spent, o.spent)
		switch {
		case errors.Is(o.err, recipe.ErrArchitecture):
			otherwise++
		case errors.Is(o.err, fs.ErrNotExist), o.err != nil:
			fmt.Fprintln(w, strings.TrimSpace(o.err.Error()))
		default:
			planned++
			steps += len(o.plan.Steps)
			tests += len(o.plan.Tests)
			outputs += len(o.plan.Outputs)
			for _, source := range o.plan.Sources {
				sources[source.Kind]++
			}
		}
	}
	slices.Sort(spent)
	fmt.Fprintf(w, "%s: %d recipes, %d planned, %d for other architectures, %d with mistakes\n",
		s.arch, len(outcomes), planned, otherwise, len(outcomes)-planned-otherwise)
	fmt.Fprintf(w, "%d packages, %d steps, %d tests", outputs, steps, tests)
	for _, kind := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(w, ", %d %s", sources[kind], kind)
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err == nil {
		fmt.Fprintf(w, "\n%v of CPU time", time.Duration(usage.Utime.Nano()+usage.Stime.Nano()).Round(time.Millisecond))
	}
	fmt.Fprintf(w, "\nin %v", total.Round(time.Millisecond))
	if n := len(spent); n > 0 {
		fmt.Fprintf(w, "; one recipe: median %v, slowest %v", spent[n/2].Round(time.Microsecond), spent[n-1].Round(time.Microsecond))
	}
	fmt.Fprintln(w)
}
