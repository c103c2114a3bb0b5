package main

import (
	"bufio"
	"context"
	"errors"
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

	"github.com/chainguard-dev/clog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/ci/graph"
	"distro.internal/ci/report"
	"distro.internal/ci/run"
	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/document"
	"distro.internal/shared/repository"
)

// runFlags say how nodes are made.
type runFlags struct {
	jobs     int
	failFast bool
	verbose  bool
	keep     bool
	remote   remoteFlags
}

func (r *runFlags) register(f *pflag.FlagSet) {
	f.IntVarP(&r.jobs, "jobs", "j", runtime.NumCPU(), "nodes at a time")
	f.BoolVar(&r.failFast, "fail-fast", false, "start nothing more after a failure")
	f.BoolVarP(&r.verbose, "verbose", "v", false, "print also what is up to date")
	f.BoolVar(&r.keep, "keep", false, "keep the workspace of a recipe whose step fails, for melange shell --kept")
	r.remote.register(f)
}

func buildCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var r runFlags
	var since sinceFlag
	c := &cobra.Command{
		Use:   "build [NODE...]",
		Short: "Make everything, or some nodes and what they need, and publish it",
		Long: `Make everything that is not made already: packages first, then one signed
generation of the repository, then images. A node is a recipe for one
architecture (x86_64/zlib) or an image (image/base); the name of a recipe, of a
package that it makes, or of an image means all nodes of that name.

What fails takes its dependents with it and nothing else; nothing is published
then, and what was finished is kept for the next run.

A package that comes out other than it is published is released under the next
number, the N of 1.2.3-rN; the recipe's epoch is the least that it may be.`,
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
			if len(args) == 0 && since.base == "" && !o.json && !r.verbose {
				if settled, err := w.settledAlready(c.Context(), s, o); settled || err != nil {
					return err
				}
			}
			return w.make(c.Context(), s, o, r, func(m *maker) ([]run.Node, error) {
				words, none, err := since.words(c.Context(), w, o, (*graph.Node).Definition, args)
				if err != nil || none {
					return nil, err
				}
				nodes, err := w.find(words)
				m.whole = len(words) == 0
				return m.actions(w.graph.Ancestors(nodes...)), err
			}, (*maker).where)
		},
	}
	r.register(c.Flags())
	since.register(c.Flags())
	return c
}

// make runs the actions that choose chooses of the prepared workspace; then says
// what there is to say when all went well.
func (w *world) make(ctx context.Context, s surroundings, o *workspaceFlags, r runFlags, choose func(*maker) ([]run.Node, error), then func(*maker)) error {
	if r.jobs < 1 {
		return fmt.Errorf("--jobs wants 1 or more, found %d", r.jobs)
	}
	unlock, err := w.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := w.sweep(ctx); err != nil {
		return err
	}
	if err := w.prepare(ctx, o, s.stderr); err != nil {
		return err
	}
	if w.journal, err = run.OpenJournal(w.out("journal")); err != nil {
		return err
	}
	defer w.journal.Close()
	m := &maker{world: w, tests: map[string]*graph.Node{}, keepFailed: r.keep}
	actions, err := choose(m)
	if err != nil {
		return err
	}
	m.report = report.New(report.Config{
		Out: s.stdout, JSON: o.json, Verbose: r.verbose, Total: len(actions),
		Explain: m.explain, Why: m.why, Page: w.out(pageName), Log: m.pageLog,
	})
	defer m.report.Close()
	if behind := w.builder.Store.Behind; behind != nil {
		behind.Tell = func(err error) { m.report.Say("%v", err) }
	}
	w.builder.Sources.Progress = m.report.Fetching
	_, err = run.Run(ctx, actions, run.Options{Jobs: r.jobs, FailFast: r.failFast, OnEvent: m.event})
	pageErr := m.report.Summary()
	if err == nil {
		then(m)
		m.keep(ctx, o)
	} else if errors.Is(err, run.ErrFailed) {
		m.report.Say("report      %s", m.short(w.out(pageName)))
	}
	return errors.Join(err, m.journalErr, pageErr)
}

func (w *world) sweep(ctx context.Context) error {
	if err := w.builder.Sweep(ctx, 0); err != nil {
		return fmt.Errorf("removing what a killed run left: %w", err)
	}
	return nil
}

// pageName is the page about the last run that did something, in the folder of what is made.
const pageName = "report.html"

