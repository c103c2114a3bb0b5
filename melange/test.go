package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/shared/console"
)

type testOptions struct {
	roomFlags
	build, verbose, trace bool
	keep                  keepFlag
	testPackages          []string
	testOptions           []string
}

func testCommand(s surroundings) *cobra.Command {
	var o testOptions
	c := &cobra.Command{
		Use:   "test RECIPE [PACKAGE]",
		Short: "Run the tests of a recipe's packages, each in an environment with the package installed",
		Long: `Run the tests of a recipe's packages. Each runs in an environment of its own,
of the architecture that the packages are for: the package under test, of the
version that the recipe says, and what the test asks for. All of it comes from
the given repositories; with --build the packages are built first, if they are
not built already. A test that passed is not run again while nothing that it
depends on changes.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.test(c.Context(), s, args[0], args[1:])
		},
	}
	f := c.Flags()
	o.register(f, s)
	f.BoolVar(&o.build, "build", false, "test what the recipe builds, not what the repositories have of it")
	o.keep.register(f)
	f.StringSliceVar(&o.testPackages, "test-package-append", nil, "packages for the environments of tests only")
	f.StringSliceVar(&o.testOptions, "test-option", nil, "the same as --build-option")
	f.BoolVar(&o.trace, "debug", false, "print what the tests print, and their commands before they run")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print what the tests print")
	return c
}

// errTests is what is left to say when each failure was told.
var errTests = errors.New("some tests failed")

func (o *testOptions) test(ctx context.Context, s surroundings, file string, packages []string) error {
	o.options = append(o.options, o.testOptions...)
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	builder, err := o.builder(s)
	if err != nil {
		return err
	}
	if plans, err = pin(ctx, builder.Sources, plans); err != nil {
		return err
	}
	if err := o.keep.check(); err != nil {
		return err
	}
	failed := false
	for _, plan := range plans {
		tests, err := testsOf(plan, packages)
		if err != nil {
			return err
		}
		if len(tests) == 0 {
			fmt.Fprintf(s.stdout, "none  %s/%s: the recipe has no tests\n", plan.Arch, plan.Name)
			continue
		}
		var made []build.Package
		if o.build {
			if made, err = o.make(ctx, s, builder, file, plan); err != nil {
				return err
			}
		}
		for _, t := range tests {
			if err := o.testOne(ctx, s, builder, build.Job{Plan: plan, Test: &t, Local: o.local(file, plan), Keep: o.keep.when(), Trace: o.trace}, made); err != nil {
				if ctx.Err() != nil {
					return err
				}
				failed = true
			}
		}
	}
	if failed {
		return errTests
	}
	return nil
}

// testsOf are the tests of a plan, or of those packages that are named.
func testsOf(plan *recipe.Plan, names []string) ([]recipe.Test, error) {
	if len(names) == 0 {
		return plan.Tests, nil
	}
	var tests []recipe.Test
	for _, name := range names {
		i := slices.IndexFunc(plan.Tests, func(t recipe.Test) bool { return t.Output == name })
		switch {
		case i >= 0:
			tests = append(tests, plan.Tests[i])
		case slices.ContainsFunc(plan.Outputs, func(p recipe.Output) bool { return p.Name == name }):
			return nil, fmt.Errorf("package %s has no test", name)
		default:
			return nil, fmt.Errorf("recipe %s makes no package %q for %s", plan.Name, name, plan.Arch)
		}
	}
	return tests, nil
}

// make builds the packages that are to be tested.
func (o *testOptions) make(ctx context.Context, s surroundings, b *build.Builder, file string, plan *recipe.Plan) ([]build.Package, error) {
	job, err := o.job(ctx, file, plan)
	if err != nil {
		return nil, err
	}
	job.Log, job.OnStep = s.stderr, announce(s.stderr, plan)
	result, err := b.Build(ctx, job)
	if err != nil {
		return nil, err
	}
	return result.Packages, nil
}

// testOne runs one test and says how it went.
func (o *testOptions) testOne(ctx context.Context, s surroundings, b *build.Builder, job build.Job, made []build.Package) error {
	began := time.Now()
	name := fmt.Sprintf("%s/%s", job.Plan.Arch, job.Test.Output)
	log := newStepLog(o.cacheDir, job)
	defer log.Close()
	job.Log = log
	if o.verbose || o.trace {
		job.Log, job.OnStep = io.MultiWriter(s.stderr, log), announce(s.stderr, job.Plan)
	}
	result, err := o.runTest(ctx, b, job, made)
	switch {
	case err != nil:
		fmt.Fprintf(s.stdout, "fail  %s: %v\n", name, err)
		o.explainTest(s, job, log, err)
	case result.Ran:
		fmt.Fprintf(s.stdout, "pass  %s: %s in %s\n", name, count(len(job.Test.Steps), "step"), console.Duration(time.Since(began)))
	default:
		fmt.Fprintf(s.stdout, "pass  %s: as before, nothing changed\n", name)
	}
	return err
}

// explainTest tells the last that a failed test said, where the rest is, and how to get there.
func (o *testOptions) explainTest(s surroundings, job build.Job, log *stepLog, err error) {
	for _, line := range log.tail(20) {
		fmt.Fprintf(s.stdout, "    | %s\n", line)
	}
	var step *build.StepError
	if !errors.As(err, &step) || job.Test.Structural() {
		return
	}
	if log.file != nil {
		fmt.Fprintf(s.stdout, "    log: %s\n", log.name)
	}
	if job.Keep == build.KeepNever {
		fmt.Fprintf(s.stdout, "    look into: melange %s --keep\n", shellWords(s.args))
		return
	}
	fmt.Fprintf(s.stdout, "    look into: melange shell --kept %s%s\n", job.KeptName(), s.cacheFlag(o.cacheDir))
}

func (o *testOptions) runTest(ctx context.Context, b *build.Builder, job build.Job, made []build.Package) (*build.TestResult, error) {
	if err := appendPackages(&job.Test.Environment, o.testPackages); err != nil {
		return nil, err
	}
	if err := o.resolveTest(ctx, b, &job, made); err != nil {
		return nil, err
	}
	return b.Test(ctx, job)
}

// resolveTest decides the environment of a test; what was just made is in the
// place of what repositories have of it.
func (o *roomFlags) resolveTest(ctx context.Context, b *build.Builder, job *build.Job, made []build.Package) error {
	if err := o.append(&job.Test.Environment); err != nil {
		return err
	}
	_, target, err := o.offers(ctx, job.Plan, job.Test.Environment)
	if err != nil {
		return err
	}
	job.Environment, err = build.ResolveTest(job.Plan, job.Test, b.Above(target, made, build.Seal{}))
	return err
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// lastLines are the last n lines of a text.
func lastLines(text string, n int) []string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-n):]
}
