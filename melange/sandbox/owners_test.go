package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const given = "/home/build/out" // where files are given away

// givingAgent is an environment with a folder for it on a disk, and another that is read-only.
func givingAgent(t *testing.T, s Sandbox) *Agent {
	t.Helper()
	s.Mounts = givingMounts(t)
	a := start(t, s)
	expect(t, a, "mkdir", given)
	return a
}

func givingMounts(t *testing.T) []Mount {
	return []Mount{
		{Source: t.TempDir(), Target: "/home/build"}, {Source: layer(t, map[string]string{"file": "x"}), Target: "/shown", ReadOnly: true},
	}
}

// packaged is what Tar makes of the folder.
func packaged(t *testing.T, a *Agent) []string {
	t.Helper()
	var stream bytes.Buffer
	must(t, a.Tar(t.Context(), given, &stream))
	return listing(t, &stream)
}

// TestOwners: files belong in the package to whom the step gave them, whoever exists inside. The same is packaged
// by root and by an ordinary user.
func TestOwners(t *testing.T) {
	t.Parallel()
	testOwners(t, givingAgent(t, Sandbox{}))
}

// TestOwnersForeign: an emulator makes the calls of the programs that it runs.
func TestOwnersForeign(t *testing.T) {
	t.Parallel()
	a := startForeign(t, Sandbox{Layers: []string{probeLayer(native), probeLayer(foreign)}, Mounts: givingMounts(t)})
	expect(t, a, "mkdir", given)
	testOwners(t, a)
}

func testOwners(t *testing.T, a *Agent) {
	script := strings.Join([]string{
		"write a-plain x", "chown 197609 197121 a-plain",
		"write b-large x", "chown 4294967294 4294967293 b-large",
		"write c-service x", "chown 33 44 c-service",
		"write d-back x", "chown 197609 197121 d-back", "chown 0 0 d-back",
		"write e-half x", "chown 197609 197121 e-half", "chown -1 7 e-half",
		"write f-other-half x", "chown 197609 -1 f-other-half",
		"write g-twice x", "chown 197609 197121 g-twice", "chown 1000001 1000002 g-twice",
		"write h-opened x", "fchown 197609 197121 h-opened",
		"write i-place x", "chown-empty 197609 197121 i-place",
		"mkdir j-folder", "write j-folder/x x", "chown-in 197609 197121 j-folder", "chown 70000 70001 j-folder",
		"write k-target x", "symlink k-target l-link", "chown 197609 197121 l-link", "symlink k-target m-link", "chown-far 80000 80001 m-link",
		"symlink nowhere n-link", "chown-empty 197609 197121 n-link",
		"write o-name x", "link o-name p-name", "chown 197609 197121 p-name",
		"write q-old x", "chown 197609 197121 q-old", "rename q-old r-new",
		"mkfifo s-pipe", "chown 197609 197121 s-pipe",
		"write t-stranger x", "chown 65535 65535 t-stranger",
		"write u-setuid x", "chown 197609 197121 u-setuid", "chmod 4755 u-setuid",
	}, " ; ")
	if out, err := probeAs(t.Context(), a, Command{Args: strings.Fields(script), Dir: given}); err != nil {
		t.Fatal(err, out)
	}
	want := []string{
		"a-plain 644 197609:197121",
		"b-large 644 4294967294:4294967293",
		"c-service 644 33:44",
		"d-back 644 0:0",
		"e-half 644 197609:7",
		"f-other-half 644 197609:0",
		"g-twice 644 1000001:1000002",
		"h-opened 644 197609:197121",
		"i-place 644 197609:197121",
		"j-folder/ 755 70000:70001",
		"j-folder/x 644 197609:197121",
		"k-target 644 80000:80001",
		"l-link 777 197609:197121 -> k-target",
		"m-link 777 0:0 -> k-target",
		"n-link 777 197609:197121 -> nowhere",
		"o-name 644 197609:197121",
		"p-name 644 197609:197121 = o-name",
		"r-new 644 197609:197121",
		"s-pipe 644 197609:197121",
		"t-stranger 644 0:0",
		"u-setuid 4755 197609:197121",
	}
	if diff := cmp.Diff(want, packaged(t, a)); diff != "" {
		t.Error(diff)
	}
	stranger := "0:0"
	if idCount() > 1 {
		stranger = "65535:65535"
	}
	if out := expect(t, a, "owner", given+"/a-plain"); out != stranger {
		t.Errorf("it is shown as %s, not as %s", out, stranger)
	}
}

