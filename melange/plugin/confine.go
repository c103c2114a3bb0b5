package plugin

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock's second version is the first that can tell moving between folders, the third knows truncating.
const (
	referVersion    = 2
	truncateVersion = 3
)

// confine keeps this process, from now on, from opening anything outside of the root: the engine takes a module's path
// apart, but it is the kernel that follows links. Kernels that cannot leave it at what every command in the sandbox may.
func confine(root string) error {
	version, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if int(version) < referVersion {
		return nil
	}
	rights := uint64(unix.LANDLOCK_ACCESS_FS_REFER<<1 - 1)
	if int(version) >= truncateVersion {
		rights |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return fmt.Errorf("making a Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	dir, err := unix.Open(root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", root, err)
	}
	defer unix.Close(dir)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(dir)}
	_, _, errno = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("adding a Landlock rule: %w", errno)
	}
	// The sandbox has set no_new_privs. Go moves work between threads: all of them are confined. In a program with cgo Go
	// does not know all threads: the module then runs on this one, and no other opens files.
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if errno == unix.ENOTSUP {
		runtime.LockOSThread()
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("entering a Landlock ruleset: %w", errno)
	}
	return nil
}
