package main

import (
	"encoding/json"
	"strings"
	"testing"

	"distro.internal/melange/compat"
	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
)

const whole = `
package:
  name: x
  version: 1
  dependencies: {runtime: [a], provides: [b=1], replaces: [c]}
  scriptlets: {post-install: "true"}
  resources: {cpu: 2}
environment: {contents: {packages: [make]}, environment: {CC: cc}}
pipeline:
  - uses: strip
    with: {opts: -x}
  - {name: Make, working-directory: src, environment: {V: "1"}, runs: make}
  - pipeline: [{runs: make check}]
subpackages:
  - {name: x-dev, pipeline: [{uses: split/dev}], dependencies: {runtime: [x]}}
  - {name: x-doc, test: {pipeline: [{runs: man x}]}}
test:
  environment: {contents: {packages: [bash]}}
  pipeline: [{runs: x}]
`

func configuration(t *testing.T) *compat.Configuration {
	r, err := recipe.Parse("x.yaml", []byte(whole), recipe.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Plan(recipe.PlanOptions{Arch: "x86_64", Library: recipe.NewLibrary(pipelines.Files)})
	if err != nil {
		t.Fatal(err)
	}
	printed, err := json.Marshal(compat.Of(p))
	if err != nil {
		t.Fatal(err)
	}
	var c compat.Configuration
	if err := json.Unmarshal(printed, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestCompare: what is printed and read again has no difference, and any one thing that is changed in it is found, alone.
func TestCompare(t *testing.T) {
	for _, c := range []struct {
		class  string // empty when there is to be none
		change func(*compat.Configuration)
	}{
		{"", func(*compat.Configuration) {}},
		{"", func(c *compat.Configuration) {
			c.Pipeline = append(c.Pipeline, compat.Step{If: `"a" == "b"`, Runs: "never"})
		}},
		{"", func(c *compat.Configuration) {
			c.Environment.Contents.Packages = []string{"busybox", "make", "busybox"}
		}},
		{"step", func(c *compat.Configuration) {
			c.Pipeline = append(c.Pipeline, compat.Step{If: `"a" == "a"`, Runs: "also"})
		}},
		{"step", func(c *compat.Configuration) { c.Pipeline = c.Pipeline[:2] }},
		{"step", func(c *compat.Configuration) { c.Pipeline[0].Uses = "split/dev" }},
		{"input of strip", func(c *compat.Configuration) { c.Pipeline[0].With["opts"] = "-g" }},
		{"script", func(c *compat.Configuration) { c.Pipeline[2].Pipeline[0].Runs = "make test\n" }},
		{"name of a step", func(c *compat.Configuration) { c.Pipeline[1].Name = "" }},
		{"folder of a step", func(c *compat.Configuration) { c.Pipeline[1].WorkDir = "" }},
		{"variable of a step", func(c *compat.Configuration) { c.Pipeline[1].Environment["V"] = "" }},
		{"name and version", func(c *compat.Configuration) { c.Package.Epoch++ }},
		{"runtime dependency", func(c *compat.Configuration) { c.Subpackages[0].Dependencies.Runtime = []string{"x", "y"} }},
		{"provided name", func(c *compat.Configuration) { c.Package.Dependencies.Provides = nil }},
		{"scriptlet", func(c *compat.Configuration) { c.Package.Scriptlets = nil }},
		{"resources", func(c *compat.Configuration) { c.Package.Resources.CPU = "3" }},
		{"environment package", func(c *compat.Configuration) { c.Environment.Contents.Packages = []string{"make", "busybox", "perl"} }},
		{"package for strip", func(c *compat.Configuration) {
			c.Environment.Contents.Packages = []string{"make", "busybox", "binutils"}
		}},
		{"environment variable", func(c *compat.Configuration) { c.Test.Environment.Environment = map[string]string{"CC": "gcc"} }},
		{"environment package", func(c *compat.Configuration) { c.Test.Environment.Contents.Packages = []string{"x"} }},
		{"test", func(c *compat.Configuration) { c.Subpackages[1].Test = nil }},
		{"subpackage", func(c *compat.Configuration) { c.Subpackages = c.Subpackages[:1] }},
		{"subpackage with an if", func(c *compat.Configuration) {
			c.Subpackages = append(c.Subpackages, compat.Subpackage{If: "${{build.arch}} == 'x'", Name: "x-none"})
		}},
		{"order of subpackages", func(c *compat.Configuration) {
			c.Subpackages[0], c.Subpackages[1] = c.Subpackages[1], c.Subpackages[0]
		}},
	} {
		found := comparison{builtin: func(name string) bool { return name == "strip" || name == "split/dev" }}
		theirs := configuration(t)
		c.change(theirs)
		found.at = difference{recipe: "x.yaml for x86_64", where: "x"}
		found.configuration(configuration(t), theirs)
		var classes []string
		for _, d := range found.found {
			classes = append(classes, classOf(d))
		}
		if got := strings.Join(classes, ", "); got != c.class {
			t.Errorf("want %q, found %q: %v", c.class, got, found.found)
		}
	}
}

// TestKnown: no class of differences is explained that none can be of.
func TestKnown(t *testing.T) {
	for class, reason := range known {
		if reason == "" {
			t.Errorf("%s: nobody knows why", class)
		}
	}
	for pipeline := range without {
		if _, ok := known["package for "+pipeline]; !ok {
			t.Errorf("why %s does without packages is not said", pipeline)
		}
	}
}
