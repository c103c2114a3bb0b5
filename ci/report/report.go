// Package report shows a run to people and to programs: lines and a live view,
// or JSON, and a page to look at later, all from the same events. It decides
// nothing.
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
	Why     func(node string) string // what made a node run, in a few words; may be nil
	Page    string                   // file for an HTML page of the run; none when empty
	Log     func(node string) string // a node's log relative to the page, "" for none; may be nil
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
	ends    []end
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
	if e.Status == "" {
		r.mu.Lock()
		r.running[e.Node] = e.Time
		r.mu.Unlock()
		if r.c.JSON {
			r.json(end{Event: e})
		}
		return
	}
	ended := end{Event: e, Why: r.why(e), Story: r.story(e)}
	r.mu.Lock()
	ended.Began = r.running[e.Node]
	delete(r.running, e.Node)
	delete(r.doing, e.Node)
	r.ends = append(r.ends, ended)
	r.count[e.Status]++
	number := len(r.ends)
	r.mu.Unlock()
	switch {
	case r.c.JSON:
		r.json(ended)
	case e.Status != run.Cached || r.c.Verbose:
		r.console.Println(r.line(ended, number))
		for _, line := range ended.Story {
			r.console.Println("    " + line)
		}
	}
}

// why tells of a node that ran what made it run.
func (r *Report) why(e run.Event) string {
	if r.c.Why == nil || e.Status != run.Built && e.Status != run.Failed {
		return ""
	}
	return r.c.Why(e.Node)
}

// story tells of a failure, in lines that are not empty.
func (r *Report) story(e run.Event) []string {
	if e.Status != run.Failed {
		return nil
	}
	lines := []string{e.Err.Error()}
	if r.c.Explain != nil {
		lines = r.c.Explain(e.Node, e.Err)
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \n")
	}
	return slices.DeleteFunc(lines, func(line string) bool { return line == "" })
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

func (r *Report) line(e end, number int) string {
	width := len(fmt.Sprint(r.c.Total))
	line := fmt.Sprintf("[%*d/%d] %-7s %-28s %7s", width, number, r.c.Total, e.Status, e.Node, console.Duration(e.Took))
	switch {
	case e.Cause != "":
		line += "  because " + e.Cause + " failed"
	case e.Note != "":
		line += "  " + e.Note
	}
	if e.Why != "" {
		line += "  (" + e.Why + ")"
	}
	return line
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
	lines := []string{fmt.Sprintf("%d of %d done, %d running, %s", len(r.ends), r.c.Total, len(nodes), console.Duration(now.Sub(r.began)))}
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

// Summary is the last word: counts and time. The error is the page's.
func (r *Report) Summary() error {
	r.mu.Lock()
	counts, took := r.counts(), time.Since(r.began)
	r.mu.Unlock()
	switch {
	case r.c.JSON:
		r.object(summary{Event: "summary", Count: r.count, Seconds: took.Seconds()})
	case r.count[run.Cached] == r.c.Total:
		r.console.Println(fmt.Sprintf("nothing to do: %d nodes are up to date (%s)", r.c.Total, console.Duration(took)))
	default:
		r.console.Println(fmt.Sprintf("%s in %s", counts, console.Duration(took)))
	}
	if err := r.writePage(took); err != nil {
		return fmt.Errorf("writing the page of the run: %w", err)
	}
	return nil
}

func (r *Report) counts() string {
	var parts []string
	for _, s := range []run.Status{run.Built, run.Fetched, run.Cached, run.Failed, run.Skipped, run.Stopped} {
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
	Why     string     `json:"why,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Error   string     `json:"error,omitempty"`
}

func (r *Report) json(e end) {
	o := event{Event: "start", Node: e.Node, Status: e.Status, Time: e.Time.UTC(), Seconds: e.Took.Seconds(), Note: e.Note, Why: e.Why, Cause: e.Cause}
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
