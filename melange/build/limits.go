package build

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
)

// DefaultLimits end what would take the machine with it: no step that makes
// progress should meet them.
func DefaultLimits() sandbox.Limits {
	l := sandbox.Limits{Pids: 8192, Wall: 4 * time.Hour, Silence: time.Hour, Output: 1 << 30}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err == nil {
		l.Memory = int64(uint64(info.Totalram) * uint64(info.Unit) / 4 * 3)
	}
	return l
}

// limits are the builder's, where the recipe says nothing else.
func (b *Builder) limits(p *recipe.Plan) (sandbox.Limits, error) {
	l := b.Limits
	var err error
	if text := p.Resources.Memory; text != "" {
		if l.Memory, err = ParseSize(text); err != nil {
			return l, fmt.Errorf("package.resources.memory of %s: %w", p.Name, err)
		}
	}
	if text := p.Resources.Disk; text != "" {
		if l.Disk, err = ParseSize(text); err != nil {
			return l, fmt.Errorf("package.resources.disk of %s: %w", p.Name, err)
		}
	}
	if text := p.Resources.CPU; text != "" {
		if l.CPU, err = parseProcessors(text); err != nil {
			return l, fmt.Errorf("package.resources.cpu of %s: %w", p.Name, err)
		}
	}
	return l, nil
}

// parseProcessors reads a number of processors as recipes write it: 2, 1.5, 500m.
func parseProcessors(text string) (float64, error) {
	digits, milli := strings.CutSuffix(text, "m")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(n > 0 && n < 1e6) {
		return 0, fmt.Errorf("%q is no number of processors: write 2 or 500m", text)
	}
	if milli {
		n /= 1000
	}
	return n, nil
}

// ParseSize reads a number of bytes as recipes write it: 512Mi, 4Gi, 1G, 1000.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTi")
	factors := map[string]int64{
		"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}
	factor, ok := factors[text[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !ok || n <= 0 || n > (1<<63-1)/factor {
		return 0, fmt.Errorf("%q is no size: write 512Mi or 4Gi", text)
	}
	return n * factor, nil
}
