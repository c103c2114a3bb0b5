package sandbox

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// policy is all that an environment is made of.
type policy struct {
	Lines      []operation
	Processors int      `json:",omitempty"` // that commands see and use; 0 is all
	Network    bool     `json:",omitempty"` // commands may ask for the caller's
	Measured   []string `json:",omitempty"` // folders of the host whose size is limited
	Identity   identity // of commands
}

// operation is one line of a policy: what appears where. The caller writes the list, the setup stage
// interprets it once, from the first line to the last, so a later line may build on an earlier one.
type operation struct {
	Do         action
	Target     string     `json:",omitempty"` // inside
	Source     string     `json:",omitempty"` // on the host; of a link, its text
	Layers     []string   `json:",omitempty"` // lowest first
	Upper      string     `json:",omitempty"`
	Size       int64      `json:",omitempty"`
	Mode       uint32     `json:",omitempty"`
	ReadOnly   bool       `json:",omitempty"`
	Emulators  []emulator `json:",omitempty"`
	Device     bool       `json:",omitempty"` // device nodes keep their meaning below this mount
	ShortNames bool       `json:",omitempty"` // mount an overlay as before Linux 6.7
	Copy       bool       `json:",omitempty"` // make no overlay but a copy
	Copies     string     `json:",omitempty"` // where that is made; in memory when empty
	Optional   bool       `json:",omitempty"` // a missing Source is no error
}

type action string

// These bring a mount of their own.
const (
	doRoot    action = "root"    // Layers and a writable layer on top; always the first line
	doOverlay action = "overlay" // Layers; writable in memory unless ReadOnly
	doBind    action = "bind"    // Source of the host
	doTmpfs   action = "tmpfs"
	doProc    action = "proc"
	doDevpts  action = "devpts"
	doBinfmt  action = "binfmt" // this namespace's own binfmt_misc, with Emulators registered
)

// These change what is there.
const (
	doDirectory action = "directory"
	doLink      action = "link"
	doSeal      action = "seal"  // Target becomes read-only, with all below; a missing one is no error
	doMask      action = "mask"  // Target becomes an empty file or folder; a missing one is no error
	doWrite     action = "write" // Source is written to Target; a missing one is no error
)

// These touch no files.
const (
	doHostname action = "hostname"
	doLoopback action = "loopback"
)

// policy decides everything: the setup stage has no choices left.
func (s *Sandbox) policy() (*policy, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	p := []operation{{Do: doRoot, Target: "/", Layers: s.Layers, Upper: s.Upper, Size: s.Limits.Disk}}
	emulators, err := s.emulators()
	if err != nil {
		return nil, err
	}
	p = append(p, devices(s.Limits)...)
	p = append(p, processes(emulators)...)
	p = append(p,
		operation{Do: doTmpfs, Target: "/sys", Mode: 0o555, ReadOnly: true},
		operation{Do: doDirectory, Target: "/tmp", Mode: 0o1777},
	)
	if s.Network {
		p = append(p, operation{Do: doBind, Source: resolverFile, Target: resolverFile, ReadOnly: true, Optional: true})
	}
	for _, m := range s.Mounts {
		p = append(p, m.operation(s.Limits))
	}
	p = append(p, operation{Do: doSeal, Target: "/dev"})
	if !s.Network {
		p = append(p, operation{Do: doLoopback})
	}
	hostname := s.Hostname
	if hostname == "" {
		hostname = "build"
	}
	p = append(p, operation{Do: doHostname, Source: hostname})
	for i := range p {
		if p[i].overlay() {
			p[i].Copies = s.copies(p[i].Target)
		}
	}
	all := &policy{Lines: p, Processors: int(math.Ceil(s.Limits.CPU)), Network: s.Network}
	if s.Limits.Disk > 0 || s.Limits.Free > 0 {
		all.Measured = s.folders()
	}
	return all, nil
}

// copies is the folder for what an overlay at the target would show.
func (s *Sandbox) copies(target string) string {
	switch {
	case target == "/" && s.Upper != "":
		return filepath.Join(s.Upper, "copy")
	case s.Copies != "":
		return filepath.Join(s.Copies, strings.ReplaceAll(target, "/", "-"))
	}
	return ""
}

// resolverFile says how names are found in the caller's network.
const resolverFile = "/etc/resolv.conf"

