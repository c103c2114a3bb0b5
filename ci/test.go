package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/ci/run"
	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
)

func testCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var r runFlags
	var since sinceFlag
	c := &cobra.Command{
		Use:   "test [NODE...]",
		Short: "Run the tests of everything, or of some recipes' packages",
		Long: `Run the tests of all recipes, or of some, for every architecture that they are
built for. What is tested, and what the tests' environments name, is made first
if it is not made already; nothing is published. A test that passed is not run
again while nothing that it depends on changes.`,
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			done, err := w.openRemote(r.remote)
			if err != nil {
				return err
			}
			defer done()
			return w.make(c.Context(), s, o, r, func(m *maker) ([]run.Node, error) {
				words, none, err := since.words(c.Context(), w, o, (*graph.Node).Trial, args)
				if err != nil || none {
					return nil, err
				}
				return m.trials(words)
			}, (*maker).silence)
		},
	}
	r.register(c.Flags())
	since.register(c.Flags())
	return c
}

// trials are the actions of tests, after those that make what they need.
func (m *maker) trials(words []string) ([]run.Node, error) {
	nodes, err := m.find(words)
	if err != nil {
		return nil, err
	}
	var tests []*graph.Node
	for _, n := range nodes {
		switch {
		case n.Kind == graph.Image:
			m.images++
		case len(n.Tests) == 0:
			m.untested = append(m.untested, n.ID)
		default:
			t := m.graph.Test(n)
			m.tests[t.ID] = t
			tests = append(tests, t)
		}
	}
	var actions []run.Node
	for _, n := range m.graph.Ancestors(tests...) {
		actions = append(actions, m.action(n, m.makePackages))
	}
	for _, t := range tests {
		actions = append(actions, m.action(t, m.test))
	}
	return actions, nil
}

// silence tells what a run of tests says nothing about.
func (m *maker) silence() {
	switch {
	case len(m.untested) > 0:
		m.report.Say("without a test: %s", strings.Join(m.untested, ", "))
	case len(m.tests) == 0 && m.images > 0:
		m.report.Say("images have no tests")
	}
}

// test runs all tests of a recipe. One that fails does not keep the others from
// being run.
func (m *maker) test(ctx context.Context, n *graph.Node) (run.Outcome, error) {
	packages, _ := m.graph.Node(string(n.Arch) + "/" + n.Name) // that are tested
	plan, err := m.madePlan(packages)
	if err != nil {
		return run.Outcome{}, err
	}
	keys := map[string]string{}
	ran, fetched := 0, 0
	var failures error
	for i := range plan.Tests {
		result, err := m.testOne(ctx, n, plan, &plan.Tests[i])
		if result != nil {
			keys[result.Key.Kind()+" "+plan.Tests[i].Output] = result.Key.Digest().String()
			if result.Ran {
				ran++
			}
			if result.Fetched {
				fetched++
			}
		}
		if failures = errors.Join(failures, err); ctx.Err() != nil {
			break
		}
	}
	m.keys.record(n.ID, keys)
	return run.Outcome{Cached: ran == 0, Fetched: ran == 0 && fetched > 0, Note: fmt.Sprintf("%d of %d tests ran", ran, len(plan.Tests))}, failures
}

func (m *maker) testOne(ctx context.Context, n *graph.Node, plan *recipe.Plan, t *recipe.Test) (*build.TestResult, error) {
	job, err := m.testJob(ctx, n, plan, t)
	if err != nil {
		return nil, err
	}
	log := &logFile{name: m.testLogName(n, t.Output)}
	defer log.Close()
	m.watch(&job, n, log)
	return m.builder.Test(ctx, job)
}

// testJob decides the environment of a test, for which everything is made.
func (m *maker) testJob(ctx context.Context, n *graph.Node, plan *recipe.Plan, t *recipe.Test) (build.Job, error) {
	job := build.Job{Plan: plan, Test: t, Local: m.localFiles(n)}
	offer, err := m.offer(ctx, n, t.Environment, n.Arch)
	if err != nil {
		return job, err
	}
	job.Environment, err = build.ResolveTest(plan, t, offer)
	return job, m.suggest(err)
}
