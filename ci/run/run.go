// Package run executes a graph of actions: what is ready runs, at most so many
// at a time, the longest remaining path first; what fails takes its dependents
// with it, and nothing else. It knows nothing of packages or images.
package run

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Node is one action of the graph.
type Node struct {
	ID       string
	Needs    []string      // IDs of nodes that must have succeeded before
	Estimate time.Duration // how long it took last time; orders what is ready
	Do       func(context.Context) (Outcome, error)
}

// An Outcome is what a successful node did.
type Outcome struct {
	Cached  bool   // the result was there already: nothing ran
	Fetched bool   // nor here: it was made by somebody else
	Note    string // for people: "3 packages", "rebuilt, payload equal"
}

// A Status is how a node ended.
type Status string

const (
	Built   Status = "built"
	Cached  Status = "cached"
	Fetched Status = "fetched"
	Failed  Status = "failed"
	Skipped Status = "skipped" // a node that it needs failed or was skipped
	Stopped Status = "stopped" // the run ended while it ran
)

// An Event tells of a node's start (Status empty) or end.
type Event struct {
	Node   string
	Status Status
	Time   time.Time
	Took   time.Duration
	Note   string
	Cause  string // of a skipped node: the node whose failure is the reason
	Err    error
}

// Options say how to run. The zero value runs one node at a time and keeps going after failures.
type Options struct {
	Jobs     int
	FailFast bool        // start nothing more after the first failure
	OnEvent  func(Event) // called from one goroutine at a time
	Clock    func() time.Time
}

// A Summary counts the ends and lists every node's.
type Summary struct {
	Ends  map[string]Event // by node
	Count map[Status]int
}

// ErrFailed is what Run returns when all went on as well as it could, and some nodes failed.
var ErrFailed = errors.New("some nodes failed")

// Run runs all nodes. The error is ErrFailed when nodes failed, the context's
// error when it ended first, and otherwise tells what is wrong with the graph.
func Run(ctx context.Context, nodes []Node, o Options) (Summary, error) {
	p, err := newPlan(nodes)
	if err != nil {
		return Summary{}, err
	}
	r := runner{plan: p, o: o, done: make(chan finished), sum: Summary{Ends: map[string]Event{}, Count: map[Status]int{}}}
	if r.o.Jobs < 1 {
		r.o.Jobs = 1
	}
	if r.o.Clock == nil {
		r.o.Clock = time.Now
	}
	return r.sum, r.run(ctx)
}

type finished struct {
	state   *state
	outcome Outcome
	err     error
}

type runner struct {
	plan    *plan
	o       Options
	done    chan finished
	running int
	stop    bool
	sum     Summary
}

func (r *runner) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			r.stop = true
		}
		for !r.stop && r.running < r.o.Jobs && r.plan.ready.Len() > 0 {
			r.start(ctx, heap.Pop(&r.plan.ready).(*state))
		}
		if r.running == 0 {
			break
		}
		r.finish(ctx, <-r.done)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.sum.Count[Failed] > 0:
		return ErrFailed
	}
	return nil
}

func (r *runner) start(ctx context.Context, s *state) {
	s.began = r.o.Clock()
	r.running++
	r.event(Event{Node: s.node.ID, Time: s.began})
	go func() {
		outcome, err := s.node.Do(ctx)
		r.done <- finished{s, outcome, err}
	}()
}

func (r *runner) finish(ctx context.Context, f finished) {
	r.running--
	now := r.o.Clock()
	e := Event{Node: f.state.node.ID, Status: Built, Time: now, Took: now.Sub(f.state.began), Note: f.outcome.Note, Err: f.err}
	switch {
	case f.err != nil && ctx.Err() != nil:
		e.Status = Stopped
	case f.err != nil:
		e.Status = Failed
	case f.outcome.Fetched:
		e.Status = Fetched
	case f.outcome.Cached:
		e.Status = Cached
	}
	r.end(e)
	switch e.Status {
	case Stopped:
	case Failed:
		r.stop = r.stop || r.o.FailFast
		r.skip(f.state, f.state.node.ID)
	default:
		r.plan.release(f.state)
	}
}

// skip ends everything that waits for s, naming the failure at its root.
func (r *runner) skip(s *state, cause string) {
	for _, d := range s.dependents {
		if _, ended := r.sum.Ends[d.node.ID]; ended {
			continue
		}
		r.end(Event{Node: d.node.ID, Status: Skipped, Time: r.o.Clock(), Cause: cause})
		r.skip(d, cause)
	}
}

func (r *runner) end(e Event) {
	r.sum.Ends[e.Node] = e
	r.sum.Count[e.Status]++
	r.event(e)
}

func (r *runner) event(e Event) {
	if r.o.OnEvent != nil {
		r.o.OnEvent(e)
	}
}

// A plan knows what is ready; it runs nothing.
type plan struct {
	states map[string]*state
	ready  queue
}

type state struct {
	node       Node
	waits      int
	dependents []*state
	path       time.Duration // the longest way to the end of the graph, itself included
	began      time.Time
}

func newPlan(nodes []Node) (*plan, error) {
	p := &plan{states: make(map[string]*state, len(nodes))}
	for _, n := range nodes {
		if p.states[n.ID] != nil {
			return nil, fmt.Errorf("node %s is there twice", n.ID)
		}
		p.states[n.ID] = &state{node: n}
	}
	for _, n := range nodes {
		s := p.states[n.ID]
		for _, need := range n.Needs {
			d := p.states[need]
			if d == nil {
				return nil, fmt.Errorf("node %s needs %s, which is not in the graph", n.ID, need)
			}
			d.dependents = append(d.dependents, s)
			s.waits++
		}
	}
	if err := p.measure(nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if s := p.states[n.ID]; s.waits == 0 {
			heap.Push(&p.ready, s)
		}
	}
	return p, nil
}

// measure walks the graph from its end, so that every node's path is known
// before those that it needs; a node never reached is in a cycle.
func (p *plan) measure(nodes []Node) error {
	left := make(map[*state]int, len(nodes))
	var next []*state
	for _, n := range nodes {
		s := p.states[n.ID]
		if left[s] = len(s.dependents); left[s] == 0 {
			next = append(next, s)
		}
	}
	seen := 0
	for ; len(next) > 0; seen++ {
		s := next[len(next)-1]
		next = next[:len(next)-1]
		for _, d := range s.dependents {
			s.path = max(s.path, d.path)
		}
		s.path += max(s.node.Estimate, time.Millisecond)
		for _, need := range s.node.Needs {
			n := p.states[need]
			if left[n]--; left[n] == 0 {
				next = append(next, n)
			}
		}
	}
	if seen == len(nodes) {
		return nil
	}
	var stuck []string
	for _, n := range nodes {
		if left[p.states[n.ID]] > 0 {
			stuck = append(stuck, n.ID)
		}
	}
	return fmt.Errorf("nodes need each other in a cycle: %v", stuck)
}

func (p *plan) release(s *state) {
	for _, d := range s.dependents {
		if d.waits--; d.waits == 0 {
			heap.Push(&p.ready, d)
		}
	}
}

// queue holds what is ready, the longest path first, then by name.
type queue []*state

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[j].path, q[i].path), cmp.Compare(q[i].node.ID, q[j].node.ID)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*state)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = slices.Delete(*q, len(*q)-1, len(*q))
	return last
}
