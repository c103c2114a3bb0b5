package eviction

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// shelf is a store of files and folders, described by lines "name size hours-unused"; a name with a slash at its end is a
// folder's.
func shelf(t *testing.T, text string) (Store, []Item) {
	t.Helper()
	dir := t.TempDir()
	var mu sync.Mutex
	s := Store{Aside: filepath.Join(dir, "aside"), Lock: func() (func(), error) { mu.Lock(); return mu.Unlock, nil }}
	var names []string
	for line := range strings.Lines(text) {
		word := strings.Fields(line)
		folder := strings.HasSuffix(word[0], "/")
		name := filepath.Join(dir, word[0])
		size, err := strconv.Atoi(word[1])
		must(t, err)
		unused, err := time.ParseDuration(word[2] + "h")
		must(t, err)
		file := name
		if folder {
			file = filepath.Join(name, "below", "file")
		}
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, make([]byte, size), 0o644))
		then := time.Now().Add(-unused)
		must(t, os.Chtimes(name, then, then))
		names = append(names, name)
	}
	items, err := List(append(names, filepath.Join(dir, "nothing")), false)
	must(t, err)
	return s, items
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func left(items []Item) string {
	var names []string
	for _, i := range items {
		if _, err := os.Lstat(i.Name); err == nil {
			names = append(names, filepath.Base(i.Name))
		}
	}
	return strings.Join(names, " ")
}

func TestEvict(t *testing.T) {
	const things = "fresh 10 0\nhour 10 2\nday/ 20 24\nweek 30 168\n"
	for _, tc := range []struct {
		name   string
		limits Limits
		left   string
		want   Collected
	}{
		{"nothing is asked for", Limits{}, "fresh hour day week", Collected{0, 0, 4, 70}},
		{"age", Limits{Age: 10 * time.Hour}, "fresh hour", Collected{2, 50, 2, 20}},
		{"size", Limits{Bytes: 45}, "fresh hour day", Collected{1, 30, 3, 40}},
		{"both", Limits{Age: 100 * time.Hour, Bytes: 25}, "fresh hour", Collected{2, 50, 2, 20}},
		{"all but what may be in use", Limits{Bytes: 1, Grace: time.Hour}, "fresh", Collected{3, 60, 1, 10}},
	} {
		s, items := shelf(t, things)
		c, err := s.Evict(items, tc.limits)
		if err != nil || c != tc.want || left(items) != tc.left {
			t.Errorf("%s: %+v, %v; left are %q", tc.name, c, err, left(items))
		}
		if rest, err := os.ReadDir(s.Aside); err == nil && len(rest) > 0 {
			t.Errorf("%s: half removed is %v", tc.name, rest)
		}
	}
}

// TestUsedMeanwhile: what was used after it was listed stays, and what others removed is not left.
func TestUsedMeanwhile(t *testing.T) {
	s, items := shelf(t, "used/ 10 24\ngone 10 24\nold 10 24\n")
	must(t, os.Chtimes(items[0].Name, time.Time{}, time.Now()))
	must(t, os.Remove(items[1].Name))
	c, err := s.Evict(items, Limits{Age: time.Hour})
	if err != nil || (c != Collected{2, 20, 1, 10}) || left(items) != "used" {
		t.Errorf("%+v, %v; left are %q", c, err, left(items))
	}
}

// TestPartial: what died in the making goes when nobody can be at it any more, and so does what was being removed.
func TestPartial(t *testing.T) {
	s, items := shelf(t, "aside/gone-half/ 10 24\naside/making 10 0\n")
	for i := range items {
		items[i].Partial = true
	}
	c, err := s.Evict(items, Limits{Grace: time.Hour})
	if err != nil || (c != Collected{1, 10, 1, 10}) || left(items) != "making" {
		t.Errorf("%+v, %v; left are %q", c, err, left(items))
	}
}

func TestLocked(t *testing.T) {
	s, items := shelf(t, "old 10 24\n")
	refused := errors.New("somebody else's store")
	s.Lock = func() (func(), error) { return nil, refused }
	if _, err := s.Evict(items, Limits{Age: time.Hour}); !errors.Is(err, refused) || left(items) != "old" {
		t.Errorf("got %v; left are %q", err, left(items))
	}
}

func TestDiscard(t *testing.T) {
	s, items := shelf(t, "broken/ 10 0\n")
	for range 2 {
		must(t, s.Discard(items[0].Name))
		if _, err := os.Lstat(items[0].Name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is there: %v", err)
		}
	}
}
