package sandbox

import (
	"fmt"
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

// place puts a detached mount where a path leads.
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
