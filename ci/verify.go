package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/ci/report"
	"distro.internal/ci/run"
	"distro.internal/melange/build"
	"distro.internal/shared/cas"
)

func verifyCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var again bool
	c := &cobra.Command{
		Use:   "verify [NODE...]",
		Short: "Build again what was built, elsewhere and with no results at hand, and compare",
		Long: `Build the packages of nodes once more: in other folders, from an empty store of
results, one step at a time where the first build had many. Every package must
come out equal to the last byte of what is signed. What was found equal once is
not built again until something that it is made of changes.`,
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openForReading(c.Context(), s, o)
			if err != nil {
				return err
			}
			if err := w.openKey(o.key); err != nil {
				return err
			}
			nodes, err := w.find(args)
			if err != nil {
				return err
			}
			return w.verify(c.Context(), s, o, w.graph.Ancestors(nodes...), again)
		},
	}
	c.Flags().BoolVar(&again, "again", false, "also what was found equal before")
	return c
}

// verify rebuilds nodes, which come dependencies first. Each is rebuilt in the
// environment that the first build had, so none waits for another.
func (w *world) verify(ctx context.Context, s surroundings, o *workspaceFlags, nodes []*graph.Node, again bool) error {
	if err := os.MkdirAll(w.cache, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(w.cache, "verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	other := *w.builder
	other.Store = cas.Layered{Store: cas.Store{Dir: filepath.Join(dir, "results")}}
	other.WorkDir = filepath.Join(dir, "in", "another", "place")

	var actions []run.Node
	for _, f := range w.surveyPackages(ctx, nodes) {
		actions = append(actions, run.Node{ID: f.id, Do: func(ctx context.Context) (run.Outcome, error) {
			if f.verdict != upToDate {
				return run.Outcome{}, errNotBuilt
			}
			return w.verifyNode(ctx, &other, f.node, again)
		}})
	}
	r := report.New(report.Config{Out: s.stdout, JSON: o.json, Total: len(actions)})
	defer r.Close()
	_, err = run.Run(ctx, actions, run.Options{Jobs: runtime.NumCPU(), OnEvent: r.Event})
	return errors.Join(err, r.Summary())
}

// errNotBuilt is the end of a node with nothing to compare with.
var errNotBuilt = errors.New("it is not built as it is now: run world build first")

// verifyNode rebuilds a node that was found up to date.
func (w *world) verifyNode(ctx context.Context, other *build.Builder, n *graph.Node, again bool) (run.Outcome, error) {
	plan, err := w.madePlan(n)
	if err != nil {
		return run.Outcome{}, err
	}
	job, err := w.job(ctx, n, plan.Epoch)
	if err != nil {
		return run.Outcome{}, err
	}
	first, err := w.builder.Lookup(ctx, job)
	if err != nil {
		return run.Outcome{}, err
	}
	key := cas.NewKey("verify/1")
	for _, k := range first.Keys {
		key.Add(k.Kind(), k.Digest().String())
	}
	if _, err := w.builder.Store.Result(key.Digest()); err == nil && !again {
		return run.Outcome{Cached: true}, nil
	}
	second, err := other.Build(ctx, job)
	if err != nil {
		return run.Outcome{}, err
	}
	if err := equal(first, second); err != nil {
		return run.Outcome{}, err
	}
	err = w.builder.Store.SetResult(key.Digest(), &cas.Result{Metadata: map[string]string{"packages": fmt.Sprint(len(first.Packages))}})
	return run.Outcome{Note: "equal"}, err
}

// equal compares what is signed of every package, and names what differs.
func equal(first, second *build.Result) error {
	var differ []string
	for i, p := range first.Packages {
		q := second.Packages[i]
		switch {
		case p.DataHash != q.DataHash:
			differ = append(differ, p.Name+" (files)")
		case p.ControlSum != q.ControlSum:
			differ = append(differ, p.Name+" (metadata)")
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	return fmt.Errorf("the second build is another: %s", strings.Join(differ, ", "))
}