// A maker makes the nodes of one run.
type maker struct {
	*world
	whole      bool // all of the workspace: what it does not make is not in the repository any more
	keepFailed bool // the workspaces of what fails
	report     *report.Report
	packages   []*graph.Node
	generation repository.Generation
	held       bool // nothing was published, for it was rolled back
	journalErr error
	keys       keys
	tests      map[string]*graph.Node // by ID: they are not in the graph
	untested   []string               // nodes whose recipe has no test
	images     int                    // that tests were asked of
}

// repositoryNode publishes what all packages nodes of a run made.
const repositoryNode = "repository"

func (m *maker) actions(nodes []*graph.Node) []run.Node {
	var actions []run.Node
	publish := run.Node{ID: repositoryNode, Do: m.publish}
	for _, n := range nodes {
		if n.Kind != graph.Packages {
			continue
		}
		m.packages = append(m.packages, n)
		publish.Needs = append(publish.Needs, n.ID)
		actions = append(actions, m.action(n, m.makePackages))
	}
	actions = append(actions, publish)
	for _, n := range nodes {
		if n.Kind == graph.Image {
			action := m.action(n, m.makeImage)
			action.Needs = append(action.Needs, repositoryNode)
			actions = append(actions, action)
		}
	}
	return actions
}

func (m *maker) action(n *graph.Node, do func(context.Context, *graph.Node) (run.Outcome, error)) run.Node {
	return run.Node{
		ID: n.ID, Needs: ids(n.Needs()), Estimate: m.journal.Took(n.ID),
		Do: func(ctx context.Context) (run.Outcome, error) { return do(ctx, n) },
	}
}

func ids(nodes []*graph.Node) []string {
	ids := make([]string, len(nodes))
	for i, n := range nodes {
		ids[i] = n.ID
	}
	return ids
}

func (m *maker) makePackages(ctx context.Context, n *graph.Node) (run.Outcome, error) {
	log := &logFile{name: m.logName(n)}
	defer log.Close()
	if k, ok := m.recall(ctx, n); ok {
		m.keys.record(n.ID, k.digests())
		return run.Outcome{Cached: true, Note: count(len(n.Outputs))}, m.forgetFailure(n, log)
	}
	before := m.contents(n)
	result, err := m.allot(ctx, n, func(job build.Job) (*build.Result, error) {
		m.watch(&job, n, log)
		return m.builder.Build(ctx, job)
	})
	if result != nil {
		m.keys.set(n.ID, result.Keys)
	}
	if err != nil {
		return run.Outcome{}, err
	}
	m.mu.Lock()
	m.made[n.ID] = result
	m.mu.Unlock()
	m.remember(ctx, n, result)
	if err := m.forgetFailure(n, log); err != nil {
		return run.Outcome{}, err
	}
	for _, p := range result.Packages {
		if _, _, err := m.builder.Sign(ctx, p, m.seal); err != nil {
			return run.Outcome{}, err
		}
	}
	words := note(result, before)
	if m.isNewRelease(n.Arch, result.Packages) {
		words += ", released as " + string(result.Packages[0].Version)
	}
	return run.Outcome{Cached: !result.Ran && !result.Packed, Fetched: result.Fetched && !result.Ran && !result.Packed, Note: words}, nil
}

// forgetFailure takes away the log of a failure after which a node was found to be made, so that nothing was logged anew:
// it tells of steps that the packages do not come from.
func (m *maker) forgetFailure(n *graph.Node, log *logFile) error {
	if last, ok := m.journal.Last(n.ID); !ok || last.Status != run.Failed || log.f != nil {
		return nil
	}
	if err := os.Remove(log.name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// watch shows and logs what a job of a node does.
func (m *maker) watch(job *build.Job, n *graph.Node, log *logFile) {
	job.Log = log
	if m.keepFailed {
		job.Keep = build.KeepFailed
	}
	job.OnStep = func(i, of int, s recipe.Step) {
		m.report.Doing(n.ID, fmt.Sprintf("step %d of %d: %s", i, of, s.Title()))
		fmt.Fprintf(log, "# %s: %s\n", s.Pos, s.Title())
	}
}

// note says what a build came to.
func note(r *build.Result, before string) string {
	words := count(len(r.Packages))
	switch {
	case !r.Ran && !r.Packed:
		return words
	case !r.Ran:
		words += " packaged again, nothing was built"
	}
	if before != "" && before == contentsOf(r.Packages) {
		words += ", content as before"
	}
	switch r.Warnings {
	case 0:
	case 1:
		words += ", 1 warning"
	default:
		words += fmt.Sprintf(", %d warnings", r.Warnings)
	}
	return words
}

func count(packages int) string {
	if packages == 1 {
		return "1 package"
	}
	return fmt.Sprintf("%d packages", packages)
}

// contents is what dependents saw of the node when it was last made.
func (m *maker) contents(n *graph.Node) string {
	last, _ := m.journal.Last(n.ID)
	return last.Content
}

func contentsOf(packages []build.Package) string {
	var all strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&all, "%s %s\n", p.Name, p.Content)
	}
	return cas.DigestOf([]byte(all.String())).Hash
}

