package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/pipelines"
)

func TestMain(m *testing.M) {
	// The sandbox has set this; without it only root may confine itself.
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == unix.ENOTSUP { // with cgo it is this thread that counts
		runtime.LockOSThread()
		_, _, errno = syscall.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	}
	if errno != 0 {
		fmt.Fprintln(os.Stderr, "giving up new privileges:", errno)
		os.Exit(1)
	}
	Main()
	os.Exit(m.Run())
}

// module is that of the built-in programs.
func module(t testing.TB) []byte {
	t.Helper()
	data, err := pipelines.Module()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func add(t testing.TB, s *Store, data []byte) string {
	t.Helper()
	digest, err := s.Add(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// command is a process that runs the module; without a sandbox around it.
func command(t testing.TB, r Run) *exec.Cmd {
	t.Helper()
	args, err := r.Command()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = args
	return cmd
}

// TestDamagedStore: machine code that is not what it was, or not there, is made anew of the module, and so is that of a
// husk which is not the module's. A module that is not what it was does not run.
func TestDamagedStore(t *testing.T) {
	root := t.TempDir()
	left := filepath.Join(root, ".packlist")
	for _, tc := range []struct {
		name, file string // below the module's folder, a pattern
		damage     func(file string) error
		says       string // instead of running
	}{
		{"whole", "*", func(string) error { return nil }, ""},
		{"code cut", "*/*", func(file string) error { return os.Truncate(file, 1000) }, ""},
		{"code gone", "*/*", os.Remove, ""},
		{"husk cut", huskName, func(file string) error { return os.Truncate(file, 1000) }, ""},
		{"husk of another", huskName, func(file string) error { return flip(file, 1<<19) }, ""},
		{"husk gone", huskName, os.Remove, ""},
		{"module cut", "*.wasm", func(file string) error { return os.Truncate(file, 1000) }, "module %s is not what it was in the store\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &Store{Dir: t.TempDir()}
			r := Run{Store: s.Dir, Digest: add(t, s, module(t)), Args: []string{"perl/cleanup", "--dir=" + root}, Root: root, Dir: root}
			files, err := filepath.Glob(filepath.Join(filepath.Dir(moduleFile(s.Dir, r.Digest)), tc.file))
			if err != nil || len(files) == 0 {
				t.Fatalf("there is no %s: %v", tc.file, err)
			}
			for _, file := range files {
				if err := tc.damage(file); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(left, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := command(t, r).CombinedOutput()
			if tc.says != "" {
				if err == nil || string(out) != fmt.Sprintf(tc.says, r.Digest) {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", left, err)
			}
		})
	}
}

// flip changes a byte of a file.
func flip(file string, at int) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data[at] ^= 1
	return os.WriteFile(file, data, 0o644)
}

// TestGC: what was used lately stays.
func TestGC(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	digest := add(t, s, module(t))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(moduleFile(s.Dir, digest), old, old); err != nil {
		t.Fatal(err)
	}
	add(t, s, module(t))
	if freed, err := s.GC(time.Minute); err != nil || freed != 0 {
		t.Errorf("%d bytes of what is used went, %v", freed, err)
	}
	if err := os.Chtimes(moduleFile(s.Dir, digest), old, old); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(time.Minute); err != nil || freed < int64(len(module(t))) {
		t.Errorf("%d bytes of what is not used went, %v", freed, err)
	}
	if _, err := os.Stat(moduleFile(s.Dir, digest)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// BenchmarkStart is a built-in program that finds nothing to do, from the start of its process to its end. Beside it, the
// same for /bin/sh, which every step needed before.
func BenchmarkStart(b *testing.B) {
	s := &Store{Dir: b.TempDir()}
	root := b.TempDir()
	r := Run{Store: s.Dir, Digest: add(b, s, module(b)), Args: []string{"perl/cleanup", "--dir=" + root}, Root: root, Dir: root}
	var shell, cpu time.Duration
	for b.Loop() {
		cmd := command(b, r)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		cpu += processors(cmd)
		b.StopTimer()
		begin := time.Now()
		if err := exec.Command("/bin/sh", "-c", "find "+root+" -name .packlist").Run(); err != nil {
			b.Fatal(err)
		}
		shell += time.Since(begin)
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(shell.Nanoseconds())/float64(b.N), "sh-ns/op")
}

// processors is the time that a command took of them.
func processors(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// BenchmarkStrip strips copies of the machine's own programs, and has the strip of binutils do the same.
func BenchmarkStrip(b *testing.B) {
	strip, err := exec.LookPath("strip")
	if err != nil {
		b.Skip("there is no strip to compare with")
	}
	s := &Store{Dir: b.TempDir()}
	digest := add(b, s, module(b))
	var files []string
	var bytes int64
	var ours, theirs time.Duration // of processors
	for b.Loop() {
		b.StopTimer()
		root, other := b.TempDir(), b.TempDir()
		if files, bytes, err = copies(root, other); err != nil {
			b.Fatal(err)
		}
		binutils := exec.Command(strip, append([]string{"-g"}, files...)...)
		if err := binutils.Run(); err != nil {
			b.Fatal(err)
		}
		theirs += processors(binutils)
		r := Run{Store: s.Dir, Digest: digest, Root: root, Dir: root, Args: []string{"strip", "--dir=" + root, "--arch=x86_64"}}
		b.StartTimer()
		cmd := command(b, r)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		ours += processors(cmd)
	}
	b.SetBytes(bytes)
	b.ReportMetric(float64(ours)/float64(theirs), "cpu-of-binutils")
}

// copies puts the tests' own program, which has all its symbols, and some of the machine's into two folders. It lists
// those of the second.
func copies(folders ...string) (files []string, bytes int64, err error) {
	names, err := filepath.Glob("/usr/bin/*")
	if err != nil {
		return nil, 0, err
	}
	names = append(names[:min(len(names), 300)], "/proc/self/exe")
	for _, name := range slices.Backward(names) {
		data, err := os.ReadFile(name)
		if err != nil || len(data) < 4 || string(data[:4]) != "\x7fELF" {
			continue
		}
		bytes += int64(len(data))
		for i, folder := range folders {
			file := filepath.Join(folder, filepath.Base(name))
			if err := os.WriteFile(file, data, 0o755); err != nil {
				return nil, 0, err
			}
			if i == len(folders)-1 {
				files = append(files, file)
			}
		}
	}
	return files, bytes, nil
}
