package recipe

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestLibrary(t *testing.T) {
	own := fstest.MapFS{
		"strip.yaml":       {Data: []byte("pipeline: [{runs: own}]\n")},
		"broken.yaml":      {Data: []byte("inputs: {who: {}}\npipeline:\n  - runs: echo ${{inputs.hwo}}\n")},
		"syntax.yaml":      {Data: []byte("pipeline: [\n")},
		"both.yaml":        {Data: []byte("pipeline:\n  - uses: strip\n    runs: make\n")},
		"circle.yaml":      {Data: []byte("pipeline: [{uses: a/round}]\n")},
		"a/round.yaml":     {Data: []byte("pipeline: [{uses: circle}]\n")},
		"source.yaml":      {Data: []byte("pipeline:\n  - source: svn\n")},
		"source-with.yaml": {Data: []byte("pipeline:\n  - source: gomod\n    with: {dir: x}\n")},
		"wrapper.yaml": {Data: []byte(`
inputs: {commit: {}}
pipeline: [{source: git, with: {repository: https://example.org/x, commit: "${{inputs.commit}}"}}]
`)},
		"documentation.md": {Data: []byte("not a pipeline")},
	}
	library := NewLibrary(own, fstest.MapFS{
		"strip.yaml": {Data: []byte("pipeline: [{runs: built-in}]\n")},
		"other.yaml": {Data: []byte("pipeline: [{runs: built-in}]\n")},
	})
	if got := strings.Join(library.Names(), " "); got != "a/round both broken circle other source source-with strip syntax wrapper" {
		t.Errorf("names: %s", got)
	}
	for _, test := range []struct{ uses, want string }{
		{"strip", "own"},
		{"other", "built-in"},
		{"broken", `pipelines/broken.yaml:3:16: unknown variable "inputs.hwo" (did you mean "inputs.who"?)`},
		{"syntax", `pipelines/syntax.yaml:1:11: did not find expected node content`},
		{"both", `pipelines/both.yaml:3:11: a step has either uses or runs, not both`},
		{"circle", `pipelines/a/round.yaml:1:19: pipeline circle uses itself: circle -> a/round -> circle`},
		{"documentation", `x.yaml:2:19: unknown pipeline "documentation" (a folder that has it is named by --pipeline-dir, for world under pipelines: in its configuration)`},
		{"source", `pipelines/source.yaml:2:13: unknown kind of source "svn"`},
		{"source-with", `pipelines/source-with.yaml:3:12: a gomod source has no "dir"`},
		{"wrapper, with: {commit: abc}", `x.yaml:2:43: a commit is 40 hexadecimal digits, found "abc"`},
		{"wrapper, with: {commit: " + strings.Repeat("0a", 20) + "}", ""},
	} {
		// Twice, for what was read is remembered.
		for range 2 {
			p, err := planText("package: {name: x, version: 1}\npipeline: [{uses: "+test.uses+"}]\n", library)
			got := ""
			switch {
			case err != nil:
				got = err.Error()
			case len(p.Steps) > 0:
				got = p.Steps[0].Script
			}
			if got != test.want {
				t.Errorf("%s: %s\nwant %s", test.uses, got, test.want)
			}
		}
	}
}
