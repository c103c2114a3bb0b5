package convert

import (
	"fmt"
	"strings"
)

// Gem makes a recipe of what a registry of gems says of one: the object that has name, version, sha and dependencies. ruby
// is the version of Ruby that the package is for, such as 3.4.
func Gem(metadata []byte, ruby string) ([]byte, error) {
	var g struct {
		Name         string
		Version      string
		Info         string
		Licenses     []string
		SHA          string
		GemURI       string `json:"gem_uri"`
		HomepageURI  string `json:"homepage_uri"`
		SourceURI    string `json:"source_code_uri"`
		Dependencies struct {
			Runtime []struct{ Name, Requirements string }
		}
	}
	if err := decode(metadata, &g, gemKind); err != nil {
		return nil, err
	}
	if g.Name == "" || g.Version == "" || g.GemURI == "" || len(g.SHA) != 64 {
		return nil, notThat(gemKind)
	}
	d := &draft{
		name: "ruby" + ruby + "-" + g.Name, version: g.Version, epoch: "0",
		description: g.Info, url: g.HomepageURI, licenses: licenseOr(g.Licenses),
		packages:   []string{"build-base", "busybox", "ca-certificates-bundle", "ruby-${{vars.rubyMM}}", "ruby-${{vars.rubyMM}}-dev"},
		vars:       []pair{{"gem", g.Name}},
		transforms: []pair{{"rubyMM", `^ruby(\d\.\d+)-.*`}},
		update:     watched(g.SourceURI, g.HomepageURI),
	}
	for _, dep := range g.Dependencies.Runtime {
		d.depends = append(d.depends, "ruby${{vars.rubyMM}}-"+dep.Name)
		if dep.Requirements != ">= 0" {
			d.notes = append(d.notes, fmt.Sprintf("It says that it needs %s %s.", dep.Name, dep.Requirements))
		}
	}
	d.steps = []step{
		{uses: "fetch", with: []pair{{"uri", versioned(g.GemURI, g.Version)}, {"expected-sha256", g.SHA}, {"extract", "false"}}},
		{uses: "ruby/install", with: []pair{{"gem", "${{vars.gem}}"}, {"version", "${{package.version}}"}}},
		{uses: "ruby/clean"},
	}
	return d.text(), nil
}

const gemKind = "a gem: that has name, version, gem_uri and sha"

// versioned is an address with the version in it as a variable, so that another version changes it.
func versioned(address, version string) string {
	return strings.ReplaceAll(address, version, "${{package.version}}")
}
