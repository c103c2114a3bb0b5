package sandbox

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What is denied, and where that is shown. TestAsOrdinaryUser runs all of it a second time without root's rights, and
// scripts/judge-kernel on other kernels, with control groups of our own.
//
//	network: IPv4, IPv6, abstract and other sockets   TestDenied, TestNetwork
//	files of the host, and of the agent               TestDenied, TestSeen
//	other processes: kill, ptrace, memory, priority   TestDenied, TestSeen, TestSignalsToTheAgent
//	mount, unshare, setns, clone                      TestDenied, TestAdministration
//	keyctl, bpf, perf, kexec, io_uring and the like   TestDenied
//	disks, device nodes, terminals                    TestDenied, TestTerminalInput
//	settings: /proc/sys, /sys                         TestDenied, TestAdministration, TestCoveredProc
//	numbers of other ABIs, calls newer than ours      TestForeignABI, TestDenied
//	setuid and capabilities of files                  TestNoGain, TestIdentity
//	out by symbolic link, hard link, "..", chroot     TestDenied, TestLedOut, TestOwnersInChroot
//	by open descriptors and magic links               TestSeen, TestDenied, TestLedOut, TestForeignArchitecture
//	fork bomb, memory hog, disk filler                TestEndings, TestDiskOnDisk, TestScarceDisk, TestGroupEnds
//	sleep for ever, silent hang, output flood         TestEndings
//	what a user has only so many of                   TestDenied
//	what stays running after a command                TestNothingOutlivesACommand, TestClose, TestLostCaller
//	what a command leaves for who reads it            TestLedOut, TestSparse, TestRemoveDeep, TestTar
//	chown under fire, and notes without end           TestOwnersUnderFire, TestOwnersBounded

// host is what an attacker inside would like to reach.
type host struct {
	secret          string // a file
	tcp4, tcp6, abs net.Listener
	process         *exec.Cmd
}

