package build

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/melange/sandbox"
)

// DefaultLimits end what would take the machine with it: no step that makes
// progress should meet them.
func DefaultLimits() sandbox.Limits {
	l := sandbox.Limits{Pids: 8192, Wall: 4 * time.Hour, Silence: time.Hour, Output: 1 << 30, Free: 2 << 30}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		l.Memory = int64(uint64(info.Totalram) * uint64(info.Unit) / 4 * 3)
	}
	return l
}

// limits are those of a job's steps: what the recipe says, or else the builder's own. No recipe gets more memory or
// disk than the builder has to give, and what Overrides says is said by who runs this very build.
func (b *Builder) limits(job Job) sandbox.Limits {
	l, o := b.Limits, b.Overrides
	r := job.Plan.Resources
	if job.Test != nil {
		r = job.Plan.TestResources.Or(r)
	}
	l.Memory = least(r.Memory, l.Memory)
	l.Disk = least(r.Disk, l.Disk)
	l.CPU = cmp.Or(o.CPU, r.CPU, l.CPU)
	l.Memory, l.Disk = cmp.Or(o.Memory, l.Memory), cmp.Or(o.Disk, l.Disk)
	return l
}

// least is the smaller of two limits, of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