// processes is /proc: of this environment's processes only, and with nothing to write to or to learn about
// the machine beyond its processors and memory. Of the agent there is nothing to write to, either: commands are
// the user whose files these are. (Its threads have folders as well, that are not listed and cannot be covered.
// What commands can do there is to have the kernel kill it sooner or later than them when memory runs out.)
func processes(emulators []operation) []operation {
	p := []operation{{Do: doProc, Target: "/proc"}}
	p = append(p, emulators...)
	// A user has only so many of these, whatever is running. With half of what is usual inside, the caller's other programs
	// have the rest.
	for _, limit := range [][2]string{{"max_inotify_instances", "64"}, {"max_inotify_watches", "65536"}} {
		p = append(p, operation{Do: doWrite, Target: "/proc/sys/user/" + limit[0], Source: limit[1]})
	}
	for _, name := range []string{"1", "sys", "bus", "fs", "irq", "sysrq-trigger"} {
		p = append(p, operation{Do: doSeal, Target: "/proc/" + name})
	}
	for _, name := range []string{
		"acpi", "asound", "cmdline", "config.gz", "driver", "interrupts", "iomem", "ioports", "kallsyms", "kcore", "keys", "key-users", "kmsg",
		"kpagecount", "kpageflags", "latency_stats", "modules", "partitions", "sched_debug", "scsi", "slabinfo",
		"sysvipc", "timer_list", "timer_stats", "vmallocinfo",
	} {
		p = append(p, operation{Do: doMask, Target: "/proc/" + name})
	}
	return p
}

// devices is a /dev with what every program expects and no hardware. The nodes are the host's own, bound one
// by one, since a user namespace cannot make any.
func devices(l Limits) []operation {
	p := []operation{{Do: doTmpfs, Target: "/dev", Mode: 0o755, Size: 1 << 16}}
	for _, name := range []string{"full", "null", "random", "tty", "urandom", "zero"} {
		p = append(p, operation{Do: doBind, Source: "/dev/" + name, Target: "/dev/" + name, Device: true})
	}
	p = append(p,
		operation{Do: doDevpts, Target: "/dev/pts"},
		operation{Do: doTmpfs, Target: "/dev/shm", Mode: 0o1777, Size: shared(l)},
	)
	for _, link := range [][2]string{
		{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
	} {
		p = append(p, operation{Do: doLink, Target: "/dev/" + link[0], Source: link[1]})
	}
	return p
}

// shared is how much may lie in /dev/shm: what lies there is both memory and disk.
func shared(l Limits) int64 {
	switch {
	case l.Memory > 0 && l.Disk > 0:
		return min(l.Memory, l.Disk)
	case l.Disk > 0:
		return l.Disk
	}
	return l.Memory
}

func (m Mount) operation(l Limits) operation {
	op := operation{Target: m.Target, ReadOnly: m.ReadOnly}
	switch m.Kind {
	case Tmpfs:
		op.Do, op.Mode, op.Size = doTmpfs, 0o755, l.Disk
	case Overlay:
		op.Do, op.Layers, op.Size = doOverlay, m.Layers, l.Disk
		if m.ReadOnly && len(m.Layers) == 1 { // the kernel has no overlay of a single layer
			op = operation{Do: doBind, Source: m.Layers[0], Target: m.Target, ReadOnly: true}
		}
	default:
		op.Do, op.Source = doBind, m.Source
	}
	return op
}

func (s *Sandbox) emulators() ([]operation, error) {
	if len(s.Emulators) == 0 {
		return nil, nil
	}
	p := []operation{{Do: doBinfmt, Target: "/proc/sys/fs/binfmt_misc"}}
	for _, arch := range slices.Sorted(maps.Keys(s.Emulators)) {
		if _, ok := machines[arch]; !ok {
			return nil, fmt.Errorf("emulator for %s: the architecture is not known", arch)
		}
		p[0].Emulators = append(p[0].Emulators, emulator{arch, s.Emulators[arch]})
	}
	return p, nil
}

// memoryMounts lists the filesystems of a policy that hold files in memory.
func memoryMounts(lines []operation) []string {
	var mounts []string
	for _, op := range lines {
		writable := op.Do == doTmpfs && !op.ReadOnly || op.overlay() && op.Upper == "" && !op.ReadOnly
		if writable {
			mounts = append(mounts, op.Target)
		}
	}
	return mounts
}

// folders lists what commands may write to on the host's disks.
func (s *Sandbox) folders() []string {
	var names []string
	if s.Upper != "" {
		names = append(names, s.Upper)
	}
	for _, m := range s.Mounts {
		if (m.Kind == Bind || m.Kind == "") && !m.ReadOnly {
			names = append(names, m.Source)
		}
	}
	return names
}
