package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/ci/policy"
	"distro.internal/ci/report"
	"distro.internal/ci/run"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/console"
)

func checkCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var r runFlags
	var c checker
	command := &cobra.Command{
		Use:   "check --base REF",
		Short: "Judge what a branch changes: what it would break for those who have what is published",
		Long: `Make what a branch changes and what depends on that, publish nothing, and judge
the repository as it would be beside the published one. What was wrong before is
not told again. Findings that are errors are exit code 2.

` + checkList() + `
In ci/world.yaml:

  check:
    require: [size]                       # errors; warn: and off: likewise
    licenses: {allow: [MIT, Apache-2.0, BSD-*], deny: [AGPL-*]}
    growth: {package: 25%, image: 10%, least: 1Mi}
    except:
      - {check: setuid, recipe: sudo, reason: it is what sudo is for}`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			done, err := w.openRemote(r.remote)
			if err != nil {
				return err
			}
			defer done()
			ctx := command.Context()
			var verdict error
			err = w.make(ctx, s, o, r, func(m *maker) ([]run.Node, error) {
				return c.choose(ctx, m, o)
			}, func(m *maker) { verdict = c.judge(ctx, m) })
			return errors.Join(err, verdict)
		},
	}
	r.register(command.Flags())
	command.Flags().StringVar(&c.base, "base", "main", "branch or commit to compare with")
	command.Flags().StringVar(&c.markdown, "markdown", "", "file to write the findings to as well, for a comment on the change")
	return command
}

// checkList is the table of checks as help shows it.
func checkList() string {
	var b strings.Builder
	for _, check := range policy.Checks() {
		fmt.Fprintf(&b, "  %-15s %-8s %s\n", check.Name, check.Severity, check.About)
	}
	return b.String()
}

// A checker judges what a branch changes.
type checker struct {
	base, markdown string

	old     *graph.Graph // where the branch began
	effects []effect
}

// choose are the actions that make what is judged.
func (c *checker) choose(ctx context.Context, m *maker, o *workspaceFlags) (actions []run.Node, err error) {
	if c.old, err = m.graphAt(ctx, o, c.base); err != nil {
		return nil, err
	}
	if c.effects, err = compare(c.old, m.graph, (*graph.Node).Definition); err != nil {
		return nil, err
	}
	for _, n := range m.graph.Ancestors(c.remakes(m.graph)...) {
		actions = append(actions, m.action(n, m.makePackages))
	}
	return actions, nil
}

// remakes are the nodes of packages that are made otherwise than at the base, or may be.
func (c *checker) remakes(g *graph.Graph) []*graph.Node {
	var nodes []*graph.Node
	for _, e := range c.effects {
		if n, ok := g.Node(e.Node); ok && n.Kind == graph.Packages {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (c *checker) judge(ctx context.Context, m *maker) error {
	b := &comparison{world: m.world, checker: c}
	defer b.Close()
	changes, err := b.changes(ctx)
	if err != nil {
		return err
	}
	findings, err := policy.Judge(m.config.Check, changes...)
	if err != nil {
		return err
	}
	m.report.Findings(findings)
	if c.markdown != "" {
		if err := atomicfile.Write(c.markdown, 0o644, func(w io.Writer) error {
			return report.Markdown(w, findings, c.summary(changes))
		}); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(findings, func(f policy.Finding) bool { return f.Severity == policy.Failure }) {
		return &console.Ended{Code: 2}
	}
	return nil
}

// summary says what was judged.
func (c *checker) summary(changes []*policy.Change) string {
	made, gone, images := 0, 0, 0
	for _, change := range changes {
		images += len(change.Images)
		for _, p := range change.Packages {
			if p.New == nil {
				gone++
			} else {
				made++
			}
		}
	}
	differ := "packages differ"
	if made == 1 {
		differ = "package differs"
	}
	return fmt.Sprintf("%d %s from what is published, %d are gone; %d images were solved", made, differ, gone, images)
}
