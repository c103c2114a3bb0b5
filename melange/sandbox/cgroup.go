package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cgroup is the control groups around one environment: one folder in the unified hierarchy, or one in each
// hierarchy of the old kind. Nil where the caller may not make any; then only the agent watches.
//
// The limits leave room for the agent itself, which stops a command at the exact mark: what it must have to do that,
// a bomb must not have used up before. It must not have to compete with more of them than the limit, either.
type cgroup struct {
	dirs []string

	mu       sync.Mutex
	counters []counter
}

const (
	agentMemory = 64 << 20
	cpuPeriod   = 100_000 // microseconds
	groupPrefix = "sandbox-"
)

// knob is a file that takes one limit.
type knob struct {
	controller  string
	file, value string
	event       counter // counts how often the limit was met
	optional    bool    // not every kernel has it
}

// counter is a line "name number" of a file, and the number that was seen last.
type counter struct {
	file, name string
	cause      func(Limits) string
	seen       int64
}

func knobs(l Limits, unified bool) []knob {
	var all []knob
	if l.Memory > 0 {
		k := knob{controller: "memory", file: "memory.max", value: strconv.FormatInt(l.Memory+agentMemory, 10),
			event: counter{file: "memory.events", name: "oom_kill", cause: causeMemory}}
		if !unified {
			k.file, k.event.file = "memory.limit_in_bytes", "memory.oom_control"
		}
		all = append(all, k)
		if unified { // what is over must not go to the disk instead
			all = append(all, knob{controller: "memory", file: "memory.swap.max", value: "0", optional: true})
		}
	}
	if l.Pids > 0 {
		all = append(all, knob{controller: "pids", file: "pids.max", value: strconv.Itoa(l.Pids + agentTasks),
			event: counter{file: "pids.events", name: "max", cause: causePids}})
	}
	if l.CPU > 0 {
		quota := max(int64(l.CPU*cpuPeriod), 1000)
		k := knob{controller: "cpu", file: "cpu.max", value: fmt.Sprintf("%d %d", quota, cpuPeriod)}
		if !unified {
			k.file, k.value = "cpu.cfs_quota_us", strconv.FormatInt(quota, 10) // the period is the default
		}
		all = append(all, k)
	}
	return all
}

// newCgroup puts the process into groups of its own with the limits, as far as the host lets the caller.
func newCgroup(pid int, l Limits) (*cgroup, error) {
	if l.Memory <= 0 && l.Pids <= 0 && l.CPU <= 0 {
		return nil, nil
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	g := new(cgroup)
	for _, h := range hierarchies(string(own), string(mounts)) {
		var wanted []knob
		for _, k := range knobs(l, h.unified) {
			if h.unified || slices.Contains(h.controllers, k.controller) {
				wanted = append(wanted, k)
			}
		}
		if len(wanted) > 0 {
			g.join(h, pid, wanted)
		}
	}
	if len(g.dirs) == 0 {
		return nil, nil
	}
	return g, nil
}

// join makes a group in the hierarchy: in the caller's own, or the nearest above where that is permitted and has
// the controllers. A host that permits none is no error.
func (g *cgroup) join(h hierarchy, pid int, wanted []knob) {
	for dir := h.own; strings.HasPrefix(dir, h.top); dir = filepath.Dir(dir) {
		available := wanted
		if h.unified {
			available = enabled(dir, wanted, dir == h.own)
		}
		if len(available) > 0 && g.make(dir, pid, available) {
			return
		}
		if !h.unified {
			return // the group's own limits hold only below itself
		}
	}
}

// enabled returns the knobs that children of a group of the unified hierarchy have. The caller's own group may be
// asked to enable more.
func enabled(dir string, wanted []knob, own bool) []knob {
	control := filepath.Join(dir, "cgroup.subtree_control")
	for _, k := range wanted {
		if !own {
			break
		}
		os.WriteFile(control, []byte("+"+k.controller), 0o644) // refused when processes are in the group, or it is not ours
	}
	data, err := os.ReadFile(control)
	if err != nil {
		return nil
	}
	have := strings.Fields(string(data))
	return slices.DeleteFunc(slices.Clone(wanted), func(k knob) bool { return !slices.Contains(have, k.controller) })
}

func (g *cgroup) make(parent string, pid int, wanted []knob) bool {
	sweep(parent)
	dir := filepath.Join(parent, groupPrefix+strconv.Itoa(pid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return false
	}
	for _, k := range wanted {
		err := os.WriteFile(filepath.Join(dir, k.file), []byte(k.value), 0o644)
		if err != nil && !(k.optional && errors.Is(err, fs.ErrPermission)) { // the kernel has no folder for new files
			os.Remove(dir)
			return false
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
		os.Remove(dir)
		return false
	}
	g.dirs = append(g.dirs, dir)
	for _, k := range wanted {
		if c := k.event; c.file != "" {
			c.file = filepath.Join(dir, c.file)
			g.counters = append(g.counters, c)
		}
	}
	return true
}

// sweep removes the groups of environments whose caller was killed.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, groupPrefix+"*"))
	for _, dir := range dirs {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), groupPrefix))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.Remove(dir)
		}
	}
}

// cause names a limit that was met since it was asked last.
func (g *cgroup) cause(l Limits) string {
	if g == nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	why := ""
	for i := range g.counters {
		c := &g.counters[i]
		if now := c.read(); now > c.seen {
			c.seen = now
			why = c.cause(l)
		}
	}
	return why
}

func (c counter) read() int64 {
	data, err := os.ReadFile(c.file)
	if err != nil {
		return c.seen
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == c.name {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return c.seen
}

// ticker says when to ask for a cause while a command runs.
func (g *cgroup) ticker() *time.Ticker {
	t := time.NewTicker(watchSlow)
	if g == nil {
		t.Stop()
	}
	return t
}

// remove deletes the groups; their processes are gone.
func (g *cgroup) remove() error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, dir := range g.dirs {
		if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hierarchy is one tree of control groups as this process sees it.
type hierarchy struct {
	unified     bool
	controllers []string // of the old kind
	top, own    string   // folders: where it is mounted, and the caller's group
}

// hierarchies reads /proc/self/cgroup and /proc/self/mountinfo.
func hierarchies(own, mounts string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(own) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		h := hierarchy{unified: part[0] == "0" && part[1] == ""}
		if !h.unified {
			h.controllers = strings.Split(part[1], ",")
		}
		if h.find(part[2], mounts) {
			found = append(found, h)
		}
	}
	return found
}

// find fills in where the hierarchy is mounted and which folder the group is.
func (h *hierarchy) find(group, mounts string) bool {
	for line := range strings.Lines(mounts) {
		head, tail, ok := strings.Cut(line, " - ")
		place, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(place) < 5 || len(kind) < 3 || !h.is(kind[0], kind[2]) {
			continue
		}
		// The mount may show only a part of the tree, its fourth field.
		below, err := filepath.Rel(place[3], group)
		if err != nil || below == ".." || strings.HasPrefix(below, "../") {
			below = "."
		}
		h.top, h.own = place[4], filepath.Join(place[4], below)
		return true
	}
	return false
}

func (h *hierarchy) is(kind, options string) bool {
	if h.unified {
		return kind == "cgroup2"
	}
	return kind == "cgroup" && slices.Contains(strings.Split(options, ","), h.controllers[0])
}
