package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestHello(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "bin"), 0o755)
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "bin/probe"), "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	s := &Sandbox{Layers: []string{dir}}
	a, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var out bytes.Buffer
	if err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "echo", "hi"}, Stdout: &out, Stderr: os.Stderr}); err != nil {
		t.Fatal(err)
	}
	if out.String() != "hi\n" {
		t.Fatal(out.String())
	}
}