// TestOwnersOfReusedNumbers: a new file has nothing of a file that had its number before.
func TestOwnersOfReusedNumbers(t *testing.T) {
	t.Parallel()
	a := givingAgent(t, Sandbox{})
	t.Log(expect(t, a, "chown-reuse", "197609", "197609", given))
	if got := packaged(t, a); !slices.Equal(got, []string{"reused 644 0:0"}) {
		t.Errorf("got %q", got)
	}
}

// TestOwnersInChroot: what the agent finds is what the caller would have found.
func TestOwnersInChroot(t *testing.T) {
	t.Parallel()
	a := givingAgent(t, Sandbox{})
	const script = "mkdir cell/sub ; write cell/absolute x ; write cell/relative x ; write cell/file x ; symlink /file cell/link ; " +
		"chown-chroot 197609 197121 cell"
	if out, err := probeAs(t.Context(), a, Command{Args: strings.Fields(script), Dir: given}); err != nil {
		t.Fatal(err, out)
	}
	want := []string{
		"cell/ 755 0:0", "cell/absolute 644 197609:197121", "cell/file 644 197609:197121", "cell/link 777 0:0 -> /file",
		"cell/relative 644 197609:197121", "cell/sub/ 755 0:0",
	}
	if diff := cmp.Diff(want, packaged(t, a)); diff != "" {
		t.Error(diff)
	}
}

// TestOwnersRefused: what is wrong with a call is told as ever, and nobody gives away what is the agent's.
func TestOwnersRefused(t *testing.T) {
	t.Parallel()
	a := givingAgent(t, Sandbox{})
	expect(t, a, "write", given+"/file", "x")
	for _, tc := range []struct{ command, want string }{
		{"chown 197609 197609 missing", "no such file"},
		{"chown 197609 197609 file/x", "not a directory"},
		{"chown 197609 197609 " + strings.Repeat("x", 300), "file name too long"},
		{"chown 197609 197609 " + strings.Repeat("x/", 2500), "file name too long"},
		{"chown 197609 197609 /shown/file", "read-only file system"},
		{"chown-closed 1 1 x", "bad file descriptor"},
		{"chown-dropped 197609 197609 file", "not permitted|invalid argument"},
		{"chown-far 197609 197609 /proc/self/exe", "invalid argument|not permitted|read-only"},
		{"chown-far 197609 197609 /proc/1/exe", "permission denied"},
		{"chown-far 197609 197609 /proc/1/fd/3", "permission denied"},
		{"chown-far 197609 197609 /proc/1/root/home/build/out/file", "permission denied"},
		{"chown 197609 197609 /proc/1/oom_score_adj", "invalid argument|not permitted|read-only"},
	} {
		out, err := probeAs(t.Context(), a, Command{Args: strings.Fields(tc.command), Dir: given})
		if err == nil || !oneOf(out, tc.want) {
			t.Errorf("%.80s: %v: got %.80q, want %q", tc.command, err, out, tc.want)
		}
	}
	if got := packaged(t, a); !slices.Equal(got, []string{"file 644 0:0"}) {
		t.Errorf("got %q", got)
	}
}

