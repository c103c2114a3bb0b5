package build

import (
	"bytes"
	"strings"
	"testing"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
)

// TestBillOfModules: a Go module that is a source is named as those are that go.sum names, and once.
func TestBillOfModules(t *testing.T) {
	const sum = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" // of nothing
	w := wares{
		plan: &recipe.Plan{Name: "tool", Version: "1", Arch: "x86_64", Sources: []recipe.Source{
			{Kind: recipe.SourceModule, Module: "example.org/Tool", Version: "v1.2.3", Sum: sum, Directory: "."},
			{Kind: recipe.SourceFetch, URI: "https://example.org/data-1.tar.gz", SHA256: strings.Repeat("0", 64)},
			{Kind: recipe.SourceGoMod, Directory: "."},
		}},
		locked: []source.Package{source.ModulePackage("example.org/lib", "v0.1.0", sum)},
	}
	text := func() string {
		doc, err := bill(w, recipe.Output{Name: "tool"}, Distribution{})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := doc.Encode(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for purl, times := range map[string]int{
		"pkg:golang/example.org/tool@v1.2.3": 1, "pkg:golang/example.org/lib@v0.1.0": 1, "pkg:generic/data-1.tar.gz": 1, "pkg:generic/.": 0,
	} {
		if n := strings.Count(text(), `"`+purl); n != times {
			t.Errorf("%s: %d times, want %d", purl, n, times)
		}
	}
	w.locked = append(w.locked, source.ModulePackage("example.org/Tool", "v1.2.3", sum))
	if n := strings.Count(text(), `"pkg:golang/example.org/tool@`); n != 1 {
		t.Errorf("a module that go.sum names as well is told %d times", n)
	}
}
