package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listener answers what one filter asks: the chown calls of its commands, and whether a process is one that they may
// change.
type listener struct {
	filter    int      // where questions come from
	proc      *os.File // /proc inside
	namespace string   // of users: the agent's, as /proc names it
	owners    *owners
}

// hear starts to answer what filters ask.
func hear(filters []int, o *owners) error {
	proc, err := os.OpenFile("/proc", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	namespace, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return err
	}
	for _, filter := range filters {
		go listener{filter, proc, namespace, o}.listen()
	}
	return nil
}

// question is the kernel's struct seccomp_notif: a system call that waits for an answer.
type question struct {
	ID     uint64
	Thread uint32 // whose call it is, by its number inside
	_      uint32
	Number int32
	_      uint32 // the call's architecture: the filter lets no other pass
	_      uint64
	Args   [6]uint64
}

// verdict is the kernel's struct seccomp_notif_resp.
type verdict struct {
	ID    uint64
	_     int64 // what the call returns: 0
	Error int32 // negative
	Flags uint32
}

// errAsKernel leaves the answer to the kernel, as if nobody listened.
var errAsKernel = errors.New("let the kernel do it")

// listen answers for as long as this process lives. What breaks it ends the environment: without an answer commands
// would wait for ever.
func (l listener) listen() {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // this thread gets a root and a folder of its own
		fatal(fmt.Errorf("listening to system calls: %w", err))
	}
	// Who asks goes on at once, on this processor. Before Linux 6.6 it is as it comes.
	unix.Syscall(unix.SYS_IOCTL, uintptr(l.filter), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	for {
		var q question
		switch errno := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&q)); errno {
		case 0:
			v := l.judge(&q)
			l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&v)) // who was killed needs none
		case unix.EINTR, unix.ENOENT: // who asked was killed
		default:
			fatal(fmt.Errorf("listening to system calls: %w", errno))
		}
	}
}

func (l listener) ioctl(request uintptr, p unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.filter), request, uintptr(p))
	return errno
}

func (l listener) judge(q *question) verdict {
	v := verdict{ID: q.ID}
	err := l.answer(q)
	if err == errAsKernel {
		v.Flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	} else if errno := unix.Errno(0); errors.As(err, &errno) {
		v.Error = -int32(errno)
	}
	return v
}

func (l listener) answer(q *question) error {
	for _, c := range processCalls {
		if int32(c.number) == q.Number {
			return l.change(uint32(q.Args[c.argument]))
		}
	}
	return l.chown(q)
}

// change leaves it to the kernel who may change a thread, unless it is one of the agent's.
func (l listener) change(thread uint32) error {
	var s unix.Stat_t
	if err := unix.Fstatat(int(l.proc.Fd()), fmt.Sprintf("1/task/%d", thread), &s, 0); err != unix.ENOENT {
		return unix.EPERM
	}
	return errAsKernel
}

// chown does the call. Whatever is wrong with it the kernel says better: it comes to the path before the owner.
func (l listener) chown(q *question) error {
	c := q.chown()
	if l.owners.idle(c.to) || !l.mayChown(q.Thread) {
		return errAsKernel
	}
	file, err := l.open(q, c)
	if err != nil {
		return errAsKernel
	}
	defer unix.Close(file)
	return l.owners.give(file, c.to)
}

// mayChown reports whether the thread is root here, and not in a namespace below, and has not given up just this.
func (l listener) mayChown(thread uint32) bool {
	const wanted = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE
	theirs := make([]byte, len(l.namespace)+1)
	n, err := unix.Readlinkat(int(l.proc.Fd()), fmt.Sprintf("%d/ns/user", thread), theirs)
	if err != nil || string(theirs[:n]) != l.namespace {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3, Pid: int32(thread)}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&wanted == wanted
}

