package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPolicy: the list is the whole of what an environment is made of, in order.
func TestPolicy(t *testing.T) {
	s := Sandbox{
		Layers: []string{"/store/low", "/store/high"}, Upper: "/work/upper", Network: true, Hostname: "box",
		Mounts: []Mount{
			{Source: "/work/home", Target: "/home/build"},
			{Source: "/cache", Target: "/var/cache/melange", ReadOnly: true},
			{Kind: Overlay, Target: "/sysroot", ReadOnly: true, Layers: []string{"/store/musl", "/store/zlib"}},
			{Kind: Overlay, Target: "/one", ReadOnly: true, Layers: []string{"/store/musl"}},
			{Kind: Tmpfs, Target: "/run"},
		},
		Emulators: map[string]string{"riscv64": "/stage0/qemu-riscv64", "aarch64": "/stage0/qemu-aarch64"},
		Limits:    Limits{Memory: 2 << 30, Disk: 1 << 30, CPU: 1.5, Wall: time.Hour},
	}
	p, err := s.policy()
	must(t, err)
	var got []string
	for _, op := range p.Lines {
		if line := describeLine(op); line != "" {
			got = append(got, line)
		}
	}
	want := []string{
		"root / /store/low:/store/high below /work/upper, 1GiB",
		"tmpfs /dev, 64KiB", "bind /dev/full from /dev/full", "bind /dev/null from /dev/null", "bind /dev/random from /dev/random",
		"bind /dev/tty from /dev/tty", "bind /dev/urandom from /dev/urandom", "bind /dev/zero from /dev/zero",
		"devpts /dev/pts", "tmpfs /dev/shm, 1GiB",
		"link /dev/ptmx from pts/ptmx", "link /dev/fd from /proc/self/fd", "link /dev/stdin from /proc/self/fd/0",
		"link /dev/stdout from /proc/self/fd/1", "link /dev/stderr from /proc/self/fd/2",
		"proc /proc", "binfmt /proc/sys/fs/binfmt_misc aarch64=/stage0/qemu-aarch64 riscv64=/stage0/qemu-riscv64",
		"write /proc/sys/user/max_inotify_instances from 64", "write /proc/sys/user/max_inotify_watches from 65536",
		"seal /proc/1",
		"seal /proc/sys", "seal /proc/bus", "seal /proc/fs", "seal /proc/irq", "seal /proc/sysrq-trigger",
		"tmpfs /sys read-only", "directory /tmp", "bind /etc/resolv.conf from /etc/resolv.conf read-only",
		"bind /home/build from /work/home", "bind /var/cache/melange from /cache read-only",
		"overlay /sysroot /store/musl:/store/zlib read-only, 1GiB", "bind /one from /store/musl read-only", "tmpfs /run, 1GiB",
		"seal /dev", "hostname box",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	rest := policy{Processors: p.Processors, Network: p.Network, Measured: p.Measured}
	if diff := cmp.Diff(policy{Processors: 2, Network: true, Measured: []string{"/work/upper", "/work/home"}}, rest); diff != "" {
		t.Error(diff)
	}
	if got := memoryMounts(p.Lines); !cmp.Equal(got, []string{"/dev", "/dev/shm", "/run"}) {
		t.Errorf("in memory: %v", got)
	}
}

// describeLine is a line as text; what is masked in /proc is a list of its own.
func describeLine(o operation) string {
	if o.Do == doMask {
		return ""
	}
	text := string(o.Do)
	if o.Target != "" {
		text += " " + o.Target
	}
	if len(o.Layers) > 0 {
		text += " " + strings.Join(o.Layers, ":")
	}
	if o.Upper != "" {
		text += " below " + o.Upper
	}
	switch {
	case o.Do == doHostname:
		text += " " + o.Source
	case o.Source != "":
		text += " from " + o.Source
	}
	for _, e := range o.Emulators {
		text += fmt.Sprintf(" %s=%s", e.Arch, e.Program)
	}
	if o.ReadOnly {
		text += " read-only"
	}
	if o.Size > 0 {
		text += ", " + bytesText(o.Size)
	}
	return text
}