// TestOwnersUnderFire: neither signals nor a command's death in the middle of a call confuse the agent.
func TestOwnersUnderFire(t *testing.T) {
	t.Parallel()
	a := givingAgent(t, Sandbox{})
	expect(t, a, "chown-signals", "200000", "300000", given)
	var want []string
	for worker := range 8 {
		for i := range 100 {
			want = append(want, fmt.Sprintf("%d-%d 644 %d:%d", worker, i, 200000+worker, 300000+i))
		}
	}
	slices.Sort(want)
	got := packaged(t, a)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	a.limits.Wall = 50 * time.Millisecond
	for range 5 {
		if _, err := probe(t, a, "chown-forever", "197609", "197609", given+"/0-0"); err == nil || err.Error() != "exceeded wall-clock limit 50ms" {
			t.Errorf("got %v", err)
		}
	}
	a.limits = Limits{}
	expect(t, a, "chown", "5000000", "5000000", given+"/0-0")
	if got := packaged(t, a); !slices.Contains(got, "0-0 644 5000000:5000000") {
		t.Errorf("got %q", got)
	}
}

// TestOwnersWithNetwork: the other launcher's commands are heard as well.
func TestOwnersWithNetwork(t *testing.T) {
	t.Parallel()
	a := givingAgent(t, Sandbox{Network: true})
	expect(t, a, "write", given+"/file", "x")
	if out, err := probeAs(t.Context(), a, Command{Args: []string{"chown", "197609", "5", given + "/file"}, Network: true}); err != nil {
		t.Fatal(err, out)
	}
	if got := packaged(t, a); !slices.Equal(got, []string{"file 644 197609:5"}) {
		t.Errorf("got %q", got)
	}
}

// TestOwnersBounded: more than can be noted is refused, and what is noted can still be changed.
func TestOwnersBounded(t *testing.T) {
	if os.Getuid() != 0 {
		return // the kernel must take the stranger, root, for an owner
	}
	o := &owners{notes: make(map[fileID]owner)}
	for i := range ownersLimit {
		o.notes[fileID{number: uint64(i)}] = owner{1, 1}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	defer file.Close()
	o.uids = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	o.gids = o.uids
	to := owner{uid: 197609, gid: unchanged}
	if err := o.give(int(file.Fd()), to); err != syscall.ENOSPC {
		t.Errorf("got %v", err)
	}
	delete(o.notes, fileID{number: 7})
	must(t, o.give(int(file.Fd()), to))
	to.uid = 197610
	must(t, o.give(int(file.Fd()), to))
	if uid, _, err := o.of(file.Name(), 0, 0); err != nil || uid != 197610 {
		t.Errorf("it is %d's, %v", uid, err)
	}
}

func TestMapped(t *testing.T) {
	for _, tc := range []struct {
		ids             mapped
		stranger, below uint32
		foreign, own    []uint32
	}{
		{mapped{{ContainerID: 0, Size: 65536}}, 65535, 65535, []uint32{65535, 65536, 1 << 31, 1<<32 - 2}, []uint32{0, 1, 65534, unchanged}},
		{mapped{{ContainerID: 0, Size: 1}}, 0, 0, []uint32{0, 1, 65535}, []uint32{unchanged}},
		{mapped{{ContainerID: 0, Size: 1}, {ContainerID: 1, Size: 9}, {ContainerID: 65535, Size: 1}}, 65535, 10, []uint32{10, 65535}, []uint32{0, 9}},
		{mapped{{ContainerID: 100, Size: 5}, {ContainerID: 0, Size: 3}, {ContainerID: 65535, Size: 1}}, 65535, 3, []uint32{3, 99, 105}, []uint32{2, 100, 104}},
	} {
		if tc.ids.stranger() != tc.stranger || tc.ids.below() != tc.below {
			t.Errorf("%v: the stranger is %d, and none is foreign below %d", tc.ids, tc.ids.stranger(), tc.ids.below())
		}
		for _, id := range tc.foreign {
			if !tc.ids.foreign(id) {
				t.Errorf("%v: %d is not foreign", tc.ids, id)
			}
		}
		for _, id := range tc.own {
			if tc.ids.foreign(id) {
				t.Errorf("%v: %d is foreign", tc.ids, id)
			}
		}
	}
}

func TestWithStranger(t *testing.T) {
	type ids = []syscall.SysProcIDMap
	for _, tc := range []struct{ have, want ids }{
		{ids{{ContainerID: 0, HostID: 1000, Size: 1}}, ids{{ContainerID: 0, HostID: 1000, Size: 1}}},
		{ids{{ContainerID: 0, HostID: 0, Size: 65536}}, ids{{ContainerID: 0, HostID: 0, Size: 65536}}},
		{ids{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 1000}},
			ids{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 999}, {ContainerID: 65535, HostID: 100999, Size: 1}}},
		{ids{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 1}},
			ids{{ContainerID: 0, HostID: 1000, Size: 1}, {ContainerID: 65535, HostID: 100000, Size: 1}}},
	} {
		if diff := cmp.Diff(tc.want, withStranger(tc.have)); diff != "" {
			t.Errorf("%v: %s", tc.have, diff)
		}
	}
}

