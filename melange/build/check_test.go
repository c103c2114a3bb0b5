package build

import (
	"slices"
	"testing"

	"distro.internal/melange/lint"
	"distro.internal/melange/recipe"
)

// TestChecks: what recipes can name is what can be checked.
func TestChecks(t *testing.T) {
	can := lint.Structures()
	slices.Sort(can)
	if !slices.Equal(can, recipe.CheckNames) {
		t.Errorf("recipes name %v, and there are %v", recipe.CheckNames, can)
	}
}