// publish makes one generation of everything that was made.
func (m *maker) publish(ctx context.Context) (run.Outcome, error) {
	change := repository.Change{
		Add: map[apk.Arch][]repository.Addition{}, Remove: map[apk.Arch][]string{}, Replace: m.whole, Respect: true, After: m.seen,
	}
	for _, n := range m.packages {
		packages, err := m.packagesOf(n)
		if err != nil {
			return run.Outcome{}, err
		}
		for _, p := range packages {
			info, file, err := m.builder.Sign(ctx, p, m.seal)
			if err != nil {
				return run.Outcome{}, err
			}
			change.Add[n.Arch] = append(change.Add[n.Arch], repository.Addition{Package: info, File: file})
			change.Remove[n.Arch] = append(change.Remove[n.Arch], p.Name) // earlier releases
		}
	}
	r := m.repository()
	before, err := r.Current()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return run.Outcome{}, err
	}
	m.generation, err = r.Publish(ctx, change)
	if errors.Is(err, repository.ErrUndone) {
		m.generation, m.held = before, true
		return run.Outcome{Cached: true, Note: rolledBack(before)}, nil
	}
	if err != nil {
		return run.Outcome{}, err
	}
	same := before.Number == m.generation.Number
	return run.Outcome{Cached: same, Note: fmt.Sprintf("generation %d: %d packages", m.generation.Number, m.generation.Packages)}, nil
}

func (w *world) repository() *repository.Repository {
	return &repository.Repository{Dir: w.out("repository"), Signer: w.seal}
}

// event reports, and keeps the journal of what people may ask for later.
func (m *maker) event(e run.Event) {
	m.report.Event(e)
	if e.Status == "" {
		return
	}
	record := run.Record{Time: e.Time.UTC(), Node: e.Node, Status: e.Status, Took: e.Took, Note: e.Note, Keys: m.keys.of(e.Node)}
	if e.Err != nil {
		record.Error = e.Err.Error()
	}
	m.mu.Lock()
	if r := m.made[e.Node]; r != nil {
		record.Content = contentsOf(r.Packages)
	}
	m.mu.Unlock()
	if last, ok := m.journal.Last(e.Node); ok && e.Status == run.Cached && last.Status != run.Failed && maps.Equal(last.Keys, record.Keys) {
		return // nothing new: the journal grows only by what happened
	}
	m.journalErr = errors.Join(m.journalErr, m.journal.Append(record))
}

// keep remembers what the run has found. That it cannot costs the next run time and nothing else.
func (m *maker) keep(ctx context.Context, o *workspaceFlags) {
	err := m.recollection.save(m.stamp(), m.graph.Nodes())
	if err == nil && m.whole && !m.held {
		err = m.settle(ctx, o)
	}
	if err != nil {
		clog.WarnContext(ctx, err.Error())
	}
}

// settledAlready ends a build before it begins, if nothing has changed since one that had nothing to do.
func (w *world) settledAlready(ctx context.Context, s surroundings, o *workspaceFlags) (bool, error) {
	unlock, err := w.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := w.sweep(ctx); err != nil {
		return false, err
	}
	began := time.Now()
	nodes, ok := w.isSettled(ctx)
	if !ok {
		return false, nil
	}
	r := report.New(report.Config{Out: s.stdout, Total: len(nodes)})
	defer r.Close()
	for _, id := range nodes {
		r.Event(run.Event{Node: id, Status: run.Cached, Time: began})
	}
	err = r.Summary()
	w.where(r, nodes)
	return true, err
}

func (m *maker) where() {
	var nodes []string
	for _, n := range m.graph.Nodes() {
		nodes = append(nodes, n.ID)
	}
	m.world.where(m.report, nodes)
	if err := m.removeImages(); err != nil {
		m.report.Say("not removed: %v", err)
	}
	if m.held {
		m.report.Say("not published: %s", rolledBack(m.generation))
	}
}

