package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := Write(name, 0o644, Bytes([]byte("old"))); err != nil {
		t.Fatal(err)
	}
	torn := errors.New("torn")
	for _, write := range []func(io.Writer) error{
		func(w io.Writer) error { io.WriteString(w, "ha"); return torn },
		func(w io.Writer) error { defer io.WriteString(w, "ha"); panic(torn) },
	} {
		func() {
			defer func() { recover() }()
			if err := WriteSynced(name, 0o600, write); !errors.Is(err, torn) {
				t.Errorf("error is %v", err)
			}
		}()
		if b, err := os.ReadFile(name); string(b) != "old" || err != nil {
			t.Errorf("after a failure it holds %q (%v)", b, err)
		}
	}
	err := WriteSynced(name, 0o600, func(w io.Writer) error {
		if b, _ := os.ReadFile(name); string(b) != "old" {
			t.Errorf("meanwhile others see %q", b)
		}
		return Bytes([]byte("new"))(w)
	})
	if b, _ := os.ReadFile(name); err != nil || string(b) != "new" {
		t.Errorf("it holds %q (%v)", b, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := Write(filepath.Join(dir, "no", "f"), 0o644, Bytes(nil)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into a folder that is not there: %v", err)
	}
}
