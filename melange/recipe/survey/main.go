// Survey plans every recipe of a folder and says how it went: how many, how fast, which not, and why.
//
//	go run ./melange/recipe/survey [-arch x86_64,aarch64] [-peer PROGRAM [-compiled FOLDER]] FOLDER
//
// With -peer it has another melange compile the same recipes, and compares what that prints with what compile --compat
// does: packages, steps, environments, dependencies. Differences that are known, and why they are there, are a table; any
// other is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
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
	archs := flag.String("arch", "x86_64", "plan for these architectures, with commas between them")
	flag.StringVar(&s.peer.program, "peer", "", "compare with what this melange compiles")
	flag.StringVar(&s.peer.folder, "compiled", "", "keep in ARCH/NAME.json in this folder what the other compiled, and do not ask it again for what is there")
	flag.IntVar(&s.peer.atOnce, "at-once", 2, "run the other so many times at once")
	flag.IntVar(&s.examples, "examples", 0, "show so many examples of each class of differences")
	flag.BoolVar(&s.shell, "shell", false, "check the syntax of all scripts")
	flag.BoolVar(&s.unpinned, "unpinned", false, "accept sources without a digest")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	s.dir = flag.Arg(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := s.run(ctx, os.Stdout, strings.Split(*archs, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "survey:", err)
		os.Exit(1)
	}
}

type survey struct {
	dir      string
	examples int
	unpinned bool
	shell    bool
	peer     peer
}

// outcome is what became of one recipe.
type outcome struct {
	file  string
	plan  *recipe.Plan
	err   error
	spent time.Duration
}

func (s *survey) run(ctx context.Context, w io.Writer, archs []string) error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.yaml"))
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), ".") })
	c := comparison{builtin: s.builtin}
	for _, name := range archs {
		arch, err := apk.ParseArch(name)
		if err != nil {
			return err
		}
		outcomes, spent := s.plans(files, arch)
		s.report(w, arch, outcomes, spent)
		if s.peer.program == "" {
			continue
		}
		if err := s.compare(ctx, &c, arch, outcomes); err != nil {
			return err
		}
	}
	if s.peer.program == "" {
		return nil
	}
	return c.report(w, s.examples)
}

// plans plans all files for one architecture.
func (s *survey) plans(files []string, arch apk.Arch) ([]outcome, time.Duration) {
	library := recipe.NewLibrary(os.DirFS(filepath.Join(s.dir, "pipelines")), pipelines.Files)
	outcomes := make([]outcome, len(files))
	start := time.Now()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			outcomes[i] = s.plan(file, arch, library)
			return nil
		})
	}
	_ = group.Wait() // what went wrong is in the outcomes
	return outcomes, time.Since(start)
}

func (s *survey) plan(file string, arch apk.Arch, library *recipe.Library) (o outcome) {
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
		Arch: arch, Library: library, Dir: os.DirFS(s.dir), AllowUnpinned: s.unpinned, CheckShell: s.shell, Commit: commit,
	})
	if o.err == nil {
		o.plan.Digests()
	}
	return o
}

// commit is that of the recipes, for both.
const commit = "unknown"

func (s *survey) report(w io.Writer, arch apk.Arch, outcomes []outcome, total time.Duration) {
	var planned, otherwise, steps, tests, outputs int
	sources := map[string]int{}
	spent := make([]time.Duration, 0, len(outcomes))
	for _, o := range outcomes {
		spent = append(spent, o.spent)
		switch {
		case errors.Is(o.err, recipe.ErrArchitecture):
			otherwise++
		case o.err != nil:
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
		arch, len(outcomes), planned, otherwise, len(outcomes)-planned-otherwise)
	fmt.Fprintf(w, "%d packages, %d steps, %d tests", outputs, steps, tests)
	for _, kind := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(w, ", %d %s", sources[kind], kind)
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err == nil {
		fmt.Fprintf(w, "\n%v of CPU time so far", time.Duration(usage.Utime.Nano()+usage.Stime.Nano()).Round(time.Millisecond))
	}
	fmt.Fprintf(w, "\nin %v", total.Round(time.Millisecond))
	if n := len(spent); n > 0 {
		fmt.Fprintf(w, "; one recipe: median %v, slowest %v", spent[n/2].Round(time.Microsecond), spent[n-1].Round(time.Microsecond))
	}
	fmt.Fprintln(w)
}
