package build

import (
	"testing"
	"time"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
)

func TestLimitsOfARecipe(t *testing.T) {
	own := sandbox.Limits{Memory: 8 << 30, Pids: 2, Wall: time.Hour}
	big := recipe.Resources{Memory: 4 << 30, CPU: 0.5, Disk: 1e10}
	for _, c := range []struct {
		name        string
		build, test recipe.Resources
		overrides   sandbox.Limits
		tests       bool
		want        sandbox.Limits
	}{
		{name: "nothing said", want: own},
		{name: "said", build: big, want: sandbox.Limits{Memory: 4 << 30, Pids: 2, Wall: time.Hour, CPU: 0.5, Disk: 1e10}},
		{name: "more than there is", build: recipe.Resources{Memory: 64 << 30, CPU: 48}, want: sandbox.Limits{Memory: 8 << 30, Pids: 2, Wall: time.Hour, CPU: 48}},
		{name: "overruled", build: big, overrides: sandbox.Limits{Memory: 16 << 30, CPU: 3}, want: sandbox.Limits{Memory: 16 << 30, Pids: 2, Wall: time.Hour, CPU: 3, Disk: 1e10}},
		{name: "a test", build: big, test: recipe.Resources{Memory: 1 << 30}, tests: true, want: sandbox.Limits{Memory: 1 << 30, Pids: 2, Wall: time.Hour, CPU: 0.5, Disk: 1e10}},
	} {
		b := &Builder{Limits: own, Overrides: c.overrides}
		job := Job{Plan: &recipe.Plan{Resources: c.build, TestResources: c.test}}
		if c.tests {
			job.Test = &recipe.Test{}
		}
		if got := b.limits(job); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestDefaultLimits wants every bound that keeps a machine usable.
func TestDefaultLimits(t *testing.T) {
	l := DefaultLimits()
	if l.Memory < 64<<20 || l.Pids == 0 || l.Wall == 0 || l.Silence == 0 || l.Output == 0 || l.Free == 0 {
		t.Errorf("%+v", l)
	}
}
