package recipe

import (
	"fmt"
	"strconv"
	"strings"

	"distro.internal/shared/document"
)

// Resources is what a build or its tests may use. Zero is no wish.
type Resources struct {
	CPU          float64 // processors
	CPUModel     string
	Memory, Disk int64 // bytes
}

// Or is r, with what it does not wish taken from other.
func (r Resources) Or(other Resources) Resources {
	if r.CPU == 0 {
		r.CPU = other.CPU
	}
	if r.CPUModel == "" {
		r.CPUModel = other.CPUModel
	}
	if r.Memory == 0 {
		r.Memory = other.Memory
	}
	if r.Disk == 0 {
		r.Disk = other.Disk
	}
	return r
}

func (p *planner) resources(s ResourcesSection) Resources {
	return Resources{
		CPU:      quantity(p, s.CPU, ParseProcessors),
		CPUModel: p.expand(s.CPUModel, p.base),
		Memory:   quantity(p, s.Memory, ParseSize),
		Disk:     quantity(p, s.Disk, ParseSize),
	}
}

func quantity[T int64 | float64](p *planner, text document.String, parse func(string) (T, error)) T {
	value, ok := p.try(text, p.base)
	if !ok || value == "" {
		return 0
	}
	n, err := parse(value)
	if err != nil {
		p.errs.Add(text.Pos, "", "%v", err)
	}
	return n
}

// ParseProcessors reads a number of processors as recipes write it: 2, 1.5, 500m.
func ParseProcessors(text string) (float64, error) {
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
