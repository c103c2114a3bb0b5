package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// These are the kernel's calls for mounts as objects: made first, changed while nobody sees them, placed last.

// cloneTree opens what is at a path as a mount of its own, with everything mounted below.
func cloneTree(path string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	return fd, nil
}

// setAttributes adds attributes to a detached mount and all below it.
func setAttributes(fd int, set uint64) error {
	attr := unix.MountAttr{Attr_set: set}
	return os.NewSyscallError("mount_setattr", unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr))
}

// inside opens what a name of the environment leads to, as a place. Commands and layers decide what lies there, so the
// links of /proc that are more than a path, and lead to whatever this process has open, are not followed; and below the
// folders that are the sandbox's own there is no link at all, or what is mounted there could be covered afterwards.
func inside(name string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if ownPlace(name) {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// ownPlace tells whether a name is one of the sandbox's own folders, or below it.
func ownPlace(name string) bool {
	for _, own := range []string{"/proc", "/dev", "/sys"} {
		if name == own || strings.HasPrefix(name, own+"/") {
			return true
		}
	}
	return false
}

// folder checks that a name leads to a folder inside. Nothing else runs that could change it before it is used.
func folder(name string) error {
	fd, err := inside(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &fs.PathError{Op: "open", Path: name, Err: unix.ENOTDIR}
	}
	return nil
}

// cover puts a detached mount on what a name of the environment leads to. What the agent reads in /proc is the kernel's:
// nothing but the sandbox's own lines may cover it.
func cover(fd int, name string) error {
	at, err := inside(name)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var s unix.Statfs_t
	if err := unix.Fstatfs(at, &s); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if s.Type == unix.PROC_SUPER_MAGIC && !ownPlace(name) {
		return errors.New("a link leads it into /proc")
	}
	err = unix.MoveMount(fd, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// place puts a detached mount where a path of the host leads.
func place(fd int, path string) error {
	err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	return os.NewSyscallError("move_mount", err)
}

// newFilesystem makes a detached mount of a filesystem with options, "key" or "key=value".
func newFilesystem(kind string, attributes uint64, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, option := range options {
		key, value, ok := strings.Cut(option, "=")
		if ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s: %w", option, describe(fs, err))
		}
	}
	return finishFilesystem(fs, attributes)
}

func finishFilesystem(fs int, attributes uint64) (int, error) {
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, describe(fs, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attributes))
	if err != nil {
		return -1, os.NewSyscallError("fsmount", err)
	}
	return fd, nil
}

// describe adds what the kernel has to say about a filesystem that it would not make.
func describe(fs int, err error) error {
	if err == nil {
		return nil
	}
	err = os.NewSyscallError("fsconfig", err)
	buf := make([]byte, 1<<10)
	n, readErr := unix.Read(fs, buf)
	if readErr != nil || n == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(buf[:n])))
}