func newHost(t *testing.T) host {
	t.Helper()
	h := host{secret: filepath.Join(t.TempDir(), "secret")}
	must(t, os.WriteFile(h.secret, []byte("secret"), 0o666))
	listen := func(network, address string) net.Listener {
		l, err := net.Listen(network, address)
		must(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	h.tcp4 = listen("tcp4", "127.0.0.1:0")
	h.tcp6 = listen("tcp6", "[::1]:0")
	h.abs = listen("unix", "@sandbox-test-"+strconv.Itoa(os.Getpid()))
	h.process = exec.Command(filepath.Join(probeLayer(native), "bin/probe"), "sleep", "1h")
	must(t, h.process.Start())
	t.Cleanup(func() {
		if err := h.process.Process.Kill(); err != nil {
			t.Errorf("the host's process did not survive: %v", err)
		}
		h.process.Wait()
	})
	return h
}

// TestDenied lists the ways out one by one. Each tool succeeds when it is not stopped.
func TestDenied(t *testing.T) {
	h := newHost(t)
	shown := layer(t, map[string]string{"file": "shown read-only"})
	a := start(t, Sandbox{
		Layers: []string{layer(t, map[string]string{
			"absolute":   ">" + h.secret,
			"relative":   ">" + strings.Repeat("../", 40) + h.secret[1:],
			"throughpid": ">/proc/1/root" + h.secret,
		})},
		Mounts: []Mount{{Source: shown, Target: "/shown", ReadOnly: true}},
	})
	pid := strconv.Itoa(h.process.Process.Pid)
	flag := func(f int) string { return strconv.Itoa(f) }
	const (
		eperm  = "operation not permitted"
		eacces = "permission denied"
		enoent = "no such file or directory"
		enosys = "function not implemented"
		erofs  = "read-only file system"
		esrch  = "no such process"
	)
	for _, tc := range []struct{ name, command, want string }{
		{"network, IPv4", "dial tcp4 " + h.tcp4.Addr().String(), "connection refused"},
		{"network, IPv6", "dial tcp6 " + h.tcp6.Addr().String(), "connection refused"},
		{"network beyond the machine", "dial tcp4 192.0.2.1:80", "network is unreachable"},
		{"abstract sockets of the host", "dial unix " + h.abs.Addr().String(), "connection refused"},
		{"sockets of virtual machines", "vsock", "address family not supported"},
		{"raw frames", "packet", "address family not supported"},
		{"the kernel's ciphers", "alg", "address family not supported"},
		{"raw packets", "raw", eperm},

		{"a file of the host", "open " + h.secret, enoent},
		{"an absolute link", "open /absolute", enoent},
		{"a relative link", "open /relative", enoent},
		{"dots", "open /.." + h.secret, enoent},
		{"out of a chroot", "unchroot " + h.secret, enoent},
		{"the agent's root", "open /proc/1/root" + h.secret, eacces},
		{"a link to the agent's root", "open /throughpid", eacces},
		{"the agent's folder", "open /proc/1/cwd", eacces},
		{"the agent's program", "readlink /proc/1/exe", eacces},
		{"the agent's program, to write", "append /proc/1/exe", eacces},
		{"the agent's memory", "open /proc/1/mem", eacces},
		{"the agent's open files", "open /proc/1/fd/3", eacces},
		{"the agent's environment", "open /proc/1/environ", eacces},
		{"its own program by magic link", "append /proc/self/exe", "text file busy|" + eacces},
		{"a hard link out of a read-only mount", "link /shown/file /tmp/file", "invalid cross-device link"},
		{"a file shown read-only", "write /shown/file x", erofs},
		{"the mode of a file shown read-only", "chmod 777 /shown/file", erofs},

		{"a process of the host", "kill " + pid + " 9", esrch},
		{"its group", "kill -" + pid + " 9", esrch},
		{"tracing the agent", "ptrace 1", eperm},
		{"the agent's memory, by call", "readvm 1", eperm},
		{"tracing the host", "ptrace " + pid, esrch},
		{"the agent's memory, to write", "writevm 1", eperm},
		{"a copy of the agent's open file", "borrow 1 3", eperm},
		{"what the agent has in common with others", "kcmp 1", eperm}, {"where the agent's memory lies", "migrate 1", eperm},
		{"what the agent's memory is good for", "madvise 1", eperm + "|" + eacces},
		{"the audit of the kernel", "audit", eperm + "|connection refused|protocol not supported"},
		{"the limits of the agent", "prlimit 1", eperm}, {"the processors of the agent", "affinity 1", eperm},
		{"the priority of the agent", "nice 1", eperm}, {"the agent's turn at disks", "ionice 1", eperm},
		{"the limits of the agent, by a thread", "agents prlimit", "none of"}, {"the processors of the agent's threads", "agents affinity", "none of"},
		{"the priority of the agent's threads", "agents nice", "none of"}, {"their turn at disks", "agents ionice", "none of"},
		{"the priority of all of the user's", "nice-user", eperm}, {"their turn at disks, all at once", "ionice-user", eperm},
		{"when the agent is killed for memory", "append /proc/1/oom_score_adj", erofs}, {"what the agent's cores have", "append /proc/1/coredump_filter", erofs},
		{"what the agent has touched", "append /proc/1/clear_refs", erofs}, {"the name of a thread of the agent", "append /proc/1/task/1/comm", erofs},
		{"the host's process in its folder of /proc", "ls /proc/" + pid, enoent},
		{"all that the user has of watches over files", "inotify 100", "too many open files"},

		{"mount", "mount", eperm}, {"umount", "umount", eperm}, {"pivot_root", "pivot_root", eperm},
		{"fsopen", "fsopen", eperm}, {"fspick", "fspick", eperm}, {"open_tree", "open_tree", eperm},
		{"move_mount", "move_mount", eperm}, {"mount_setattr", "mount_setattr", eperm},
		{"a new user namespace", "unshare " + flag(unix.CLONE_NEWUSER), eperm},
		{"a new mount namespace", "unshare " + flag(unix.CLONE_NEWNS), eperm},
		{"a new process namespace", "unshare " + flag(unix.CLONE_NEWPID), eperm},
		{"a new network namespace", "unshare " + flag(unix.CLONE_NEWNET), eperm},
		{"a new namespace of queues", "unshare " + flag(unix.CLONE_NEWIPC), eperm},
		{"a new namespace of names", "unshare " + flag(unix.CLONE_NEWUTS), eperm},
		{"a new cgroup namespace", "unshare " + flag(unix.CLONE_NEWCGROUP), eperm},
		{"a new time namespace", "unshare " + flag(unix.CLONE_NEWTIME), eperm},
		{"a process in a new user namespace", "clone " + flag(unix.CLONE_NEWUSER), eperm},
		{"a process in a new network", "clone " + flag(unix.CLONE_NEWNET), eperm},
		{"clone3", "clone3", enosys}, {"setns", "setns", eperm},
		{"keyctl", "keyctl", eperm}, {"add_key", "add_key", eperm}, {"request_key", "request_key", eperm},
		{"bpf", "bpf", eperm}, {"perf_event_open", "perf", eperm}, {"userfaultfd", "userfaultfd", eperm},
		{"io_uring", "io_uring", enosys}, {"open_by_handle_at", "by_handle", eperm},
		{"kexec_load", "kexec", eperm}, {"kexec_file_load", "kexec_file", eperm}, {"name_to_handle_at", "handle_of", eperm}, {"init_module", "init_module", eperm}, {"delete_module", "delete_module", eperm},
		{"reboot", "reboot", eperm}, {"swapon", "swapon", eperm}, {"acct", "acct", eperm}, {"quotactl", "quotactl", eperm},
		{"the clock", "settime", eperm}, {"the kernel's log", "syslog", eperm}, {"the host's name", "sethostname", eperm},
		{"a call newer than the filter", "newer", enosys},
		{"input for a terminal", "tiocsti", eperm},

		{"a device node", "mknod /tmp/null", eperm},
		{"the node of a disk", "mknod-disk /tmp/disk", eperm},
		{"memory as a device", "open /dev/mem", enoent},
		{"a disk", "open /dev/vda", enoent},
		{"more in /dev", "write /dev/new x", erofs},
		{"a setting of the kernel", "append /proc/sys/kernel/core_pattern", erofs + "|" + eacces},
		{"a setting of the network", "append /proc/sys/net/ipv4/ip_forward", erofs + "|" + eacces},
		{"a setting of the namespace", "append /proc/sys/user/max_user_namespaces", erofs + "|" + eacces},
		{"what interrupts go where", "write /proc/irq/default_smp_affinity 1", erofs + "|" + eacces},
		{"sysrq", "append /proc/sysrq-trigger", ""},
		{"/sys, to write", "write /sys/x x", erofs},
		{"/sys, to read", "ls /sys/kernel", enoent},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := probe(t, a, strings.Fields(tc.command)...)
			if err == nil {
				t.Fatalf("was let: %s", out)
			}
			if !oneOf(out, tc.want) {
				t.Errorf("got %q, want %q", out, tc.want)
			}
			if strings.Contains(out, "none of 0") {
				t.Error("the agent's threads were not found")
			}
		})
	}
}

