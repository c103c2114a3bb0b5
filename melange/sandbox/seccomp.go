package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// The filter is the last of three fences, behind namespaces and dropped capabilities: it closes parts of the
// kernel that no build needs and that have been ways out before. It names what is denied; what is newer than
// this list is denied as well, as a kernel that does not know it would. Programs of foreign architectures run
// under an emulator, which makes the machine's own system calls.

// forbidden fail with EPERM: the call exists, and is not for you.
var forbidden = []uintptr{
	// files by handle, past every folder's permissions
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	// keys are not namespaced well
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	// programs in the kernel, and looking into it
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_SYSLOG, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	// the machine
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME, unix.SYS_VHANGUP,
	unix.SYS_FANOTIFY_INIT, unix.SYS_NFSSERVCTL,
}

// administration is forbidden as well, but to those who have CAP_SYS_ADMIN: mounts and namespaces.
var administration = []uintptr{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_MOUNT_SETATTR, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_SETNS,
}

// missing fail with ENOSYS: callers have a fallback for kernels without them.
var missing = []uintptr{
	unix.SYS_CLONE3, // its flags lie in memory, where a filter cannot look; clone remains
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
}

// processCalls change how a process or thread runs; the argument says which one, by its number or as 0 for the caller's
// own. It is not to be the agent's: commands are the same user, whom the kernel would let.
var processCalls = []struct{ number, argument uint32 }{
	{unix.SYS_PRLIMIT64, 0}, {unix.SYS_SCHED_SETAFFINITY, 0}, {unix.SYS_SCHED_SETSCHEDULER, 0}, {unix.SYS_SCHED_SETPARAM, 0},
	{unix.SYS_SCHED_SETATTR, 0}, {unix.SYS_SETPRIORITY, 1}, {unix.SYS_IOPRIO_SET, 1},
}

// userCalls are for all that a user runs, and so for the agent, when their first argument is this.
var userCalls = []struct{ number, all uint32 }{{unix.SYS_SETPRIORITY, unix.PRIO_USER}, {unix.SYS_IOPRIO_SET, ioprioUser}}

const ioprioUser = 3 // IOPRIO_WHO_USER of linux/ioprio.h

// newestCall is the last system call that was considered for the lists above.
const newestCall = unix.SYS_RSEQ_SLICE_YIELD

const (
	namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	// To clone this bit is part of a signal's number.
	unshareFlags = namespaceFlags | unix.CLONE_NEWTIME
)

// families are the kinds of sockets that stay within the network namespace. Others (vsock above all) would
// reach past it, or reach kernel code that no build needs.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// deniedIoctls push input into a terminal, or load code to handle one.
var deniedIoctls = []uint32{unix.TIOCSTI, unix.TIOCLINUX, unix.TIOCSETD}

// Offsets in the kernel's struct seccomp_data, little-endian: the low half of argument i is at args+8*i.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// filter assembles the program that the kernel runs before each system call of a command. With owners somebody listens:
// it asks about files that are to be given to an id which the namespace has not, and about changes to other processes.
func filter(who identity, o *owners) []unix.SockFilter {
	var p program
	p.load(dataArch)
	p.unlessEqual(nativeArch, unix.SECCOMP_RET_KILL_PROCESS) // another ABI's numbers mean other calls
	p.load(dataNumber)
	p.ifAbove(newestCall, errno(unix.ENOSYS)) // this is also where the x32 ABI lies
	for _, nr := range forbidden {
		p.ifEqual(uint32(nr), errno(unix.EPERM))
	}
	for _, nr := range nativeForbidden {
		p.ifEqual(uint32(nr), errno(unix.EPERM))
	}
	if !who.administrates() {
		for _, nr := range administration {
			p.ifEqual(uint32(nr), errno(unix.EPERM))
		}
		flags := uint32(namespaceFlags)
		if who.Alias { // commands are started behind the filter
			flags &^= unix.CLONE_NEWUSER
		}
		p.call(unix.SYS_CLONE, 0, func(p *program) { p.ifAny(flags, errno(unix.EPERM)) })
		p.call(unix.SYS_UNSHARE, 0, func(p *program) { p.ifAny(unshareFlags, errno(unix.EPERM)) })
	}
	for _, nr := range missing {
		p.ifEqual(uint32(nr), errno(unix.ENOSYS))
	}
	for _, c := range userCalls {
		p.call(c.number, 0, func(p *program) { p.ifEqual(c.all, errno(unix.EPERM)) })
	}
	for _, c := range processCalls {
		p.call(c.number, c.argument, func(p *program) {
			p.ifEqual(1, errno(unix.EPERM))
			if o != nil { // the agent knows its other threads
				p.unlessEqual(0, unix.SECCOMP_RET_USER_NOTIF)
			}
		})
	}
	p.call(unix.SYS_IOCTL, 1, func(p *program) {
		for _, request := range deniedIoctls {
			p.ifEqual(request, errno(unix.EPERM))
		}
	})
	for _, nr := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		p.call(nr, 0, func(p *program) {
			for _, family := range families {
				p.ifEqual(family, unix.SECCOMP_RET_ALLOW)
			}
			if slices.Contains(who.Capabilities, unix.CAP_NET_RAW) {
				p.ifEqual(unix.AF_PACKET, unix.SECCOMP_RET_ALLOW)
			}
			p.end(errno(unix.EAFNOSUPPORT))
		})
	}
	if o != nil {
		for _, c := range chownCalls {
			for i, ids := range []mapped{o.uids, o.gids} {
				p.call(uint32(c.number), uint32(c.owner+i), func(p *program) { p.ifForeign(ids.below(), unix.SECCOMP_RET_USER_NOTIF) })
			}
		}
	}
	p.end(unix.SECCOMP_RET_ALLOW)
	return p
}

func errno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }

// program is a filter in the making. Every test is two instructions, a jump over an ending, so that no jump is
// ever too long.
type program []unix.SockFilter

func (p *program) add(code uint16, jt, jf uint8, k uint32) {
	*p = append(*p, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
}

func (p *program) load(offset uint32) { p.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0, offset) }
func (p *program) end(result uint32)  { p.add(unix.BPF_RET|unix.BPF_K, 0, 0, result) }

func (p *program) ifEqual(k, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, k)
	p.end(result)
}

func (p *program) unlessEqual(k, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 1, 0, k)
	p.end(result)
}

func (p *program) ifAbove(k, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JGT|unix.BPF_K, 0, 1, k)
	p.end(result)
}

func (p *program) ifAny(bits, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 0, 1, bits)
	p.end(result)
}

// ifForeign holds for ids from a number on, but not for the one that says that nothing is to change.
func (p *program) ifForeign(below, result uint32) {
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 2, 0, unchanged)
	p.add(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, 0, 1, below)
	p.end(result)
}

// call has the body look at the low half of an argument of one system call.
func (p *program) call(nr, argument uint32, body func(*program)) {
	var b program
	b.load(dataArgs + 8*argument)
	body(&b)
	b.load(dataNumber)
	p.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, uint8(len(b)), nr)
	*p = append(*p, b...)
}
