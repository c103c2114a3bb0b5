package build

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweep(t *testing.T) {
	b := &Builder{WorkDir: t.TempDir()}
	long := time.Now().Add(-time.Hour)
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
	fresh, old := folder("fresh"), folder("old")
	for _, dir := range []string{held, killed, old} {
		if err := os.Chtimes(dir, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{held: true, killed: false, fresh: true, old: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
}