// open finds the file as a place. This thread stands where the caller stands, with its root and its folder, so that
// the kernel finds for it what it would have found for the caller; but for /proc/self, which would be the agent's. The
// links there that are more than a path lead to whatever the agent has open: they are not followed, and no file
// of /proc is one to give away.
func (l listener) open(q *question, c chown) (int, error) {
	path, err := c.name(q.Thread)
	if err != nil {
		return -1, err
	}
	root, err := l.openProc(q.Thread, "root")
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	start, err := l.openProc(q.Thread, c.start())
	if err != nil {
		return -1, err
	}
	if !l.alive(q) { // the number may be another thread's by now
		unix.Close(start)
		return -1, unix.ESRCH
	}
	if path == "" && c.flags&unix.AT_EMPTY_PATH != 0 {
		return start, nil
	}
	defer unix.Close(start)
	if err := errors.Join(unix.Fchdir(root), unix.Chroot("."), unix.Fchdir(start)); err != nil {
		return -1, err
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if c.flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		how.Flags |= unix.O_NOFOLLOW
	}
	file, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err != nil {
		return -1, err
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(file, &s); err != nil || s.Type == unix.PROC_SUPER_MAGIC {
		unix.Close(file)
		return -1, unix.EPERM
	}
	return file, nil
}

func (l listener) openProc(thread uint32, name string) (int, error) {
	return unix.Openat(int(l.proc.Fd()), fmt.Sprintf("%d/%s", thread, name), unix.O_PATH|unix.O_CLOEXEC, 0)
}

// alive reports whether the call still waits.
func (l listener) alive(q *question) bool {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&q.ID)) == 0
}

// chown is one call of the family.
type chown struct {
	dir   int32  // a descriptor: where the path starts, or the file itself
	path  uint64 // where it lies in the caller's memory; 0 when there is none
	flags uint64 // AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH
	to    owner
}

// chownCall says where the arguments of a call are; -1 is nowhere.
type chownCall struct {
	number                  int32
	dir, path, owner, flags int
	implied                 uint64 // flags
}

func (q *question) chown() chown {
	for _, call := range chownCalls {
		if call.number != q.Number {
			continue
		}
		c := chown{dir: unix.AT_FDCWD, flags: call.implied}
		if call.dir >= 0 {
			c.dir = int32(q.Args[call.dir])
		}
		if call.path >= 0 {
			c.path = q.Args[call.path]
		}
		if call.flags >= 0 {
			c.flags = q.Args[call.flags]
		}
		c.to = owner{uint32(q.Args[call.owner]), uint32(q.Args[call.owner+1])}
		return c
	}
	panic(fmt.Sprintf("the filter asks about system call %d", q.Number))
}

// start is where in the folder of the caller's thread the way to the file begins.
func (c chown) start() string {
	if c.dir == unix.AT_FDCWD {
		return "cwd"
	}
	return fmt.Sprintf("fd/%d", c.dir)
}

// name reads the path out of the caller's memory, a page at a time: the next one may not be there.
func (c chown) name(thread uint32) (string, error) {
	if c.path == 0 {
		return "", nil
	}
	pageSize := uint64(os.Getpagesize())
	for buf := make([]byte, 0, unix.PathMax); len(buf) < unix.PathMax; {
		at := c.path + uint64(len(buf))
		n := min(int(pageSize-at%pageSize), unix.PathMax-len(buf))
		page := buf[len(buf) : len(buf)+n]
		local, remote := []unix.Iovec{{Base: &page[0], Len: uint64(n)}}, []unix.RemoteIovec{{Base: uintptr(at), Len: n}}
		if n, err := unix.ProcessVMReadv(int(thread), local, remote, 0); err != nil || n < len(page) {
			return "", unix.EFAULT
		}
		if end := bytes.IndexByte(page, 0); end >= 0 {
			return string(buf[:len(buf)+end]), nil
		}
		buf = buf[:len(buf)+n]
	}
	return "", unix.ENAMETOOLONG
}
