package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLedOut: commands leave links to whatever the agent may have open, and then the agent itself goes there: to start a
// command in that folder, to read it, to give it away, and, when the environment is entered again, to mount something there.
func TestLedOut(t *testing.T) {
	host := layer(t, map[string]string{"mine/file": "x", "secret/file": "secret", "secret/tmp/": ""})
	must(t, os.Chmod(filepath.Join(host, "secret/tmp"), 0o700))
	for fd := 3; fd < 24; fd++ {
		beside := fmt.Sprintf("/proc/self/fd/%d/..", fd)
		s := Sandbox{
			Limits: Limits{Disk: 1 << 30}, Upper: filepath.Join(removable(t), "upper"),
			Mounts: []Mount{{Source: filepath.Join(host, "mine"), Target: "/home/build"}},
		}
		a := start(t, s)
		expect(t, a, "rm", "/home/build/link", ";", "symlink", beside, "/home/build/link", ";", "rm", "/tmp", ";", "symlink", beside+"/secret/tmp", "/tmp")
		for _, dir := range []string{beside + "/secret", "/home/build/link/secret"} {
			if text, err := probeAs(t.Context(), a, Command{Args: []string{"cat", "file"}, Dir: dir}); err == nil {
				t.Errorf("a command was started in %s: %s", dir, text)
			}
		}
		var stream bytes.Buffer
		if err := a.Tar(t.Context(), "/home/build/link/secret", &stream); err == nil {
			t.Errorf("what is beside %d was read: %s", fd, strings.Join(listing(t, &stream), " "))
		}
		if err := a.Own("/home/build/link/secret"); err == nil {
			t.Errorf("what is beside %d was given away", fd)
		}
		must(t, a.Close())
		s.Layers = []string{probeLayer(native)}
		if again, err := s.Start(t.Context()); err == nil {
			must(t, again.Close())
		}
		if info, err := os.Stat(filepath.Join(host, "secret/tmp")); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("the folder for /tmp was made beside %d: %v, %v", fd, info.Mode(), err)
		}
	}
}

// TestCoveredProc: a layer's links, and a workspace's files, do not pass for what the kernel has to say in /proc.
func TestCoveredProc(t *testing.T) {
	forged := layer(t, map[string]string{"cap_last_cap": "0\n", "p/sys/kernel/cap_last_cap": "0\n", "p/self/uid_map": "0 0 1\n", "p/self/gid_map": "0 0 1\n"})
	for _, link := range []map[string]string{
		{"home/build": ">/proc/sys/kernel"}, {"proc": ">/home/build/p", "home/build/": ""}, {"proc": ">/home/build"}, {"home/build": ">/proc"},
	} {
		s := Sandbox{Layers: []string{probeLayer(native), layer(t, link)}, Mounts: []Mount{{Source: forged, Target: "/home/build"}}}
		a, err := s.Start(t.Context())
		if err != nil {
			if !oneOf(err.Error(), "leads it into /proc|too many levels of symbolic links") {
				t.Errorf("%v: %v", link, err)
			}
			continue
		}
		bound, err := probe(t, a, "status", "CapBnd")
		t.Errorf("%v: it was made; commands may come to have %s, %v", link, bound, err)
		must(t, a.Close())
	}
}

// fewFilesVariable makes TestRemoveDeep the process that may not open many files.
const fewFilesVariable = "SANDBOX_TEST_FEW_FILES"

// TestRemoveDeep: folders in folders, deeper than there may be open files, do not stay for ever.
func TestRemoveDeep(t *testing.T) {
	dir := os.Getenv(fewFilesVariable)
	if dir == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRemoveDeep$")
		cmd.Env = append(os.Environ(), fewFilesVariable+"="+filepath.Join(t.TempDir(), "deep"), probesVariable+"="+probes)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 400, Max: 400}))
	must(t, os.Mkdir(dir, 0o755))
	a := start(t, Sandbox{Mounts: []Mount{{Source: dir, Target: "/home/build"}}})
	expect(t, a, "deepen", "/home/build", "2000")
	must(t, a.Close())
	must(t, Remove(t.Context(), dir))
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
