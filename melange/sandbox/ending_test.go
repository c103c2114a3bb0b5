package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEndings: whatever a command does to the machine, it is ended, the cause is named, and the environment and
// its neighbour go on.
func TestEndings(t *testing.T) {
	t.Parallel()
	neighbour := start(t, Sandbox{})
	for _, tc := range []struct {
		name    string
		limits  Limits
		command string
		want    string
	}{
		{"sleep for ever", Limits{Wall: 200 * time.Millisecond}, "sleep 1h", "exceeded wall-clock limit 200ms"},
		{"silent hang", Limits{Silence: 200 * time.Millisecond}, "sleep 1h", "no output for 200ms"},
		{"slow, but not silent", Limits{Silence: 1500 * time.Millisecond}, "say 4 500ms", ""},
		{"output flood", Limits{Output: 1 << 20}, "flood", "exceeded output limit 1MiB"},
		{"memory hog", Limits{Memory: 64 << 20}, "hog", "exceeded memory limit 64MiB"},
		{"memory hog that shares", Limits{Memory: 64 << 20}, "hog-shared", "exceeded memory limit 64MiB"},
		{"memory hog in files", Limits{Memory: 64 << 20}, "fill /tmp/x", "exceeded memory limit 64MiB"},
		{"fork bomb", Limits{Pids: 100}, "bomb", "exceeded process limit 100"},
		{"disk filler", Limits{Disk: 8 << 20}, "fill /tmp/x", "exceeded disk limit 8MiB"},
		{"within all limits", Limits{Wall: time.Minute, Silence: time.Minute, Output: 100, Memory: 1 << 30, Pids: 100, Disk: 1 << 20, CPU: 1}, "echo fine", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := start(t, Sandbox{Limits: tc.limits})
			_, err := probe(t, a, strings.Fields(tc.command)...)
			var exit *ExitError
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (!errors.As(err, &exit) || exit.Error() != tc.want):
				t.Errorf("got %v, want %q", err, tc.want)
			}
			a.limits = Limits{} // a busy machine may need longer than this test wants to wait
			expect(t, a, "echo", "the environment goes on")
			expect(t, neighbour, "echo", "and the neighbour")
		})
	}
}

// TestDiskOnDisk: a limit holds as well where no filesystem has that size.
func TestDiskOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := start(t, Sandbox{Limits: Limits{Disk: 16 << 20}, Mounts: []Mount{{Source: dir, Target: "/home/build"}}})
	if _, err := probe(t, a, "fill", "/home/build/x"); err == nil || err.Error() != "exceeded disk limit 16MiB" {
		t.Errorf("got %v", err)
	}
}

// TestScarceDisk: without a limit to what is written, who fills the disk is ended before others have none; who has written
// little is not. All disks have less than what is to stay free here.
func TestScarceDisk(t *testing.T) {
	t.Parallel()
	var disk unix.Statfs_t
	dir := t.TempDir()
	must(t, unix.Statfs(dir, &disk))
	for _, tc := range []struct {
		name string
		free int64
		want string
	}{
		{"scarce", int64(disk.Bavail) * disk.Bsize * 2, ""}, // it has not written as much as that
		{"not scarce", 1 << 20, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := start(t, Sandbox{Limits: Limits{Free: tc.free}, Mounts: []Mount{{Source: dir, Target: "/home/build"}}})
			expect(t, a, "sleep", "2500ms")
		})
	}
	smallDisk(t)
}

// smallDiskVariable makes TestSmallDisk the process that has a disk of its own.
const smallDiskVariable = "SANDBOX_TEST_SMALL_DISK"

func smallDisk(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSmallDisk$")
	cmd.Env = append(os.Environ(), smallDiskVariable+"="+t.TempDir(), probesVariable+"="+probes)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSmallDisk fills a disk of 64 MiB, as a part of TestScarceDisk.
func TestSmallDisk(t *testing.T) {
	dir := os.Getenv(smallDiskVariable)
	if dir == "" {
		return
	}
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"))
	a := start(t, Sandbox{Limits: Limits{Free: 24 << 20}, Mounts: []Mount{{Source: dir, Target: "/home/build"}}})
	if _, err := probe(t, a, "fill-slowly", "/home/build/x"); err == nil || err.Error() != "left less than 24MiB of the disk" {
		t.Errorf("got %v", err)
	}
	expect(t, a, "write", "/home/build/y", "there is room")
}

// TestSparse: files that take up nothing and say that they are larger than the disk are not taken out of the sandbox.
func TestSparse(t *testing.T) {
	for _, l := range []Limits{{Disk: 16 << 20}, {Free: 1 << 30}} {
		a := start(t, Sandbox{Limits: l, Mounts: []Mount{{Source: t.TempDir(), Target: "/home/build"}}})
		expect(t, a, "mkdir", "/home/build/out", ";", "write", "/home/build/out/file", "x", ";", "truncate", "/home/build/out/sparse", strconv.FormatInt(1<<43, 10))
		var out bytes.Buffer
		if err := a.Tar(t.Context(), "/home/build/out", &out); err == nil || !oneOf(err.Error(), "exceeded disk limit 16MiB|left less than 1GiB of the disk") {
			t.Errorf("%+v: got %v", l, err)
		}
		if out.Len() > 0 {
			t.Errorf("%d bytes were written", out.Len())
		}
	}
}

func TestOutputLimitPassesOnWhatIsWithin(t *testing.T) {
	a := start(t, Sandbox{Limits: Limits{Output: 10_000}})
	var out bytes.Buffer
	err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "flood"}, Stdout: &out})
	if err == nil || out.Len() != 10_000 {
		t.Errorf("%v, and %d bytes", err, out.Len())
	}
}

