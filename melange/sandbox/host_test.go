package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseSubordinate(t *testing.T) {
	const file = "other:100000:65536\nbuilder:165536:65536\n1001:231072:1000\nbad:x:y\nempty:1:0\n"
	for _, tc := range []struct {
		name string
		uid  int
		want *syscall.SysProcIDMap
	}{
		{"builder", 1000, &syscall.SysProcIDMap{ContainerID: 1, HostID: 165536, Size: 65535}},
		{"", 1001, &syscall.SysProcIDMap{ContainerID: 1, HostID: 231072, Size: 1000}},
		{"nobody", 65534, nil}, {"bad", 1, nil}, {"empty", 1, nil}, {"", 0, nil},
	} {
		if got := parseSubordinate([]byte(file), tc.name, tc.uid); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestParseExtents(t *testing.T) {
	for text, want := range map[string][]syscall.SysProcIDMap{
		"         0          0 4294967295\n": {{ContainerID: 0, HostID: 0, Size: 65536}},
		"0 1000 1\n":                         {{ContainerID: 0, HostID: 0, Size: 1}},
		"0 1000 1\n1 100000 65536\n":         {{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 1, Size: 65535}},
		"70000 0 5\n":                        nil,
	} {
		if got, err := parseExtents(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func FuzzParseSubordinate(f *testing.F) {
	f.Add([]byte("builder:100000:65536\n"))
	f.Add([]byte("builder:4294967295:4294967295"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m := parseSubordinate(data, "builder", 1000); m != nil && (m.Size < 1 || m.Size >= idRange || m.HostID < 0) {
			t.Errorf("got %v", *m)
		}
	})
}

const unifiedMounts = "26 21 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

const hybridMounts = `30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 25 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
33 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
`

func TestHierarchies(t *testing.T) {
	for _, tc := range []struct {
		name, own, mounts string
		want              []hierarchy
	}{
		{"unified", "0::/user.slice/session.scope\n", unifiedMounts,
			[]hierarchy{{true, nil, "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/session.scope"}}},
		{"hybrid", "4:memory:/jobs/1\n3:cpu,cpuacct:/docker/abc/x\n2:pids:/\n1:name=systemd:/\n0::/\n", hybridMounts,
			[]hierarchy{
				{false, []string{"memory"}, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/jobs/1"},
				{false, []string{"cpu", "cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/x"},
				{false, []string{"name=systemd"}, "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd"},
				{true, nil, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"},
			}},
		{"outside of what is mounted", "3:cpu,cpuacct:/elsewhere\n", hybridMounts,
			[]hierarchy{{false, []string{"cpu", "cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"}}},
		{"none", "", "", nil},
	} {
		if got := hierarchies(tc.own, tc.mounts); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func FuzzHierarchies(f *testing.F) {
	f.Add("0::/user.slice\n", unifiedMounts)
	f.Add("4:memory:/jobs/1\n3:cpu,cpuacct:/docker/abc/x\n", hybridMounts)
	f.Fuzz(func(t *testing.T, own, mounts string) {
		for _, h := range hierarchies(own, mounts) {
			if filepath.IsAbs(h.top) && !strings.HasPrefix(h.own, filepath.Clean(h.top)) {
				t.Errorf("%q is not below %q", h.own, h.top)
			}
		}
	})
}

// TestUnifiedGroup walks through the files of the unified hierarchy, as a folder that looks like one: the
// controllers are delegated one level above the caller's own group.
func TestUnifiedGroup(t *testing.T) {
	top := t.TempDir()
	own := filepath.Join(top, "slice", "session")
	must(t, os.MkdirAll(own, 0o755))
	must(t, os.WriteFile(filepath.Join(top, "slice", "cgroup.subtree_control"), []byte("cpu memory pids\n"), 0o444))
	must(t, os.Chmod(filepath.Join(top, "slice", "cgroup.subtree_control"), 0o444))
	limits := Limits{Memory: 1 << 30, Pids: 100, CPU: 1.5}
	g := new(cgroup)
	dir := filepath.Join(top, "slice", groupPrefix+"4711")
	g.make(filepath.Join(top, "slice"), 4711, knobs(limits, true))
	if !reflect.DeepEqual(g.dirs, []string{dir}) {
		t.Fatalf("made %v", g.dirs)
	}
	for name, want := range map[string]string{
		"memory.max": "1140850688", "pids.max": "164", "cpu.max": "150000 100000", "cgroup.procs": "4711",
	} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	events := func(name, text string) { must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	for _, step := range []struct{ memory, pids, want string }{
		{"low 0\noom_kill 0\n", "max 0\n", ""},
		{"low 9\noom_kill 1\n", "max 0\n", "exceeded memory limit 1GiB"},
		{"low 9\noom_kill 1\n", "max 0\n", ""},
		{"low 9\noom_kill 1\n", "max 7\n", "exceeded process limit 100"},
	} {
		events("memory.events", step.memory)
		events("pids.events", step.pids)
		if got := g.cause(limits); got != step.want {
			t.Errorf("after %q %q: got %q, want %q", step.memory, step.pids, got, step.want)
		}
	}
}

func TestExplain(t *testing.T) {
	refused := errors.New("operation not permitted")
	if other := errors.New("no such file"); explain(other, layer(t, map[string]string{"user/max_user_namespaces": "0"})) != other {
		t.Error("a missing file is not the host's policy")
	}
	for _, tc := range []struct {
		settings map[string]string
		want     string
	}{
		{nil, ""},
		{map[string]string{"kernel/unprivileged_userns_clone": "1\n"}, ""},
		{map[string]string{"kernel/unprivileged_userns_clone": "0\n"}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{map[string]string{"user/max_user_namespaces": "0\n"}, "sysctl -w user.max_user_namespaces=15000"},
	} {
		err := explain(refused, layer(t, tc.settings))
		if !errors.Is(err, refused) || !strings.Contains(err.Error(), tc.want) || (tc.want == "") != (err == refused) {
			t.Errorf("%v: got %v", tc.settings, err)
		}
	}
}

func TestTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * time.Minute: "10m", 2 * time.Hour: "2h", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 250 * time.Millisecond: "250ms",
	} {
		if got := duration(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for n, want := range map[int64]string{2 << 30: "2GiB", 1536 << 20: "1536MiB", 1000: "1000 bytes", 0: "0 bytes"} {
		if got := bytesText(n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
