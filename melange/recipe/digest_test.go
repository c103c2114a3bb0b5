package recipe

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestDigests holds the digests of the plans of testdata/plans.txtar. When it fails, every package is going to be built
// anew: that is right only when the outcome of building can differ, and then digestVersion must change.
func TestDigests(t *testing.T) {
	archive, err := txtar.ParseFile(plansGolden)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/digests.txt"
	var got strings.Builder
	fmt.Fprintln(&got, digestVersion)
	for _, s := range stories(t, archive) {
		d := s.plan(t).Digests()
		fmt.Fprintf(&got, "%s\n  build   %s\n  package %s\n  test    %s\n", s.name, d.Build, d.Package, d.Test)
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

const edited = `package:
  name: x
  version: 1.2
  epoch: 0
  description: words
  dependencies:
    runtime: [a, b]
environment:
  contents:
    packages: [make, busybox]
vars:
  flag: -k
pipeline:
  - name: Make
    runs: make ${{vars.flag}}
subpackages:
  - name: x-dev
    pipeline:
      - uses: split/dev
test:
  pipeline:
    - runs: x --version
update:
  enabled: true
`

// TestDigestOf says what an edit touches: b build, p package metadata, t test.
func TestDigestOf(t *testing.T) {
	edits := []struct{ name, old, new, touches string }{
		{"nothing", "", "", ""},
		{"comment", "package:\n", "# why\npackage: # here\n", ""},
		{"layout", "packages: [make, busybox]", "packages:\n      - \"make\"\n      - 'busybox'", ""},
		{"order of packages", "[make, busybox]", "[busybox, make]", ""},
		{"order of dependencies", "[a, b]", "[b, a]", ""},
		{"update", "enabled: true", "enabled: false", ""},
		{"name of a step", "name: Make", "name: Compile", ""},
		{"variable written out", "${{vars.flag}}", "-k", ""},
		{"resources", "  epoch: 0\n", "  epoch: 0\n  resources: {cpu: 4}\n", ""},
		{"step", "make ${{vars.flag}}", "make all", "b"},
		{"variable", "flag: -k", "flag: -s", "b"},
		{"environment package", "[make,", "[cmake,", "b"},
		{"environment variable", "vars:\n", "  environment: {A: b}\nvars:\n", "bt"},
		{"epoch", "epoch: 0", "epoch: 1", "p"},
		{"description", "words", "other words", "p"},
		{"dependency", "[a, b]", "[a]", "p"},
		{"test", "--version", "--help", "t"},
		{"source", "pipeline:\n  - name", "pipeline:\n  - uses: fetch\n    with: {uri: https://example.org/x, expected-sha256: " +
			strings.Repeat("0", 64) + "}\n  - name", "b"},
		{"subpackage", "name: x-dev", "name: x-devel", "bp"},
	}
	base := story{name: "x", recipe: []byte(edited)}.plan(t).Digests()
	for _, e := range edits {
		text := edited
		if e.old != "" {
			text = strings.Replace(edited, e.old, e.new, 1)
			if text == edited {
				t.Fatalf("%s: edits nothing", e.name)
			}
		}
		d := story{name: "x", recipe: []byte(text)}.plan(t).Digests()
		got := ""
		if d.Build != base.Build {
			got += "b"
		}
		if d.Package != base.Package {
			got += "p"
		}
		if d.Test != base.Test {
			got += "t"
		}
		if got != e.touches {
			t.Errorf("%s touches %q, want %q", e.name, got, e.touches)
		}
	}
}
