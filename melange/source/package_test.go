package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// wantPackages looks at what lock files are said to have named.
func wantPackages(t *testing.T, p Prepared, want ...Package) {
	t.Helper()
	if diff := cmp.Diff(want, p.Layout.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// TestPackages: what is kept of an entry of a lock file, and what is not.
func TestPackages(t *testing.T) {
	sum, commit := strings.Repeat("ab", 32), strings.Repeat("c", 40)
	var l Layout
	for _, p := range []Package{
		npmPackage(recipe.SourceNPM, lockfile.NPMPackage{Name: "x", Version: "1.0.0", Resolved: "https://me:secret@a.example/x.tgz", Algorithm: "sha1", Digest: []byte{1}}),
		yarnPackage(lockfile.YarnPackage{Name: "https://a.example/v", Version: "5", File: "v", Algorithm: "sha1", Digest: []byte{2}}),
		cratePackage(lockfile.Crate{Name: "y", Version: "2", Source: defaultIndex, Checksum: strings.ToUpper(sum)}),
		cratePackage(lockfile.Crate{Name: "y", Version: "2", Source: "sparse+https://me:secret@b.example/", Checksum: sum}),
		cratePackage(lockfile.Crate{Name: "z", Version: "3", Source: "git+https://c.example/z?branch=b#" + commit}),
		pipPackage(lockfile.Requirement{Name: "w", Version: "4"}, []distribution{{Hash: "sha256:bb"}, {Hash: "sha256:aa"}}),
		cratePackage(lockfile.Crate{Name: "y", Version: "2", Source: defaultIndex, Checksum: sum}),
	} {
		l.fetched(p)
	}
	l.settle()
	want := []Package{
		{Kind: recipe.SourceCargo, Name: "y", Version: "2", Digests: []string{"sha256:" + sum}},
		{Kind: recipe.SourceCargo, Name: "y", Version: "2", Registry: "https://b.example/", Digests: []string{"sha256:" + sum}},
		{Kind: recipe.SourceCargo, Name: "z", Version: "3", URI: "https://c.example/z", Commit: commit},
		{Kind: recipe.SourceNPM, Name: "x", Version: "1.0.0", URI: "https://a.example/x.tgz", Digests: []string{"sha1:01"}},
		{Kind: recipe.SourcePip, Name: "w", Version: "4", Digests: []string{"sha256:aa", "sha256:bb"}},
		{Kind: recipe.SourceYarn, Name: "v", Version: "5", Digests: []string{"sha1:02"}},
	}
	wantPackages(t, Prepared{Layout: l}, want...)
	for file, name := range map[string][2]string{
		"shout_it-2.0-py3-none-any.whl": {"shout_it", "2.0"},
		"some-name-1.2.tar.gz":          {"some-name", "1.2"},
		"master.zip":                    {"master.zip", ""},
		"some-name.zip":                 {"some-name.zip", ""},
	} {
		if n, v := distributionName(file); n != name[0] || v != name[1] {
			t.Errorf("%s: %q %q", file, n, v)
		}
	}
}
