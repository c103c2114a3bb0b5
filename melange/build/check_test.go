package build

import (
	"slices"
	"testing"

	"distro.internal/melange/lint"
	"distro.internal/melange/recipe"
)

func TestFolderOfBoth(t *testing.T) {
	for _, c := range [][3]string{
		{"/home/build", "/home/build", "/home/build"}, {"/home/build", "/home/build/x/y", "/home/build"},
		{"/home/build", "/home/builder", "/home"}, {"/home/build", "/home/other/x", "/home"}, {"/home/build", "/tmp", "/"},
	} {
		if got := folderOfBoth(c[0], c[1]); got != c[2] {
			t.Errorf("%s and %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// TestChecks: what recipes can name is what can be checked.
func TestChecks(t *testing.T) {
	can := lint.Structures()
	slices.Sort(can)
	if !slices.Equal(can, recipe.CheckNames) {
		t.Errorf("recipes name %v, and there are %v", recipe.CheckNames, can)
	}
	var linters []string
	for _, l := range lint.Linters() {
		linters = append(linters, l.Name)
	}
	slices.Sort(linters)
	if !slices.Equal(linters, recipe.LinterNames) {
		t.Errorf("recipes name the linters %v, and there are %v", recipe.LinterNames, linters)
	}
}
