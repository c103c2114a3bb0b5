package main

import (
	"maps"
	"slices"
	"testing"

	"distro.internal/pipelines"
)

// TestPrograms: what recipes can name is what there is.
func TestPrograms(t *testing.T) {
	have, named := slices.Sorted(maps.Keys(programs)), slices.Sorted(maps.Keys(pipelines.Programs))
	if !slices.Equal(have, named) {
		t.Errorf("there are %v, and named are %v", have, named)
	}
}
