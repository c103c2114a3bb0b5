package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"time"

	"distro.internal/ci/run"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/console"
)

//go:embed page.html
var pageText string

// An end is how a node ended, with all that there is to tell about it.
type end struct {
	run.Event
	Began time.Time // zero when it never ran
	Why   string
	Story []string // of a failure
}

// page is the run as the template takes it.
type page struct {
	Title string
	Began time.Time
	Took  time.Duration
	Busy  float64 // how many nodes ran at a time, on average
	Ends  []pageEnd
	Idle  int // nodes that were up to date, and are not listed
}

type pageEnd struct {
	end
	Left, Width float64 // of the node's bar, in percent of the whole time
	Log         string  // relative to the page
}

// writePage writes the page, unless nothing was to do: then the page of the last run that did something stays.
func (r *Report) writePage(took time.Duration) error {
	r.mu.Lock()
	p := r.page(took)
	r.mu.Unlock()
	if r.c.Page == "" || len(p.Ends) == 0 {
		return nil
	}
	t, err := template.New("page").Funcs(template.FuncMap{"duration": console.Duration}).Parse(pageText)
	if err != nil {
		return err
	}
	return atomicfile.Write(r.c.Page, 0o644, func(w io.Writer) error { return t.Execute(w, p) })
}

// page lays the nodes of the run along its time, in the order in which they ended.
func (r *Report) page(took time.Duration) page {
	p := page{Title: r.counts(), Began: r.began, Took: took}
	var work time.Duration
	for _, e := range r.ends {
		if e.Status == run.Cached {
			p.Idle++
			continue
		}
		item := pageEnd{end: e}
		if !e.Began.IsZero() && took > 0 {
			item.Left = 100 * float64(e.Began.Sub(r.began)) / float64(took)
			item.Width = 100 * float64(e.Took) / float64(took)
			work += e.Took
		}
		if r.c.Log != nil {
			item.Log = r.c.Log(e.Node)
		}
		p.Ends = append(p.Ends, item)
	}
	if took > 0 {
		p.Busy = float64(work) / float64(took)
	}
	return p
}

// Bar is the place of the node's bar. Numbers only, so it may be a style.
func (e pageEnd) Bar() template.CSS {
	return template.CSS(fmt.Sprintf("margin-left:%.2f%%;width:%.2f%%", e.Left, e.Width))
}
