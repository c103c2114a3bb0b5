package recipe

import (
	"testing"
	"testing/fstest"
)

func TestPlanSmall(t *testing.T) {
	r, err := Parse("x.yaml", []byte(`
package: {name: x, version: 1.10, epoch: 2}
vars: {a: "${{vars.b}}-${{package.version}}", b: q}
pipeline:
  - uses: hello
    with: {who: "${{vars.a}}"}
  - if: ${{build.arch}} == 'aarch64'
    runs: echo arm
subpackages:
  - name: x-dev
    if: ${{build.arch}} == 'x86_64'
    pipeline: [{runs: "cd ${{targets.contextdir}}"}]
`), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(PlanOptions{Arch: "x86_64", Pipelines: nil, Library: NewLibrary(fstest.MapFS{"hello.yaml": {Data: []byte(`
inputs: {who: {}}
pipeline: [{runs: "echo ${{inputs.who}}"}]
`)}})})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Steps {
		t.Logf("%+v", s)
	}
	t.Logf("%+v", p.Outputs)
	t.Logf("%+v", p.Digests())
}
