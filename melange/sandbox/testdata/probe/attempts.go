package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func chmod(name string, mode uint32) error { return unix.Chmod(name, mode) }

func setxattr(name, key string, value []byte) error { return unix.Lsetxattr(name, key, value, 0) }

// setcap gives a file cap_net_bind_service=ep.
func setcap(name string) error {
	return setxattr(name, "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
}

// shareMemory takes memory that children would share, for good.
func shareMemory(size int) error {
	block, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	return err
}

// fillMemory fills a file that has no name and that nobody maps.
func fillMemory() error {
	fd, err := unix.MemfdCreate("hog", 0)
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<20); ; {
		if _, err := unix.Write(fd, block); err != nil {
			return err
		}
	}
}

// ionice makes a process (1), or all of a user (3), idle about disks.
func ionice(which, id int) error {
	if _, _, errno := syscall.Syscall(unix.SYS_IOPRIO_SET, uintptr(which), uintptr(id), 3<<13); errno != 0 {
		return errno
	}
	return nil
}

func cpus() int { return runtime.NumCPU() }

func self(args []string, wait bool) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil || !wait {
		return err
	}
	return cmd.Wait()
}

func signalSelf(name string) error {
	if err := syscall.Kill(os.Getpid(), unix.SignalNum(name)); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}

// call makes a system call with arguments that reach the kernel's permission checks.
func call(nr uintptr, args ...uintptr) tool {
	return func([]string) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		fmt.Println("was let")
		return nil
	}
}

// dial connects, or says why not.
func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("reached", c.RemoteAddr())
	return c.Close()
}

func open(name string, flags int) error {
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return err
	}
	fmt.Println("opened", name)
	return f.Close()
}