// TestNetwork: permission is for the environment, use is for each command.
func TestNetwork(t *testing.T) {
	h := newHost(t)
	a := start(t, Sandbox{Network: true})
	reach := func(c Command, network, address string) (string, error) {
		c.Args = []string{"dial", network, address}
		return probeAs(t.Context(), a, c)
	}
	if out, err := reach(Command{Network: true}, "tcp4", h.tcp4.Addr().String()); err != nil {
		t.Errorf("with the network: %v: %s", err, out)
	}
	if out, err := reach(Command{}, "tcp4", h.tcp4.Addr().String()); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("without: %v: %s", err, out)
	}
	out, err := reach(Command{Network: true}, "unix", h.abs.Addr().String())
	if landlockScopes() && (err == nil || !strings.Contains(out, "not permitted")) {
		t.Errorf("abstract sockets: %v: %s", err, out)
	}
	for _, tool := range []string{"mount", "bpf", "vsock"} {
		if out, err := probeAs(t.Context(), a, Command{Args: []string{tool}, Network: true}); err == nil {
			t.Errorf("%s with the network: %s", tool, out)
		}
	}
	none := start(t, Sandbox{})
	if _, err := probeAs(t.Context(), none, Command{Args: []string{"echo"}, Network: true}); err == nil || !strings.Contains(err.Error(), "permits no network") {
		t.Errorf("without permission: %v", err)
	}
}

// landlockScopes reports whether this kernel can keep processes from abstract sockets.
func landlockScopes() bool {
	const version = 1
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0 && abi >= 6
}

