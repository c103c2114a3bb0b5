package upstream

import (
	"testing"

	"distro.internal/melange/recipe"
)

func TestVersion(t *testing.T) {
	for _, c := range []struct{ update, name, version, why string }{
		{"git: {}", "1.2.3", "1.2.3", ""},
		{"git: {}", "v1.2.3", "1.2.3", ""},
		{"git: {strip-prefix: v}", "v1.2.3", "1.2.3", ""},
		{"git: {strip-prefix: release-, strip-suffix: -final}", "release-1.2-final", "1.2", ""},
		{"git: {strip-prefix: curl-}\nversion-separator: _", "curl-8_15_0", "8.15.0", ""},
		{"github: {identifier: a/b}\nversion-transform: [{match: '^(.+)-(\\d+)$', replace: $1.$2}]", "1.7-3", "1.7.3", ""},
		{"github: {identifier: a/b, tag-filter: v}", "1.2", "", otherName},
		{"github: {identifier: a/b, tag-filter-prefix: lib/, strip-prefix: lib/v}", "lib/v1.2", "1.2", ""},
		{"github: {identifier: a/b, tag-filter-contains: -lts}", "1.2", "", otherName},
		{"git: {}\nignore-regex-patterns: ['^2\\.']", "v2.1", "", ignoredName},
		{"git: {}\nignore-regex-patterns: [^lg3d-]", "lg3d-1", "", ignoredName},
		{"git: {}", "1.2.3-rc1", "", prerelease},
		{"git: {}", "1.2.3b2", "", prerelease},
		{"git: {}", "v1.0.0-beta.55", "", prerelease},
		{"git: {}\nenable-prerelease-tags: true", "v1.0.0-beta.55", "1.0.0_beta55", ""},
		{"git: {}\nenable-prerelease-tags: true", "1.2.3rc1", "1.2.3_rc1", ""},
		{"git: {}\nenable-prerelease-tags: true", "nightly", "", noVersion},
		{"git: {}", "source-1.2", "", noVersion},
		{"git: {}", "1.1.1w", "1.1.1w", ""},
		{"git: {}", "1.2-r3", "", noVersion},
	} {
		r, err := recipe.Parse("a.yaml", []byte("package: {name: a, version: 1}\nupdate:\n  "+indented(c.update)), recipe.ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		rules, err := rulesOf(r.Update)
		if err != nil {
			t.Fatal(err)
		}
		if u := r.Update; u.GitHub != nil {
			rules = rules.filter(u.GitHub.TagFilter, u.GitHub.OldFilter)
		} else {
			rules = rules.filter(*u.Git, u.ExcludeReason)
		}
		if v, why := rules.version(c.name); string(v) != c.version || why != c.why {
			t.Errorf("%s with %s: %q %q, want %q %q", c.name, c.update, v, why, c.version, c.why)
		}
	}
}

func indented(text string) string {
	var out []byte
	for _, c := range []byte(text) {
		if out = append(out, c); c == '\n' {
			out = append(out, "  "...)
		}
	}
	return string(out)
}
