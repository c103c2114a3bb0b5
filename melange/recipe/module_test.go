package recipe

import (
	"strings"
	"testing"
	"testing/fstest"
)

// TestModules: a module is looked for beside what names it, and known by its content.
func TestModules(t *testing.T) {
	own, beside := "\x00asm\x01\x00\x00\x00own", "\x00asm\x01\x00\x00\x00beside"
	files := fstest.MapFS{
		"x/steps/my.wasm":    {Data: []byte(own)},
		"x/text.wasm":        {Data: []byte("text")},
		"team/sort/my.wasm":  {Data: []byte(beside)},
		"team/sort/all.yaml": {Data: []byte("inputs:\n  dir: {default: .}\npipeline:\n  - wasm: ./my.wasm\n    with: {dir: \"${{inputs.dir}}\"}\n")},
	}
	plan := func(files fstest.MapFS, steps string) (*Plan, error) {
		r, err := Parse("x.yaml", []byte("package: {name: x, version: 1}\npipeline:\n"+steps), ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Plan(PlanOptions{Arch: "x86_64", Dir: files, Library: NewLibrary(files)})
	}
	const both = "  - wasm: ./steps/my.wasm\n  - uses: team/sort/all\n    with: {dir: '${{package.name}}'}\n"
	p, err := plan(files, both)
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Steps[0].Module; string(m.Data) != own || !strings.HasPrefix(m.Identity, "sha256:") {
		t.Errorf("the recipe's own module: %q, %s", m.Data, m.Identity)
	}
	if m := p.Steps[1].Module; string(m.Data) != beside || m.With["dir"] != "x" {
		t.Errorf("the module beside a pipeline: %q with %v", m.Data, m.With)
	}

	files["team/sort/my.wasm"] = &fstest.MapFile{Data: []byte(beside + ".")}
	again, err := plan(files, both)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digests().Build == again.Digests().Build {
		t.Error("another module, and the same digest")
	}
	delete(files, "team/sort/my.wasm")
	for steps, want := range map[string]string{
		"  - uses: team/sort/all\n": "pipelines/team/sort/all.yaml:4:11: there is no my.wasm beside the pipeline team/sort/all",
		"  - wasm: ./text.wasm\n":   "x.yaml:3:11: ./text.wasm is not a WebAssembly module",
	} {
		if _, err := plan(files, steps); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", steps, err, want)
		}
	}
}