func socket(family, kind, protocol int) tool {
	return func([]string) error {
		fd, err := unix.Socket(family, kind, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func pointer(s string) uintptr {
	b := append([]byte(s), 0)
	return uintptr(unsafe.Pointer(&b[0]))
}

var page [4096]byte

// One page of this program, and the node of memory that it is to go to.
var (
	pages = [1]uintptr{uintptr(unsafe.Pointer(&page))}
	nodes [1]int32
)

var (
	text   = pointer("/tmp")
	tmpfs  = pointer("tmpfs")
	buffer = uintptr(unsafe.Pointer(&page))
)

const here = ^uintptr(99) // AT_FDCWD

var attempts = map[string]tool{
	"dial":   func(args []string) error { return dial(args[0], args[1]) },
	"open":   func(args []string) error { return open(args[0], os.O_RDONLY) },
	"append": func(args []string) error { return open(args[0], os.O_WRONLY|os.O_APPEND) },
	"rlimits": func([]string) error {
		for _, r := range []int{unix.RLIMIT_CORE, unix.RLIMIT_STACK} {
			var l unix.Rlimit
			if err := unix.Getrlimit(r, &l); err != nil {
				return err
			}
			fmt.Println(l.Cur)
		}
		return nil
	},
	"blocking": func([]string) error { // a program that did not ask for it does not expect EAGAIN
		for fd := range 3 {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK != 0 {
				return fmt.Errorf("descriptor %d: flags %o, %v", fd, flags, err)
			}
		}
		return nil
	},
	"umask": func([]string) error { fmt.Printf("%03o\n", unix.Umask(0)); return nil },
	"terminal": func([]string) error {
		_, err := unix.IoctlGetTermios(0, unix.TCGETS)
		fmt.Println("terminal:", err == nil)
		_, err = os.OpenFile("/dev/tty", os.O_RDWR, 0)
		fmt.Println("controlling:", err == nil)
		var word string
		_, err = fmt.Scanln(&word)
		fmt.Println("read:", word)
		return err
	},
	"size": func([]string) error {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err == nil {
			fmt.Println(size.Row, size.Col)
		}
		return err
	},
	"append-child": func([]string) error { // to the program of another process
		cmd := exec.Command("/proc/self/exe", "sleep", "1h")
		if err := cmd.Start(); err != nil {
			return err
		}
		return open(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), os.O_WRONLY|os.O_APPEND)
	},
	"kill": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		sig, _ := strconv.Atoi(args[1])
		return syscall.Kill(pid, syscall.Signal(sig))
	},
	"ptrace": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		runtime.LockOSThread()
		return syscall.PtraceAttach(pid)
	},
	"readvm": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		local, remote := []unix.Iovec{{Base: new(byte), Len: 1}}, []unix.RemoteIovec{{Base: buffer, Len: 1}}
		_, err := unix.ProcessVMReadv(pid, local, remote, 0)
		return err
	},
	"writevm": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		local, remote := []unix.Iovec{{Base: new(byte), Len: 1}}, []unix.RemoteIovec{{Base: buffer, Len: 1}}
		_, err := unix.ProcessVMWritev(pid, local, remote, 0)
		return err
	},
	"borrow": func(args []string) error { // an open file of another process
		pid, _ := strconv.Atoi(args[0])
		number, _ := strconv.Atoi(args[1])
		process, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		_, err = unix.PidfdGetfd(process, number, 0)
		return err
	},
	"kcmp": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		const files = 2 // KCMP_FILES of linux/kcmp.h
		return call(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), files, 0, 0)(nil)
	},
	"migrate": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		return call(unix.SYS_MOVE_PAGES, uintptr(pid), 1, uintptr(unsafe.Pointer(&pages)), uintptr(unsafe.Pointer(&nodes)), buffer, 0)(nil)
	},
	"madvise": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		process, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("pidfd_open: %w", err)
		}
		at := unix.RemoteIovec{Base: buffer, Len: 4096}
		return call(unix.SYS_PROCESS_MADVISE, uintptr(process), uintptr(unsafe.Pointer(&at)), 1, unix.MADV_COLD, 0)(nil)
	},
	"audit": func([]string) error { // a question to the kernel's audit, which is not in a namespace
		s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT)
		if err != nil {
			return err
		}
		message := make([]byte, unix.SizeofNlMsghdr)
		*(*unix.NlMsghdr)(unsafe.Pointer(&message[0])) = unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: unix.AUDIT_GET, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK}
		if err := unix.Sendto(s, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		answer := make([]byte, 4096)
		n, _, err := unix.Recvfrom(s, answer, 0)
		if err != nil {
			return err
		}
		if header := (*unix.NlMsghdr)(unsafe.Pointer(&answer[0])); n >= unix.SizeofNlMsghdr+4 && header.Type == unix.NLMSG_ERROR {
			if code := *(*int32)(unsafe.Pointer(&answer[unix.SizeofNlMsghdr])); code < 0 {
				return syscall.Errno(-code)
			}
		}
		return nil
	},
	"inotify": func(args []string) error { // n instances
		n, err := strconv.Atoi(args[0])
		for range n {
			if err == nil {
				_, err = unix.InotifyInit1(0)
			}
		}
		return err
	},
	"prlimit": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 8, Max: 8}, nil)
	},
	"affinity": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		var set unix.CPUSet
		set.Set(0)
		return unix.SchedSetaffinity(pid, &set)
	},
	"nice": func(args []string) error {
		pid, _ := strconv.Atoi(args[0])
		return unix.Setpriority(unix.PRIO_PROCESS, pid, 19)
	},
	"agents": func(args []string) error { // a tool with each thread of the agent as its argument, until one is let
		found := 0
		for thread := 2; thread < 200; thread++ {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
			if err != nil || !strings.Contains(string(status), "\nTgid:\t1\n") {
				continue
			}
			found++
			if self([]string{args[0], strconv.Itoa(thread)}, true) == nil {
				return nil
			}
		}
		return fmt.Errorf("none of %d threads", found)
	},
	"child": func(args []string) error { // a tool with a child as its argument
		cmd := exec.Command("/proc/self/exe", "sleep", "1h")
		if err := cmd.Start(); err != nil {
			return err
		}
		return self([]string{args[0], strconv.Itoa(cmd.Process.Pid)}, true)
	},
	"oom":       func(args []string) error { return os.WriteFile("/proc/"+args[0]+"/oom_score_adj", []byte("1000"), 0) },
	"nice-user": func([]string) error { return unix.Setpriority(unix.PRIO_USER, 0, 19) },
	"ionice": func(args []string) error {
		id, _ := strconv.Atoi(args[0])
		return ionice(1, id)
	},
	"ionice-user": func([]string) error { return ionice(3, 0) },
	"mknod-disk": func(args []string) error {
		return unix.Mknod(args[0], unix.S_IFBLK|0o666, int(unix.Mkdev(254, 0)))
	},
	"mknod": func(args []string) error {
		return unix.Mknod(args[0], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	},
	"mkfifo": func(args []string) error { return unix.Mkfifo(args[0], 0o644) },
	"status": func(args []string) error {
		data, err := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(data)) {
			if key, value, _ := strings.Cut(line, ":"); key == args[0] {
				fmt.Println(strings.TrimSpace(value))
			}
		}
		return err
	},
	// A folder's ".." above a chroot is the old way out of one.
	"unchroot": func(args []string) error {
		if err := os.MkdirAll("/tmp/cell", 0o755); err != nil {
			return err
		}
		top, err := os.Open("/")
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Chroot("/tmp/cell"), top.Chdir()); err != nil {
			return err
		}
		for range 64 {
			if err := os.Chdir(".."); err != nil {
				return err
			}
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		return open(args[0], os.O_RDONLY)
	},
	"euid": func([]string) error { fmt.Println(os.Geteuid()); return nil },
	"clone": func(args []string) error {
		flag, err := strconv.ParseUint(args[0], 0, 64)
		if err != nil {
			return err
		}
		pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(flag)|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		return nil
	},
	"unshare": func(args []string) error {
		flag, err := strconv.ParseUint(args[0], 0, 64)
		if err != nil {
			return err
		}
		runtime.LockOSThread()
		return unix.Unshare(int(flag))
	},
	"tiocsti": func([]string) error {
		c := byte('x')
		_, _, errno := syscall.Syscall(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
		if errno != 0 {
			return errno
		}
		return nil
	},
	"vsock":  socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	"packet": socket(unix.AF_PACKET, unix.SOCK_RAW, 0),
	"alg":    socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
	"raw":    socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
	"inet":   socket(unix.AF_INET, unix.SOCK_STREAM, 0),

	"mount":         call(unix.SYS_MOUNT, tmpfs, text, tmpfs, 0, 0),
	"umount":        call(unix.SYS_UMOUNT2, pointer("/proc/sys"), unix.MNT_DETACH),
	"pivot_root":    call(unix.SYS_PIVOT_ROOT, text, text),
	"fsopen":        call(unix.SYS_FSOPEN, tmpfs, 0),
	"fspick":        call(unix.SYS_FSPICK, here, text, 0),
	"open_tree":     call(unix.SYS_OPEN_TREE, here, text, unix.OPEN_TREE_CLONE),
	"move_mount":    call(unix.SYS_MOVE_MOUNT, here, text, here, text, 0),
	"mount_setattr": call(unix.SYS_MOUNT_SETATTR, here, text, 0, buffer, 32),
	"setns":         call(unix.SYS_SETNS, 0, 0),
	"clone3":        call(unix.SYS_CLONE3, buffer, 64),
	"keyctl":        call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0),
	"add_key":       call(unix.SYS_ADD_KEY, pointer("user"), text, text, 1, ^uintptr(2)),
	"request_key":   call(unix.SYS_REQUEST_KEY, pointer("user"), text, 0, 0),
	"bpf":           call(unix.SYS_BPF, 0, buffer, 64),
	"perf":          call(unix.SYS_PERF_EVENT_OPEN, buffer, 0, ^uintptr(0), ^uintptr(0), 0),
	"kexec_file":    call(unix.SYS_KEXEC_FILE_LOAD, 0, 0, 0, text, 0),
	"handle_of":     call(unix.SYS_NAME_TO_HANDLE_AT, here, text, buffer, buffer, 0),
	"kexec":         call(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0),
	"init_module":   call(unix.SYS_INIT_MODULE, buffer, 0, text),
	"delete_module": call(unix.SYS_DELETE_MODULE, text, 0),
	"userfaultfd":   call(unix.SYS_USERFAULTFD, 1),
	"io_uring":      call(unix.SYS_IO_URING_SETUP, 1, buffer),
	"by_handle":     call(unix.SYS_OPEN_BY_HANDLE_AT, here, buffer, 0),
	"reboot":        call(unix.SYS_REBOOT, 0, 0, 0, 0),
	"swapon":        call(unix.SYS_SWAPON, text, 0),
	"acct":          call(unix.SYS_ACCT, 0),
	"quotactl":      call(unix.SYS_QUOTACTL, 0, text, 0, buffer),
	"settime":       call(unix.SYS_CLOCK_SETTIME, 0, buffer),
	"syslog":        call(unix.SYS_SYSLOG, 3, buffer, 16),
	"sethostname":   call(unix.SYS_SETHOSTNAME, text, 1),
	"newer":         call(unix.SYS_RSEQ_SLICE_YIELD + 1000),
}
