package report

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distro.internal/ci/run"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// tell plays a run of four nodes.
func tell(r *Report) {
	for _, e := range []run.Event{
		{Node: "x86_64/a", Time: began},
		{Node: "x86_64/a", Status: run.Built, Time: began, Took: 1500 * time.Millisecond, Note: "2 packages"},
		{Node: "x86_64/b", Status: run.Failed, Time: began, Took: time.Second, Err: errors.New("b.yaml:3:1: step failed\n\nsecond line")},
		{Node: "x86_64/c", Status: run.Skipped, Time: began, Cause: "x86_64/b"},
		{Node: "x86_64/d", Status: run.Cached, Time: began},
	} {
		r.Event(e)
	}
}

func explain(_ string, err error) []string {
	return append(strings.Split(err.Error(), "\n"), "log: l")
}

func why(node string) string {
	if node == "x86_64/a" {
		return "changed: plan"
	}
	return ""
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	r := New(Config{Out: &b, Total: 4, Explain: explain, Why: why})
	tell(r)
	r.Close()
	want := `[1/4] built   x86_64/a                        1.5s  2 packages  (changed: plan)
[2/4] failed  x86_64/b                        1.0s
    b.yaml:3:1: step failed
    second line
    log: l
[3/4] skipped x86_64/c                       0.00s  because x86_64/b failed
`
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	r := New(Config{Out: &b, Total: 4})
	tell(r)
	b.Reset()
	r.Summary()
	r.Close()
	if !strings.HasPrefix(b.String(), "1 built, 1 cached, 1 failed, 1 skipped in ") {
		t.Errorf("printed %q", b.String())
	}
	b.Reset()
	r = New(Config{Out: &b, Total: 1})
	r.Event(run.Event{Node: "x86_64/d", Status: run.Cached})
	r.Summary()
	r.Close()
	if !strings.HasPrefix(b.String(), "nothing to do: 1 nodes are up to date (") {
		t.Errorf("printed %q", b.String())
	}
}

// TestPage: the page tells what the lines tell, and nothing that a step printed becomes part of it.
func TestPage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	c := Config{
		Out: io.Discard, Total: 4, Why: why, Page: file,
		Explain: func(string, error) []string { return []string{"<script>alert(1)</script>"} },
		Log:     func(node string) string { return "logs/" + node + ".log" },
	}
	r := New(c)
	tell(r)
	if err := r.Summary(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<title>1 built, 1 cached, 1 failed, 1 skipped</title>", "; 1 up to date</p>",
		`<a href="logs/x86_64/a.log">x86_64/a</a><td><b>built</b><td class="n">1.5s<td>2 packages <i>changed: plan</i><div class="bar"`,
		`<tr class="failed">`, "<pre>&lt;script&gt;alert(1)&lt;/script&gt;\n</pre>", "because x86_64/b failed",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "x86_64/d") {
		t.Error("what was up to date is listed")
	}

	// A run with nothing to do leaves the page of the one before.
	r = New(c)
	r.Event(run.Event{Node: "x86_64/d", Status: run.Cached})
	if err := r.Summary(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, text) {
		t.Errorf("the page is another: %v", err)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	r := New(Config{Out: &b, JSON: true, Total: 4})
	tell(r)
	r.Say("done %d", 1)
	r.Close()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{
		`{"event":"start","node":"x86_64/a","time":"2026-01-02T03:04:05Z"}`,
		`{"event":"end","node":"x86_64/a","status":"built","time":"2026-01-02T03:04:05Z","seconds":1.5,"note":"2 packages"}`,
		`{"event":"end","node":"x86_64/b","status":"failed","time":"2026-01-02T03:04:05Z","seconds":1,"error":"b.yaml:3:1: step failed\n\nsecond line"}`,
		`{"event":"end","node":"x86_64/c","status":"skipped","time":"2026-01-02T03:04:05Z","cause":"x86_64/b"}`,
		`{"event":"end","node":"x86_64/d","status":"cached","time":"2026-01-02T03:04:05Z"}`,
		`{"event":"message","text":"done 1"}`,
	} {
		if i >= len(lines) || lines[i] != want {
			t.Fatalf("line %d of\n%s\nwant %s", i, b.String(), want)
		}
	}
}

func TestLive(t *testing.T) {
	r := New(Config{Out: &bytes.Buffer{}, Total: 3})
	defer r.Close()
	now := time.Now()
	r.Event(run.Event{Node: "b", Time: now})
	r.Event(run.Event{Node: "a", Time: now.Add(-time.Minute)})
	r.Doing("a", "step 2 of 3: make")
	r.Fetching("https://example.org/x/musl.tar.gz", 512, 2048)
	r.Fetching("https://example.org/done", 7, 7)
	lines := r.live()
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "0 of 3 done, 2 running") ||
		!strings.HasPrefix(lines[1], "  a  ") || !strings.HasSuffix(lines[1], "step 2 of 3: make") ||
		!strings.HasPrefix(lines[2], "  b  ") || lines[3] != "  fetching musl.tar.gz  512 B of 2.0 KiB" {
		t.Errorf("shows %q", lines)
	}
}
