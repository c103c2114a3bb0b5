package repository

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

// TestReleases publishes one state after another. What clients may have is what is there, and of what is not there any
// more the highest version.
func TestReleases(t *testing.T) {
	r := &Repository{Dir: t.TempDir(), Keep: 2}
	if all, err := r.Releases(); err != nil || len(all) > 0 {
		t.Fatalf("of nothing: %v, %v", all, err)
	}
	state := func(packages ...string) func() error {
		return func() error {
			c := Change{Replace: true, Add: map[apk.Arch][]Addition{}}
			for _, p := range packages {
				arch, p, _ := strings.Cut(p, "/")
				name, version, _ := strings.Cut(p, " ")
				c.Add[apk.Arch(arch)] = append(c.Add[apk.Arch(arch)], add(t, name, version, apk.Arch(arch), version))
			}
			_, err := r.Publish(t.Context(), c)
			return err
		}
	}
	back := func(n int) func() error {
		return func() error { _, err := r.Rollback(t.Context(), n); return err }
	}
	for i, step := range []struct {
		do   func() error
		want string
	}{
		{state("x86_64/a 1-r0", "x86_64/b 1-r0", "aarch64/a 1-r0"), "aarch64/a 1-r0, x86_64/a 1-r0, x86_64/b 1-r0"},
		{state("x86_64/a 1-r1", "x86_64/b 1-r0", "aarch64/a 1-r0"), "aarch64/a 1-r0, x86_64/a 1-r1, x86_64/b 1-r0"},
		{back(1), "aarch64/a 1-r0, x86_64/a 1-r0 1-r1, x86_64/b 1-r0"},
		{state("x86_64/a 1-r0", "aarch64/a 1-r0"), "aarch64/a 1-r0, x86_64/a 1-r0 1-r1, x86_64/b 1-r0"},
		{state("x86_64/a 1-r0"), "aarch64/a 1-r0, x86_64/a 1-r0 1-r1, x86_64/b 1-r0"},
		{state("x86_64/a 1-r2"), "aarch64/a 1-r0, x86_64/a 1-r2, x86_64/b 1-r0"}, // generations are gone in which these were
		{state("x86_64/a 0-r9", "x86_64/b 2-r0"), "aarch64/a 1-r0, x86_64/a 0-r9 1-r2, x86_64/b 2-r0"},
		{state("x86_64/a 1-r2", "aarch64/a 1-r0"), "aarch64/a 1-r0, x86_64/a 1-r2, x86_64/b 2-r0"},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		all, err := r.Releases()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, arch := range slices.Sorted(maps.Keys(all)) {
			for _, name := range slices.Sorted(maps.Keys(all[arch])) {
				line := fmt.Sprintf("%s/%s", arch, name)
				for _, x := range all[arch][name] {
					line += " " + string(x.Version)
					if p := add(t, name, string(x.Version), arch, string(x.Version)).Package; !x.Is(p) {
						t.Errorf("step %d: %s %s is not what was published", i, name, x.Version)
					}
				}
				got = append(got, line)
			}
		}
		if text := strings.Join(got, ", "); text != step.want {
			t.Errorf("step %d: %s, want %s", i, text, step.want)
		}
	}
}
