package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// delegatedVariable says that the caller may divide its control group, as systemd lets users: then every environment with
// limits has one of its own, and the tests below hold.
const delegatedVariable = "SANDBOX_TEST_CGROUP"

func needsGroup(t *testing.T) {
	t.Helper()
	if os.Getenv(delegatedVariable) == "" {
		t.Skipf("%s does not say that this process may divide its control group: scripts/judge-kernel runs where it may", delegatedVariable)
	}
}

// inGroup starts an environment that has a control group, and returns that.
func inGroup(t *testing.T, l Limits) (*Agent, string) {
	t.Helper()
	needsGroup(t)
	a := start(t, Sandbox{Limits: l})
	if a.group == nil || len(a.group.dirs) != 1 {
		t.Fatalf("its groups are %v", a.group)
	}
	return a, a.group.dirs[0]
}

// TestGroup: the kernel knows the limits, and commands do not see where they are.
func TestGroup(t *testing.T) {
	a, dir := inGroup(t, Limits{Memory: 1 << 30, Pids: 100, CPU: 1.5})
	for name, want := range map[string]string{
		"memory.max": strconv.Itoa(1<<30 + agentMemory), "pids.max": strconv.Itoa(100 + agentTasks), "cpu.max": "150000 100000",
		"memory.swap.max": "0", "cgroup.procs": strconv.Itoa(a.cmd.Process.Pid),
	} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); strings.TrimSpace(string(data)) != want {
			t.Errorf("%s is %q, %v", name, data, err)
		}
	}
	if out := expect(t, a, "cat", "/proc/self/cgroup"); out != "0::/" {
		t.Errorf("commands are in %q", out)
	}
	must(t, a.Close())
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the group is still there: %v", err)
	}
}

// TestGroupEnds: what the watch does not see, or is too slow for, the kernel stops; the cause is named, and the environment
// goes on.
func TestGroupEnds(t *testing.T) {
	const unwatched = 1 << 40
	for _, tc := range []struct {
		name, command string
		limits        Limits
		watched       Limits // what the agent looks for
		want          string
	}{
		{"memory that is seen nowhere", "hog-unmapped", Limits{Memory: 64 << 20}, Limits{Memory: 64 << 20}, "exceeded memory limit 64MiB"},
		{"memory", "hog", Limits{Memory: 64 << 20}, Limits{Memory: unwatched}, "exceeded memory limit 1TiB"},
		{"memory of a child", "self hog", Limits{Memory: 64 << 20}, Limits{Memory: unwatched}, "exceeded memory limit 1TiB"},
		{"memory of who has made the agent the first to go", "agents oom ; hog", Limits{Memory: 64 << 20}, Limits{Memory: unwatched}, "exceeded memory limit 1TiB"},
		{"threads", "threads 400", Limits{Pids: 100}, Limits{Pids: unwatched}, "exceeded process limit 1099511627776"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, dir := inGroup(t, tc.limits)
			a.limits = tc.watched
			out, err := probe(t, a, strings.Fields(tc.command)...)
			if exit := (*ExitError)(nil); !errors.As(err, &exit) || exit.Error() != tc.want {
				t.Errorf("got %v, want %q: %.500s", err, tc.want, out)
			}
			expect(t, a, "echo", "the environment goes on")
			must(t, a.Close())
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the group is still there: %v", err)
			}
		})
	}
}

// TestGroupProcessors: who may use a part of a processor is made to wait.
func TestGroupProcessors(t *testing.T) {
	a, dir := inGroup(t, Limits{CPU: 0.2})
	throttled := counter{file: filepath.Join(dir, "cpu.stat"), name: "nr_throttled"}
	before := throttled.read()
	expect(t, a, "burn", "1s")
	if after := throttled.read(); after <= before {
		t.Errorf("it was throttled %d times before and %d times after", before, after)
	}
}

// TestGroupOfLostCaller: the group of an environment whose caller was killed goes when the next one is made.
func TestGroupOfLostCaller(t *testing.T) {
	needsGroup(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLostCaller$")
	dir := t.TempDir()
	cmd.Env = append(os.Environ(), victimVariable+"="+dir, probesVariable+"="+probes)
	must(t, cmd.Start())
	until(t, func() bool { _, err := os.Stat(filepath.Join(dir, "beat")); return err == nil })
	_, own := inGroup(t, Limits{Pids: 1000})
	others, err := filepath.Glob(filepath.Join(filepath.Dir(own), groupPrefix+"*"))
	must(t, err)
	others = slices.DeleteFunc(others, func(dir string) bool { return dir == own })
	if len(others) == 0 {
		t.Fatal("the caller that is to be killed has no group")
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	until(t, func() bool {
		inGroup(t, Limits{Pids: 1000})
		return !slices.ContainsFunc(others, func(dir string) bool { _, err := os.Stat(dir); return err == nil })
	})
}
