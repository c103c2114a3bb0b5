package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/chainguard-dev/clog"

	"distro.internal/ci/graph"
	"distro.internal/ci/run"
	"distro.internal/shared/cas"
)

// A verdict is what a run would do with a node.
type verdict string

const (
	upToDate verdict = "up to date"
	stale    verdict = "to make"
	waiting  verdict = "depends" // on what comes of another node: an equal result leaves this one as it is
)

// A finding is the verdict on a node, with its reasons.
type finding struct {
	id       string
	node     *graph.Node // nil of the repository
	verdict  verdict
	changes  []change
	releases []releaseChange // of the repository
	next     string          // of stale packages: what they are released as
	after    []string        // of a waiting node: the stale nodes at the root of it
	never    bool            // it was never made here
	failed   bool            // it was tried as it is, and failed
	err      error           // its environment cannot be solved
}

// A change is one input of a node's key that is not as it was.
type change struct {
	Action string `json:"action"`
	Input  string `json:"input"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
}

// survey looks at what a build would do with nodes, which come dependencies first, and makes nothing: with packages, with
// the repository, with images. whole is as of a maker.
func (w *world) survey(ctx context.Context, nodes []*graph.Node, whole bool) []finding {
	findings := w.surveyPackages(ctx, nodes)
	published := w.surveyRepository(findings, whole)
	findings = append(findings, published)
	verdicts := map[string]finding{}
	for _, f := range findings {
		verdicts[f.id] = f
	}
	for _, n := range nodes {
		if n.Kind != graph.Image {
			continue
		}
		f := await(n, verdicts)
		if f.verdict != waiting && published.touches(w.graph.Ancestors(n)) {
			f.verdict, f.after = waiting, published.roots()
		}
		if f.verdict != waiting {
			w.surveyImage(ctx, &f)
		}
		findings, verdicts[n.ID] = append(findings, f), f
	}
	return findings
}

// surveyPackages looks at those of nodes, which come dependencies first, that make packages.
func (w *world) surveyPackages(ctx context.Context, nodes []*graph.Node) []finding {
	findings := make([]finding, 0, len(nodes)+1)
	verdicts := make(map[string]finding, len(nodes))
	for _, n := range nodes {
		if n.Kind != graph.Packages {
			continue
		}
		f := await(n, verdicts)
		if f.verdict != waiting {
			w.surveyNode(ctx, &f)
		}
		findings, verdicts[n.ID] = append(findings, f), f
	}
	if err := w.recollection.save(w.stamp(), w.graph.Nodes()); err != nil {
		clog.WarnContext(ctx, err.Error()) // the next one finds out for itself
	}
	return findings
}

// await begins the finding on a node: it waits, if what it needs is not up to date.
func await(n *graph.Node, verdicts map[string]finding) finding {
	f := finding{id: n.ID, node: n}
	for _, to := range n.Needs() {
		if need := verdicts[to.ID]; need.verdict != upToDate {
			f.after = append(f.after, need.roots()...)
		}
	}
	slices.Sort(f.after)
	if f.after = slices.Compact(f.after); len(f.after) > 0 {
		f.verdict = waiting
	}
	return f
}

func (f finding) roots() []string {
	if f.verdict == waiting {
		return f.after
	}
	return []string{f.id}
}

func (w *world) surveyNode(ctx context.Context, f *finding) {
	if k, ok := w.recall(ctx, f.node); ok && w.lastMade(f.node, k) {
		f.verdict = upToDate
		return
	}
	result, err := w.allot(ctx, f.node, w.lookup(ctx))
	if result != nil {
		f.changes, f.never = w.changes(f.id, result.Keys)
	}
	switch {
	case err == nil:
		f.verdict = upToDate
		w.made[f.id] = result
		w.remember(ctx, f.node, result)
	case errors.Is(err, fs.ErrNotExist) && result != nil:
		last, _ := w.journal.Last(f.id)
		f.verdict, f.failed = stale, last.Status == run.Failed && len(f.changes) == 0
		f.next, f.err = w.nextRelease(f.node)
	default:
		f.verdict, f.err = stale, err
		if awaited, err := w.awaitsStage0(); err == nil && awaited && errors.Is(f.err, fs.ErrNotExist) {
			f.verdict, f.after, f.err = waiting, []string{"stage0"}, nil
		}
	}
}

// lastMade tells whether a node was last made under these keys, so that there is nothing to say of changes.
func (w *world) lastMade(n *graph.Node, k recalled) bool {
	last, ok := w.journal.Last(n.ID)
	return ok && maps.Equal(last.Keys, k.digests())
}

// changes compares keys with those under which a node was last made.
func (w *world) changes(node string, keys []*cas.Key) (changes []change, never bool) {
	last, ok := w.journal.Last(node)
	if !ok || len(last.Keys) == 0 {
		return nil, true
	}
	for _, k := range keys {
		digest := k.Digest().String()
		old, ok := last.Keys[k.Kind()]
		if !ok {
			changes = append(changes, change{k.Kind(), "action", otherVersion(last.Keys, k.Kind()), k.Kind()})
			continue
		}
		if old == digest {
			continue
		}
		was, err := w.key(old)
		if err != nil {
			changes = append(changes, change{Action: k.Kind(), Input: "key", Old: old, New: digest})
			continue
		}
		for _, c := range cas.Diff(was, k) {
			changes = append(changes, change{k.Kind(), c.Name, c.Old, c.New})
		}
	}
	return changes, false
}

// otherVersion finds the kind of which this one is another version.
func otherVersion(keys map[string]string, kind string) string {
	name, _, _ := strings.Cut(kind, "/")
	for _, other := range slices.Sorted(maps.Keys(keys)) {
		if strings.HasPrefix(other, name+"/") {
			return other
		}
	}
	return ""
}

// key reads a key's description back from the store.
func (w *world) key(digest string) (*cas.Key, error) {
	d, err := cas.ParseDigest(digest)
	if err != nil {
		return nil, err
	}
	text, err := w.builder.Store.ReadAll(d)
	if err != nil {
		return nil, err
	}
	return cas.ParseKey(text)
}

// openForReading opens the workspace for commands that only look.
func openForReading(ctx context.Context, s surroundings, o *workspaceFlags) (*world, error) {
	w, err := openWorld(s, o)
	if err != nil {
		return nil, err
	}
	return w, w.read(ctx)
}

// read reads all that there is to look at.
func (w *world) read(ctx context.Context) (err error) {
	if err := w.load(ctx); err != nil {
		return err
	}
	if err := w.readReleases(ctx); err != nil {
		return err
	}
	w.journal, err = run.ReadJournal(w.out("journal"))
	return err
}

// A findingObject is a finding as JSON.
type findingObject struct {
	Node    string   `json:"node"`
	Verdict verdict  `json:"verdict"`
	Changes []change `json:"changes,omitempty"`
	After   []string `json:"after,omitempty"`
	Never   bool     `json:"never_made,omitempty"`
	Error   string   `json:"error,omitempty"`

	Next     string          `json:"next_release,omitempty"` // of packages that come out other than they are published
	Releases []releaseChange `json:"releases,omitempty"`     // of the repository, as far as it is known
}

func (f finding) object() findingObject {
	o := findingObject{Node: f.id, Verdict: f.verdict, Changes: f.changes, After: f.after, Never: f.never, Next: f.next, Releases: f.releases}
	if f.err != nil {
		o.Error = f.err.Error()
	}
	return o
}

// reason is a finding in a few words.
func (f finding) reason() string {
	switch {
	case f.err != nil:
		return f.err.Error()
	case f.verdict == waiting:
		return fmt.Sprintf("on what comes of %s%s", list(f.after, 3), prefixed("; ", f.published()))
	case f.verdict == upToDate:
		return ""
	case len(f.releases) > 0:
		return f.published()
	case f.never:
		return "was never made here"
	case f.failed:
		return "failed when it was last made, as it is now"
	case len(f.changes) == 0:
		return "its result is not in the store any more"
	}
	var inputs []string
	for _, c := range f.changes {
		inputs = append(inputs, c.Input)
	}
	return "changed: " + list(inputs, 3)
}

// list names the first few of many.
func list(words []string, most int) string {
	text := ""
	for i, word := range words {
		switch {
		case i == most:
			return fmt.Sprintf("%s and %d more", text, len(words)-most)
		case i > 0:
			text += ", "
		}
		text += word
	}
	return text
}
