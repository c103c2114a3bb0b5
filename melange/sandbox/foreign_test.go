package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// emulatorVariable names a static qemu-aarch64; make test provides it.
const emulatorVariable = "SANDBOX_TEST_QEMU_AARCH64"

func foreignEmulator(t testing.TB) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("aarch64 is not foreign here")
	}
	if program := os.Getenv(emulatorVariable); program != "" {
		return program
	}
	for _, name := range []string{"qemu-aarch64-static", "qemu-aarch64"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Skipf("no emulator: %s names none, and there is no qemu-aarch64-static in PATH", emulatorVariable)
	return ""
}

// startForeign starts an environment with emulators. Kernels before Linux 6.7 have them of the host only; where that has
// none, what is said must be the cure.
func startForeign(t *testing.T, s Sandbox) *Agent {
	t.Helper()
	s.Emulators = map[string]string{"aarch64": foreignEmulator(t)}
	if s.Layers == nil {
		s.Layers = []string{probeLayer(native)}
	}
	a, err := s.Start(t.Context())
	if err != nil && !ownBinfmt(t) {
		if !strings.Contains(err.Error(), "update the kernel, or install qemu-user-static on the host") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, a.Close()) })
	return a
}

// ownBinfmt tells whether user namespaces have registrations of their own.
func ownBinfmt(t *testing.T) bool {
	var name unix.Utsname
	must(t, unix.Uname(&name))
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	must(t, err)
	return major > 6 || major == 6 && minor >= 7
}

// TestForeignArchitecture: programs of another architecture run as if they were native, in a root that
// has nothing else to run, with nothing registered on the host.
func TestForeignArchitecture(t *testing.T) {
	t.Parallel()
	before := registrations(t)
	a := startForeign(t, Sandbox{Layers: []string{probeLayer(native), probeLayer(foreign), layer(t, map[string]string{"bin/link": ">probe"})}})
	if out := expect(t, a, "arch"); out != "arm64" {
		t.Errorf("got %q", out)
	}
	var out strings.Builder
	must(t, a.Run(t.Context(), Command{Args: []string{"/bin/link", "name"}, Stdout: &out}))
	if out.String() != "/bin/link\n" {
		t.Errorf("was called %q", out.String())
	}
	expect(t, a, "self", "echo", "a child of its own")
	for _, tc := range [][2]string{
		{"append-child", "busy|read-only|permission denied"}, // the emulator, which is the host's file
		{"append /proc/sys/fs/binfmt_misc/status", "read-only|no such file"},
	} {
		if out, err := probe(t, a, strings.Fields(tc[0])...); err == nil || !oneOf(out, tc[1]) {
			t.Errorf("%s: %v: %s", tc[0], err, out)
		}
	}
	if after := registrations(t); after != before {
		t.Errorf("registered on the host: %s, before %s", after, before)
	}
}

func registrations(t *testing.T) string {
	files, err := filepath.Glob("/proc/sys/fs/binfmt_misc/*")
	must(t, err)
	return strings.Join(files, " ")
}

// TestBothArchitectures: a cross build's root is native, and what it has built runs as well.
func TestBothArchitectures(t *testing.T) {
	t.Parallel()
	a := startForeign(t, Sandbox{Mounts: []Mount{{Source: filepath.Join(probeLayer(foreign), "bin"), Target: "/home/build", ReadOnly: true}}})
	if out := expect(t, a, "arch"); out != runtime.GOARCH {
		t.Errorf("got %q", out)
	}
	var out strings.Builder
	must(t, a.Run(t.Context(), Command{Args: []string{"./probe", "arch"}, Dir: "/home/build", Stdout: &out}))
	if out.String() != "arm64\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestRegistration(t *testing.T) {
	// What Debian's qemu-user-static registers for aarch64, but for the flags.
	const want = `:qemu-aarch64:M::` +
		`\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:` +
		`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu:FPO`
	if got := registration("aarch64", "/usr/bin/qemu"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHostEmulators(t *testing.T) {
	dir := layer(t, map[string]string{
		"qemu-aarch64": "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask x\n",
		"qemu-riscv64": "enabled\ninterpreter /usr/bin/qemu\nflags: OC\noffset 0\nmagic 7f454c460201010000000000000000000200f300\nmask x\n",
		"qemu-s390x":   "disabled\ninterpreter /usr/bin/qemu\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\nmask x\n",
	})
	for _, tc := range []struct {
		arch string
		ok   bool
	}{{"aarch64", true}, {"riscv64", false}, {"s390x", false}, {"ppc64le", false}} {
		if err := hostEmulators([]emulator{{Arch: tc.arch}}, dir); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.arch, err)
		}
	}
}

func FuzzParseRegistered(f *testing.F) {
	f.Add("enabled\nflags: F\nmagic 7f45\n")
	f.Fuzz(func(t *testing.T, text string) {
		if magic, ok := parseRegistered(text); ok && magic == "" {
			t.Error("a registration without magic")
		}
	})
}
