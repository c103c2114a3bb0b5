package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Main takes over when this process is a stage of a sandbox, and then does not return. It must be the first
// thing that a main or TestMain does.
func Main() {
	if len(os.Args) < 2 || os.Args[0] != processName {
		return
	}
	runtime.LockOSThread()
	if err := closeInherited(); err != nil {
		fatal(err)
	}
	control := os.NewFile(controlFD, "caller") // stays open, for the next stage
	w, err := newWire(control)
	if err != nil {
		fatal(err)
	}
	switch os.Args[1] {
	case stageMapped:
		err = awaitIDs(w, os.Args[2])
	case stageSetup:
		err = setup(w)
	case stageRemove:
		err = removeStage(w)
	default:
		err = fmt.Errorf("stage %q is not known", os.Args[1])
	}
	if err != nil {
		w.send(reply{Error: err.Error()})
	}
	os.Exit(0)
}

// fatal is for when there is nobody to tell but the caller's log.
func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// awaitIDs waits until this process, which is nobody yet, has become root. Only exec gives root its capabilities.
func awaitIDs(w *wire, stage string) error {
	if _, err := w.receive(new(request)); err != nil {
		return fmt.Errorf("waiting for ids: %w", err)
	}
	return become(stage)
}

// become executes this program again as another stage.
func become(stage string) error {
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", []string{processName, stage}, nil))
}

// setup interprets the policy and becomes the agent.
//
// What is surrendered is given up by this thread alone, which the goroutine is locked to; and every command is
// forked from it. So commands have as little as can be, while the agent keeps capabilities that they lack: that
// makes it untouchable for them. Executing the agent anew would confine it too, but there may be no loader for it in the root.
func setup(w *wire) error {
	var r request
	if _, err := w.receive(&r); err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	unix.Umask(0o022)
	// By now the caller has put this process into the group that is to be the top.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	if err := enter(r.Policy); err != nil {
		return err
	}
	if err := surrender(); err != nil {
		return err
	}
	g := &guest{wire: w, memoryMounts: memoryMounts(r.Policy)}
	return g.serve()
}

// closeInherited closes what the caller was started with and did not mark to be closed: a make's job server, a
// shell's redirections. The runtime's own files are marked.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= controlFD {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// keptCapabilities is all that is left to root inside: what it takes to act as the owner of files of any id, to
// become another of the mapped ids, and to end processes. What administrates the namespaces themselves (and so
// reaches large parts of the kernel) is gone: mounts, network, tracing, devices.
var keptCapabilities = []uintptr{
	unix.CAP_CHOWN,            // install -o, tar as root
	unix.CAP_DAC_OVERRIDE,     // root writes where the mode says no
	unix.CAP_FOWNER,           // chmod, utimes and sticky folders of other owners
	unix.CAP_FSETID,           // setuid bits survive chown
	unix.CAP_KILL,             // test suites signal processes of other ids
	unix.CAP_NET_BIND_SERVICE, // servers under test, in the private network
	unix.CAP_SETFCAP,          // setcap on what is packaged
	unix.CAP_SETGID,           // su, daemons that drop root
	unix.CAP_SETUID,
	unix.CAP_SYS_CHROOT, // some test suites; a chroot inside leads nowhere else
}

// surrender gives up for good what commands must not have. It holds for what this thread executes from now on.
func surrender() error {
	if err := unix.Setgroups(nil); err != nil && err != unix.EPERM { // a single mapped id may not
		return fmt.Errorf("dropping groups: %w", err)
	}
	// A key of the caller's session is reachable by whoever possesses the session.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("making a session keyring: %w", err)
	}
	kept := make(map[uintptr]bool)
	for _, c := range keptCapabilities {
		kept[c] = true
	}
	for c := uintptr(0); ; c++ {
		if kept[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL {
			break // beyond the last one the kernel knows
		} else if err != nil {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	return install(filter())
}

// install makes the program of system calls' filter this thread's.
func install(f []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filtering system calls: %w", errno)
	}
	return nil
}
