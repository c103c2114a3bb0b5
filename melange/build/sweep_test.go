package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweep(t *testing.T) {
	b := &Builder{WorkDir: t.TempDir()}
	folder := func(name string) string {
		dir := filepath.Join(b.WorkDir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	held := folder("held")
	lock, err := hold(held)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	killed := folder("killed")
	let, err := hold(killed)
	if err != nil {
		t.Fatal(err)
	}
	let.Close()
	unmarked := folder("unmarked") // of a run that was killed at a bad moment
	if err := b.Sweep(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{held: true, killed: false, unmarked: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
}

// TestKeptAreFew: of kept workspaces the oldest go, and those that are too old, unless somebody is in one.
func TestKeptAreFew(t *testing.T) {
	b := &Builder{WorkDir: t.TempDir()}
	make := func(name string, age time.Duration) {
		dir := b.keptDir(name)
		record := filepath.Join(dir, keptFile)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(record, nil, 0o644),
			os.Chtimes(record, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		make("x86_64/"+name, time.Duration(i+1)*time.Hour)
	}
	busy, err := hold(b.keptDir("x86_64/f"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		age  time.Duration
		want string
	}{{0, "[x86_64/a x86_64/b x86_64/c x86_64/d x86_64/f]"}, {150 * time.Minute, "[x86_64/a x86_64/b x86_64/f]"}} {
		if err := b.Sweep(t.Context(), c.age); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(b.Kept()); got != c.want {
			t.Errorf("after %v: %s, want %s", c.age, got, c.want)
		}
	}
}
