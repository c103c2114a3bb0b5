package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world runs a graph written as "node[!][=seconds]: needs...", a line each; a
// "!" makes a node fail. It returns the order of ends.
func world(t *testing.T, text string, o Options) (ends []string, err error) {
	t.Helper()
	var nodes []Node
	for line := range strings.Lines(text) {
		id, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		n := Node{Needs: strings.Fields(needs)}
		id, seconds, _ := strings.Cut(id, "=")
		if seconds != "" {
			var s int
			fmt.Sscan(seconds, &s)
			n.Estimate = time.Duration(s) * time.Second
		}
		id, fails := strings.CutSuffix(id, "!")
		n.ID = id
		n.Do = func(context.Context) (Outcome, error) {
			if fails {
				return Outcome{}, errors.New("broken")
			}
			return Outcome{}, nil
		}
		nodes = append(nodes, n)
	}
	o.OnEvent = func(e Event) {
		switch e.Status {
		case Built:
			ends = append(ends, e.Node)
		case Failed:
			ends = append(ends, "!"+e.Node)
		case Skipped:
			ends = append(ends, e.Node+"<"+e.Cause)
		}
	}
	_, err = Run(context.Background(), nodes, o)
	return ends, err
}

func TestRun(t *testing.T) {
	for _, c := range []struct{ name, graph, ends, err string }{
		{"needs first", "c: b\nb: a\na:", "a b c", ""},
		{"longest path first", "a=1:\nb=2:\nc=9: a\nd:", "a c b d", ""},
		{"names break ties", "b:\na:\nc:", "a b c", ""},
		{"failure takes its dependents only", "a!:\nb: a\nc: b\nd:", "!a b<a c<a d", "some nodes failed"},
		{"two causes, one end", "a!:\nb!:\nc: a b", "!a c<a !b", "some nodes failed"},
		{"cycle", "a: b\nb: a\nc:", "", "nodes need each other in a cycle: [a b]"},
		{"unknown need", "a: z", "", "node a needs z, which is not in the graph"},
		{"twice", "a:\na:", "", "node a is there twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends, err := world(t, c.graph, Options{})
			if got := strings.Join(ends, " "); got != c.ends {
				t.Errorf("ended %q, want %q", got, c.ends)
			}
			if got := fmt.Sprint(err); c.err != "" && got != c.err || c.err == "" && err != nil {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestFailFast(t *testing.T) {
	ends, err := world(t, "a!=5:\nb:", Options{FailFast: true})
	if !errors.Is(err, ErrFailed) || !slices.Equal(ends, []string{"!a"}) {
		t.Errorf("ended %v with %v", ends, err)
	}
}

// TestJobs sees as many nodes at once as allowed, and never one more.
func TestJobs(t *testing.T) {
	var mu sync.Mutex
	var now, most int
	var nodes []Node
	for i := range 12 {
		nodes = append(nodes, Node{ID: fmt.Sprint(i), Do: func(context.Context) (Outcome, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return Outcome{}, nil
		}})
	}
	if _, err := Run(context.Background(), nodes, Options{Jobs: 3}); err != nil || most != 3 {
		t.Errorf("%d at once, error %v; want 3", most, err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	nodes := []Node{
		{ID: "a", Do: func(ctx context.Context) (Outcome, error) {
			cancel()
			<-ctx.Done()
			return Outcome{}, ctx.Err()
		}},
		{ID: "b", Do: func(context.Context) (Outcome, error) { t.Error("b ran"); return Outcome{}, nil }},
	}
	sum, err := Run(ctx, nodes, Options{})
	if !errors.Is(err, context.Canceled) || sum.Ends["a"].Status != Stopped || len(sum.Ends) != 1 {
		t.Errorf("error %v, ends %v", err, sum.Ends)
	}
}

func TestJournalSurvivesATornLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{
		{Node: "a", Status: Built, Content: "k1", Took: time.Second},
		{Node: "a", Status: Cached, Content: "k2"},
		{Node: "b", Status: Failed, Error: "exit 1"},
		{Node: "b", Status: Skipped},
	} {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	whole, _ := os.ReadFile(file)
	for cut := 1; cut < 40; cut++ {
		if err := os.WriteFile(file, whole[:len(whole)-cut], 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(file)
		if err != nil {
			t.Fatalf("cut by %d: %v", cut, err)
		}
		if err := j.Append(Record{Node: "c", Status: Built}); err != nil {
			t.Fatal(err)
		}
		j.Close()
		j, err = ReadJournal(file)
		if err != nil {
			t.Fatalf("cut by %d, after an append: %v", cut, err)
		}
		a, _ := j.Last("a")
		b, _ := j.Last("b")
		if _, ok := j.Last("c"); !ok || a.Content != "k2" || b.Error != "exit 1" || j.Took("a") != time.Second {
			t.Fatalf("cut by %d: %+v %+v", cut, a, b)
		}
	}
}

func TestJournalNamesDamage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(file, []byte("{\"node\":\"a\"}\nnot a record\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(file); err == nil || !strings.Contains(err.Error(), "at byte 13") {
		t.Errorf("error %v", err)
	}
}

// TestJournalAskedMeanwhile: a node asks how it ended last while another one's end is written down.
func TestJournalAskedMeanwhile(t *testing.T) {
	j, err := OpenJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			for j.Took("n") < 50 {
				j.Last("n")
			}
		})
	}
	for i := range 51 {
		if err := j.Append(Record{Node: "n", Status: Built, Took: time.Duration(i)}); err != nil {
			t.Fatal(err)
		}
	}
	nodes.Wait()
}