// TestSeen says what there is to see inside, which is next to nothing.
func TestSeen(t *testing.T) {
	t.Setenv("SANDBOX_TEST_SECRET", "must not be seen")
	// A caller may itself have been started with open files.
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETFD, 0)
	must(t, err)
	a := start(t, Sandbox{})
	kept := uint64(0)
	for _, c := range keptCapabilities {
		kept |= 1 << c
	}
	mask := strconv.FormatUint(kept, 16)
	for _, tc := range []struct{ command, want string }{
		{"env", ""},
		{"fds", "0\n1\n2"},
		{"ls /", "bin\ndev\nproc\nsys\ntmp"},
		{"ls /dev", "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero"},
		{"ls /sys", ""},
		{"ls /tmp", ""},
		{"read /proc/kallsyms /proc/keys /proc/cmdline /proc/kcore", ""},
		{"cat /proc/self/cgroup", "*"},
		{"status NoNewPrivs", "1"},
		{"status Seccomp", "2"},
		{"status CapBnd", strings.Repeat("0", 16-len(mask)) + mask},
		{"status CapEff", strings.Repeat("0", 16-len(mask)) + mask},
		{"status CapInh", "0000000000000000"},
	} {
		t.Run(tc.command, func(t *testing.T) {
			out := expect(t, a, strings.Fields(tc.command)...)
			if tc.want != "*" && out != tc.want {
				t.Errorf("got %q, want %q", out, tc.want)
			}
			if strings.Contains(out, "must not") || strings.Contains(out, groupPrefix) {
				t.Errorf("%q tells about the host", out)
			}
		})
	}
	for line := range strings.Lines(expect(t, a, "ps")) {
		if !strings.Contains(line, "probe ps") && !strings.Contains(line, processName+" ") {
			t.Errorf("a foreign process: %s", line)
		}
	}
}

// TestAllowed holds what builds do need, which a stricter sandbox would break.
func TestAllowed(t *testing.T) {
	a := start(t, Sandbox{})
	for _, command := range []string{
		"mkfifo /tmp/pipe", "inet", "write /dev/null x", "append /dev/full", "open /dev/urandom", "open /proc/cpuinfo", "open /proc/meminfo",
		"open /proc/sys/kernel/osrelease", "ls /proc/self/fd", "unshare " + strconv.Itoa(unix.CLONE_FILES), "write /dev/shm/x x", "write /file x", "rm /bin/none",
		"inotify 50", "child prlimit", "child affinity", "child nice", "child ionice", "prlimit 0", "affinity 0", "nice 0", "write /proc/self/oom_score_adj 800",
	} {
		expect(t, a, strings.Fields(command)...)
	}
	if out, err := probe(t, a, "dial", "tcp4", "127.0.0.1:1"); err == nil || !strings.Contains(out, "refused") {
		t.Errorf("loopback: %s", out)
	}
}

// TestNoGain: setuid bits and file capabilities can be made, and mean nothing.
func TestNoGain(t *testing.T) {
	upper := filepath.Join(t.TempDir(), "u")
	t.Cleanup(func() { Remove(context.Background(), upper) })
	a := start(t, Sandbox{Upper: upper})
	expect(t, a, "copy", "/bin/probe", "/setuid", ";", "chmod", "6755", "/setuid")
	expect(t, a, "copy", "/bin/probe", "/setcap", ";", "setcap", "/setcap")
	must(t, a.Close())
	a = start(t, Sandbox{Upper: upper, UID: 1000, GID: 1000})
	for _, tc := range [][]string{
		{"/setuid", "status", "Uid", "1000\t1000\t1000\t1000"}, {"/setuid", "status", "Gid", "1000\t1000\t1000\t1000"},
		{"/setcap", "status", "CapEff", "0000000000000000"}, {"/setcap", "status", "CapPrm", "0000000000000000"},
	} {
		var out strings.Builder
		must(t, a.Run(t.Context(), Command{Args: tc[:3], Stdout: &out}))
		if strings.TrimSpace(out.String()) != tc[3] {
			t.Errorf("%v: %q", tc, out.String())
		}
	}
}

// unprivileged is an id that nobody has.
const unprivileged = 54321

// TestAsOrdinaryUser runs all other tests again without root's rights.
func TestAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || os.Getenv(probesVariable) != "" {
		return
	}
	tmp := t.TempDir()
	must(t, os.Chmod(filepath.Dir(tmp), 0o755))
	must(t, os.Chown(tmp, unprivileged, unprivileged))
	args := []string{"-test.timeout=5m"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.Command(filepath.Join(probes, "tests"), args...)
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), probesVariable+"="+probes, "TMPDIR="+tmp, "HOME="+tmp)
	if emulator := os.Getenv(emulatorVariable); emulator != "" {
		// It may lie in a folder that is root's alone.
		program, err := os.ReadFile(emulator)
		must(t, err)
		open := filepath.Join(tmp, "qemu-aarch64")
		must(t, os.WriteFile(open, program, 0o755))
		cmd.Env = append(cmd.Env, emulatorVariable+"="+open)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
}