// TestOwnStreams: a command that is somebody opens its streams by name.
func TestOwnStreams(t *testing.T) {
	a := start(t, Sandbox{UID: 1000, GID: 1000})
	out, err := probe(t, a, "append", "/dev/stdout")
	if err != nil || out != "opened /dev/stdout" {
		t.Errorf("got %q, %v", out, err)
	}
}

// unheardVariable makes TestUnheard the caller whom the kernel gives no listener.
const unheardVariable = "SANDBOX_TEST_UNHEARD"

// TestUnheard: where nobody can listen to system calls, or somebody outside does already, all is as ever but for files
// that are to be given to ids which there are not.
func TestUnheard(t *testing.T) {
	if os.Getenv(unheardVariable) != "" {
		testUnheard(t)
		return
	}
	refuse := func(e syscall.Errno) []unix.SockFilter {
		var p program
		p.load(dataNumber)
		p.call(unix.SYS_SECCOMP, 1, func(p *program) { p.ifAny(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, errno(e)) })
		p.end(unix.SECCOMP_RET_ALLOW)
		return p
	}
	var nothing program
	nothing.end(unix.SECCOMP_RET_ALLOW)
	for _, tc := range []struct {
		name   string
		filter []unix.SockFilter
		flags  uintptr
	}{
		{"unknown to the kernel", refuse(unix.EINVAL), 0},
		{"forbidden", refuse(unix.EPERM), 0},
		{"there is one", nothing, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
	} {
		t.Run(tc.name, func(t *testing.T) {
			thread, err := newLauncher(func() error {
				if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
					return err
				}
				listener, errno := setFilter(tc.filter, tc.flags)
				if errno != 0 {
					return errno
				}
				if listener > 0 {
					t.Cleanup(func() { unix.Close(listener) })
				}
				return nil
			})
			must(t, err)
			defer close(thread)
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnheard$")
			cmd.Env = append(os.Environ(), unheardVariable+"=1", probesVariable+"="+probes)
			var out []byte
			thread.do(func() { out, err = cmd.CombinedOutput() })
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func testUnheard(t *testing.T) {
	a := givingAgent(t, Sandbox{})
	script := "write a x ; chown 0 0 a ; write b x ; chmod 4755 b"
	want := []string{"a 644 0:0", "b 4755 0:0"}
	if idCount() > 1 {
		script, want[0] = strings.Replace(script, "0 0", "33 44", 1), "a 644 33:44"
	}
	if out, err := probeAs(t.Context(), a, Command{Args: strings.Fields(script), Dir: given}); err != nil {
		t.Fatal(err, out)
	}
	for _, tc := range [][2]string{
		{"chown 197609 197121 " + given + "/a", "invalid argument"},
		{"prlimit 1", "not permitted"}, {"affinity 1", "not permitted"}, {"nice-user", "not permitted"}, {"mount", "not permitted"},
	} {
		if out, err := probe(t, a, strings.Fields(tc[0])...); err == nil || !strings.Contains(out, tc[1]) {
			t.Errorf("%s: got %q, %v", tc[0], out, err)
		}
	}
	expect(t, a, "child", "nice")
	if diff := cmp.Diff(want, packaged(t, a)); diff != "" {
		t.Error(diff)
	}
}