func TestProcessors(t *testing.T) {
	a := start(t, Sandbox{Limits: Limits{CPU: 0.5}})
	if n := expect(t, a, "cpus"); n != "1" {
		t.Errorf("%s processors are seen", n)
	}
}

func TestInterrupted(t *testing.T) {
	a := start(t, Sandbox{})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped at the keyboard")
	time.AfterFunc(100*time.Millisecond, func() { cancel(stop) })
	_, err := probeAs(ctx, a, Command{Args: []string{"sleep", "1h"}})
	var exit *ExitError
	if !errors.As(err, &exit) || !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	expect(t, a, "echo", "the environment goes on")
}

func TestClose(t *testing.T) {
	a := start(t, Sandbox{})
	time.AfterFunc(100*time.Millisecond, func() { a.Close() })
	if _, err := probe(t, a, "sleep", "1h"); err == nil || !strings.Contains(err.Error(), "the sandbox ended") {
		t.Errorf("got %v", err)
	}
	if _, err := probe(t, a, "echo"); err == nil {
		t.Error("a command ran in a closed environment")
	}
	must(t, a.Close())
}

// TestContextOfStart: it is the environment's own end.
func TestContextOfStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, err := (&Sandbox{Layers: []string{probeLayer(native)}}).Start(ctx)
	must(t, err)
	defer a.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := probe(t, a, "sleep", "1h"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCancelledAnywhere: whenever the context is done, the error says that it was, and not what broke for it.
func TestCancelledAnywhere(t *testing.T) {
	t.Parallel()
	stop := errors.New("stopped at the keyboard")
	for i := range 40 {
		ctx, cancel := context.WithCancelCause(t.Context())
		timer := time.AfterFunc(time.Duration(i)*time.Millisecond, func() { cancel(stop) })
		err := func() error {
			a, err := (&Sandbox{Layers: []string{probeLayer(native)}}).Start(ctx)
			if err != nil {
				return err
			}
			defer a.Close()
			return a.Run(ctx, Command{Args: []string{"/bin/probe", "sleep", "1h"}})
		}()
		if !errors.Is(err, stop) {
			t.Errorf("after %dms: %v", i, err)
		}
		timer.Stop()
	}
}

func TestBrokenWriter(t *testing.T) {
	a := start(t, Sandbox{Limits: Limits{Output: 1 << 20}})
	r, w := io.Pipe()
	r.CloseWithError(errors.New("log is full"))
	err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "echo", "x"}, Stdout: w})
	if err == nil || !strings.Contains(err.Error(), "log is full") {
		t.Errorf("got %v", err)
	}
}

// victimVariable makes TestLostCaller the caller that is killed.
const victimVariable = "SANDBOX_TEST_VICTIM"

// TestLostCaller: when the caller is killed, so is everything it started, and nothing stays mounted.
func TestLostCaller(t *testing.T) {
	if dir := os.Getenv(victimVariable); dir != "" {
		s := Sandbox{Layers: []string{probeLayer(native)}, Mounts: []Mount{{Source: dir, Target: "/out"}}, Limits: Limits{Pids: 1000}}
		a, err := s.Start(t.Context())
		must(t, err)
		a.Run(t.Context(), Command{Args: []string{"/bin/probe", "beat", "/out/beat"}})
		return
	}
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestLostCaller$")
	cmd.Env = append(os.Environ(), victimVariable+"="+dir, probesVariable+"="+probes)
	must(t, cmd.Start())
	defer cmd.Wait()
	beat := filepath.Join(dir, "beat")
	until(t, func() bool { _, err := os.Stat(beat); return err == nil })
	must(t, cmd.Process.Kill())
	until(t, func() bool {
		before, err := os.Stat(beat)
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		after, err := os.Stat(beat)
		must(t, err)
		return before.Size() == after.Size()
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Error("something of it is still mounted")
	}
}

func until(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen")
		}
	}
}
