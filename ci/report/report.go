// Package report shows a run to people and to programs: lines and a live view,
// or JSON, all from the same events. It decides nothing.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"distro.internal/ci/run"
	"distro.internal/shared/console"
)

// Config says for whom the report is.
type Config struct {
	Out     io.Writer
	JSON    bool // one object a line instead of text
	Verbose bool // also nodes that were up to date
	Total   int  // nodes of the run
	// Explain returns a failed node's story: the step, its place, its last
	// lines, its log. Empty lines are dropped.
	Explain func(node string, err error) []string
}

// A Report follows one run.
type Report struct {
	c       Config
	console *console.Console
	began   time.Time

	mu      sync.Mutex
	running map[string]time.Time
	doing   map[string]string
	fetched map[string]fetch
	ended   int
	count   map[run.Status]int
}

// New begins a report; Close ends it.
func New(c Config) *Report {
	r := &Report{c: c, began: time.Now(), running: map[string]time.Time{}, doing: map[string]string{}, fetched: map[string]fetch{}, count: map[run.Status]int{}}
	live := r.live
	if c.JSON {
		live = nil
	}
	r.console = console.New(c.Out, live)
	return r
}

// Close removes the live view.
func (r *Report) Close() { r.console.Close() }

// Event takes what the runner tells.
func (r *Report) Event(e run.Event) {
	r.mu.Lock()
	if e.Status == "" {
		r.running[e.Node] = e.Time
	} else {
		delete(r.running, e.Node)
		delete(r.doing, e.Node)
		r.ended++
		r.count[e.Status]++
	}
	ended := r.ended
	r.mu.Unlock()
	if r.c.JSON {
		r.json(e)
		return
	}
	if e.Status == "" || e.Status == run.Cached && !r.c.Verbose {
		return
	}
	r.console.Println(r.line(e, ended))
	if e.Status == run.Failed {
		r.failure(e)
	}
}

// Doing tells what a running node is at.
func (r *Report) Doing(node, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doing[node] = what
}

// A fetch is how far a file has come, in bytes.
type fetch struct{ done, total int64 }

// Fetching tells how far a file has come; total is -1 when nobody knows.
func (r *Report) Fetching(uri string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if done == total {
		delete(r.fetched, uri)
		return
	}
	r.fetched[uri] = fetch{done, total}
}

// Say prints a line of its own, for what happens around the nodes.
func (r *Report) Say(format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	if r.c.JSON {
		r.object(message{Event: "message", Text: text})
		return
	}
	r.console.Println(text)
}

func (r *Report) line(e run.Event, ended int) string {
	width := len(fmt.Sprint(r.c.Total))
	line := fmt.Sprintf("[%*d/%d] %-7s %-28s %7s", width, ended, r.c.Total, e.Status, e.Node, console.Duration(e.Took))
	switch {
	case e.Cause != "":
		line += "  because " + e.Cause + " failed"
	case e.Note != "":
		line += "  " + e.Note
	}
	return line
}

func (r *Report) failure(e run.Event) {
	lines := []string{e.Err.Error()}
	if r.c.Explain != nil {
		lines = r.c.Explain(e.Node, e.Err)
	}
	for _, line := range lines {
		if line = strings.TrimRight(line, " \n"); line != "" {
			r.console.Println("    " + line)
		}
	}
}

// live shows what runs, the longest first.
func (r *Report) live() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.running) == 0 {
		return nil
	}
	type at struct {
		node string
		time time.Time
	}
	var nodes []at
	for n, t := range r.running {
		nodes = append(nodes, at{n, t})
	}
	slices.SortFunc(nodes, func(a, b at) int {
		if c := a.time.Compare(b.time); c != 0 {
			return c
		}
		return strings.Compare(a.node, b.node)
	})
	now := time.Now()
	lines := []string{fmt.Sprintf("%d of %d done, %d running, %s", r.ended, r.c.Total, len(nodes), console.Duration(now.Sub(r.began)))}
	for _, n := range nodes {
		lines = append(lines, fmt.Sprintf("  %-28s %7s  %s", n.node, console.Duration(now.Sub(n.time)), r.doing[n.node]))
	}
	for _, uri := range slices.Sorted(maps.Keys(r.fetched)) {
		f := r.fetched[uri]
		far := console.Bytes(f.done)
		if f.total >= 0 {
			far += " of " + console.Bytes(f.total)
		}
		lines = append(lines, fmt.Sprintf("  fetching %s  %s", path.Base(uri), far))
	}
	return lines
}

// Summary is the last word: counts and time.
func (r *Report) Summary() {
	r.mu.Lock()
	counts, took := r.counts(), time.Since(r.began)
	r.mu.Unlock()
	if r.c.JSON {
		r.object(summary{Event: "summary", Count: r.count, Seconds: took.Seconds()})
		return
	}
	if r.count[run.Cached] == r.c.Total {
		r.console.Println(fmt.Sprintf("nothing to do: %d nodes are up to date (%s)", r.c.Total, console.Duration(took)))
		return
	}
	r.console.Println(fmt.Sprintf("%s in %s", counts, console.Duration(took)))
}

func (r *Report) counts() string {
	var parts []string
	for _, s := range []run.Status{run.Built, run.Cached, run.Failed, run.Skipped, run.Stopped} {
		if n := r.count[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}

type message struct {
	Event string `json:"event"`
	Text  string `json:"text"`
}

type summary struct {
	Event   string             `json:"event"`
	Count   map[run.Status]int `json:"count"`
	Seconds float64            `json:"seconds"`
}

type event struct {
	Event   string     `json:"event"`
	Node    string     `json:"node"`
	Status  run.Status `json:"status,omitempty"`
	Time    time.Time  `json:"time"`
	Seconds float64    `json:"seconds,omitempty"`
	Note    string     `json:"note,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Error   string     `json:"error,omitempty"`
}

func (r *Report) json(e run.Event) {
	o := event{Event: "start", Node: e.Node, Status: e.Status, Time: e.Time.UTC(), Seconds: e.Took.Seconds(), Note: e.Note, Cause: e.Cause}
	if e.Status != "" {
		o.Event = "end"
	}
	if e.Err != nil {
		o.Error = e.Err.Error()
	}
	r.object(o)
}

func (r *Report) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the types above always encode
	}
	r.console.Println(string(b))
}
