package graph

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"distro.internal/ci/record"
)

// TestMemoryCut: a memory that ends too early, though its checksum is right, is as if there were none; one that says
// something else is not the end of the program.
func TestMemoryCut(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lib": "pipeline:\n  - runs: make\nsubpackages:\n  - name: lib-dev\n    dependencies:\n      runtime: [lib]\ntest:\n  pipeline:\n    - runs: lib\n",
		"app": "environment:\n  contents:\n    packages: [lib-dev]\npipeline:\n  - uses: autoconf/configure\n",
	} {
		text = fmt.Sprintf("package:\n  name: %s\n  version: 1\n  epoch: 0\n  description: a package\n%s", name, text)
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{Packages: ".", Images: "images", Archs: []string{"x86_64", "aarch64"}, BuildArch: "x86_64"}
	file := filepath.Join(dir, "memory")
	open := func() (*Memory, *Graph, error) {
		m := OpenMemory(dir, c, file, "program")
		m.Check()
		g, err := m.Load()
		return m, g, err
	}
	m, g, err := open()
	if err != nil {
		t.Fatal(err)
	}
	want := show(g)
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, values, _ := bytes.Cut(whole, []byte(m.identity))
	keep := func(values []byte) {
		w := &record.Writer{}
		w.Bytes(values)
		if err := record.Save(file, m.identity, w); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(values); n += 2 {
		keep(values[:n])
		again, g, err := open()
		if err != nil || show(g) != want || again.Edition() != "" {
			t.Fatalf("cut at %d of %d: %v, edition %q", n, len(values), err, again.Edition())
		}
	}
	for n := 0; n < len(values); n += 3 {
		other := bytes.Clone(values)
		other[n] ^= 0x81
		keep(other)
		open() // it may be believed: the checksum is what tells
	}
}
