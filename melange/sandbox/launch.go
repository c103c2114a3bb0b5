package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// launcher is a thread that commands are forked from. What it has given up, they do not have; and the rest of
// the agent keeps it, which makes the agent untouchable for them. (Executing the agent anew would confine all of it,
// but there may be no loader for it in the root.)
type launcher chan func()

type launchers struct {
	private launcher // no network but a loopback
	shared  launcher // the caller's network; nil without permission
	filters []int    // that ask, as descriptors
}

func newLaunchers(p policy, o *owners) (l launchers, err error) {
	confine := func() error {
		if err := confine(p); err != nil {
			return err
		}
		asking, err := install(p.Identity, o)
		if asking >= 0 {
			l.filters = append(l.filters, asking)
		}
		return err
	}
	l.private, err = newLauncher(func() error {
		if !p.Network {
			return confine() // the whole environment has a network of its own
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		return errors.Join(raiseLoopback(), confine())
	})
	if err != nil || !p.Network {
		return l, err
	}
	l.shared, err = newLauncher(func() error { return errors.Join(scopeSockets(), confine()) })
	return l, err
}

// newLauncher makes a thread and has it prepare itself.
func newLauncher(prepare func() error) (launcher, error) {
	l, ready := make(launcher), make(chan error)
	go func() {
		runtime.LockOSThread()
		ready <- prepare()
		for work := range l {
			work()
		}
	}()
	return l, <-ready
}

// do has the thread do something and waits for it.
func (l launcher) do(work func()) {
	done := make(chan struct{})
	l <- func() {
		defer close(done)
		work()
	}
	<-done
}

// confine gives up for good what commands must not have. It holds for what this thread forks from now on.
func confine(p policy) error {
	// By now the caller has put this process into the group that is to be the top.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	if err := useProcessors(p.Processors); err != nil {
		return err
	}
	if err := unix.Setgroups(nil); err != nil && err != unix.EPERM { // a single mapped id may not
		return fmt.Errorf("dropping groups: %w", err)
	}
	// A key of the caller's session is reachable by whoever possesses the session.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("making a session keyring: %w", err)
	}
	if err := dropCapabilities(p.Identity.Capabilities); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	return nil
}

// install makes the filter of system calls this thread's. It asks, at the descriptor that is returned, unless
// somebody listens to this process already: the kernel has one listener. An answer that is on its way is not given up
// for a signal that is not deadly; Linux before 5.19 has the call made again after one.
func install(who identity, o *owners) (asking int, err error) {
	for _, flags := range []uintptr{
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
	} {
		if asking, errno := setFilter(filter(who, o), flags); errno == 0 {
			return asking, nil
		}
	}
	if _, errno := setFilter(filter(who, nil), 0); errno != 0 {
		return -1, fmt.Errorf("filtering system calls: %w", errno)
	}
	return -1, nil
}

func setFilter(f []unix.SockFilter, flags uintptr) (int, unix.Errno) {
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	return int(fd), errno
}

// scopeSockets keeps who shares the caller's network from its abstract sockets, which have no permissions: the
// session bus is often one. Kernels before Linux 6.12 cannot; then it is as with every program of the caller.
func scopeSockets() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	attr := unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	switch errno {
	case 0:
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.E2BIG, unix.EINVAL:
		return nil
	default:
		return fmt.Errorf("scoping sockets: %w", errno)
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("scoping sockets: %w", errno)
	}
	return nil
}

// useProcessors leaves this thread, and what it forks, n of its processors. Which ones differs between environments,
// so that they do not all crowd on the first. No n is all of them.
func useProcessors(n int) error {
	if n <= 0 {
		return nil
	}
	var all, some unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	var usable []int
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			usable = append(usable, cpu)
		}
	}
	first := rand.IntN(len(usable))
	for i := range min(n, len(usable)) {
		some.Set(usable[(first+i)%len(usable)])
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &some))
}
