package build

import (
	"testing"
	"time"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
)

func TestLimitsOfARecipe(t *testing.T) {
	b := &Builder{Limits: sandbox.Limits{Memory: 1, Pids: 2, Wall: time.Hour}}
	for _, c := range []struct {
		resources recipe.Resources
		want      sandbox.Limits
		err       string
	}{
		{recipe.Resources{}, sandbox.Limits{Memory: 1, Pids: 2, Wall: time.Hour}, ""},
		{recipe.Resources{Memory: "4Gi", CPU: "500m", Disk: "10G"},
			sandbox.Limits{Memory: 4 << 30, Pids: 2, Wall: time.Hour, CPU: 0.5, Disk: 1e10}, ""},
		{recipe.Resources{CPU: "1.5"}, sandbox.Limits{Memory: 1, Pids: 2, Wall: time.Hour, CPU: 1.5}, ""},
		{recipe.Resources{Memory: "lots"}, sandbox.Limits{}, `package.resources.memory of p: "lots" is no size: write 512Mi or 4Gi`},
		{recipe.Resources{Disk: "9223372036854775807Ki"}, sandbox.Limits{}, `package.resources.disk of p: "9223372036854775807Ki" is no size: write 512Mi or 4Gi`},
		{recipe.Resources{CPU: "0"}, sandbox.Limits{}, `package.resources.cpu of p: "0" is no number of processors: write 2 or 500m`},
	} {
		got, err := b.limits(&recipe.Plan{Name: "p", Resources: c.resources})
		if err != nil && err.Error() != c.err || err == nil && c.err != "" {
			t.Errorf("%+v: error %v, want %q", c.resources, err, c.err)
		}
		if err == nil && got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.resources, got, c.want)
		}
	}
}

// TestDefaultLimits wants every bound that keeps a machine usable.
func TestDefaultLimits(t *testing.T) {
	l := DefaultLimits()
	if l.Memory < 64<<20 || l.Pids == 0 || l.Wall == 0 || l.Silence == 0 || l.Output == 0 {
		t.Errorf("%+v", l)
	}
}