// rolledBack says what a rollback means for those who build.
func rolledBack(g repository.Generation) string {
	return fmt.Sprintf("generation %d has what generation %d had, until a build comes to something else than what was rolled back; world generations rollback %d publishes that again",
		g.Number, g.Of, g.Undone[len(g.Undone)-1])
}

// where tells where to find what was made.
func (w *world) where(r *report.Report, nodes []string) {
	r.Say("repository  %s", w.short(w.out("repository")))
	for _, id := range nodes {
		if name, ok := strings.CutPrefix(id, string(graph.Image)+"/"); ok {
			if _, err := os.Stat(w.out("images", name)); err == nil {
				r.Say("image       %s", w.short(w.out("images", name)))
			}
		}
	}
}

func (w *world) short(path string) string {
	if rel, err := filepath.Rel(w.dir, path); err == nil {
		return rel
	}
	return path
}

// why tells what changed since a node was last made. It is asked before the
// journal knows better.
func (m *maker) why(node string) string {
	if last, ok := m.journal.Last(node); ok && last.Status == run.Failed {
		return "failed before"
	}
	changes, _ := m.changes(node, m.keys.actionsOf(node))
	if len(changes) == 0 {
		return ""
	}
	first := changes[0].Action // what later actions take from it changed with it
	changes = slices.DeleteFunc(changes, func(c change) bool { return c.Action != first })
	return finding{changes: changes}.reason()
}

// pageLog is where a node's log lies, seen from the page.
func (m *maker) pageLog(node string) string {
	n, ok := m.graph.Node(node)
	if !ok || n.Kind != graph.Packages {
		return ""
	}
	log := m.logName(n)
	if _, err := os.Stat(log); err != nil {
		return ""
	}
	rel, err := filepath.Rel(m.out(), log)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(rel)
}

// tailLines is how much of a failed step's output is shown.
const tailLines = 20

// explain tells a failure's story: what, the last it said, and where the rest is.
func (m *maker) explain(node string, err error) []string {
	lines := strings.Split(err.Error(), "\n")
	n, ok := m.tests[node]
	if !ok {
		n, ok = m.graph.Node(node)
	}
	var step *build.StepError
	var pack *build.PackError
	if !ok || !errors.As(err, &step) && !errors.As(err, &pack) {
		return lines
	}
	log, job, again := m.logName(n), build.Job{Plan: &recipe.Plan{Name: n.Name, Arch: n.Arch}}, "build"
	if n.Kind == graph.Test && step != nil {
		log, again = m.testLogName(n, step.Step.Output), "test"
		job.Test = &recipe.Test{Output: step.Step.Output}
	}
	if pack == nil { // what is wrong with what the steps left, they do not say
		for _, line := range tail(log, tailLines) {
			lines = append(lines, "| "+line)
		}
	}
	lines = append(lines, "log: "+m.short(log))
	if m.keepFailed {
		return append(lines, fmt.Sprintf("look into: melange shell --kept %s --cache-dir %s", job.KeptName(), m.cache))
	}
	return append(lines, fmt.Sprintf("look into: world %s %s/%s --keep", again, n.Arch, n.Name))
}

func (w *world) logName(n *graph.Node) string {
	return w.out("logs", string(n.Arch), n.Name+".log")
}

func (w *world) testLogName(n *graph.Node, output string) string {
	return w.out("logs", string(n.Arch), output+".test.log")
}

// tail returns the last lines of a file.
func tail(file string, n int) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		f.Seek(max(0, end-64<<10), io.SeekStart)
	}
	var lines []string
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 128<<10)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return lines[max(0, len(lines)-n):]
}

// A logFile is made when something is written to it, so that a node that runs
// nothing leaves the log of when it last ran.
type logFile struct {
	name string
	f    *os.File
}

func (l *logFile) Write(p []byte) (int, error) {
	if l.f == nil {
		err := os.MkdirAll(filepath.Dir(l.name), 0o755)
		if err == nil {
			l.f, err = os.Create(l.name)
		}
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(l.f, "# %s\n", time.Now().UTC().Format(time.RFC3339))
	}
	return l.f.Write(p)
}

func (l *logFile) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

func unknownWord(word string, words []string) error {
	if hint := document.DidYouMean(word, words); hint != "" {
		return fmt.Errorf("nothing in the workspace is called %q (%s)", word, hint)
	}
	return fmt.Errorf("nothing in the workspace is called %q", word)
}
