package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// stagingPoint is where the host's view is covered while the new root is made: a folder that is always there, since
// this program was executed through it, and never holds a source.
const stagingPoint = "/proc"

// enter interprets a policy. Sources are opened by their names on the host first; then the root changes, and
// targets are resolved in the new one, so that no link in a layer can lead a mount outside.
func enter(policy []operation) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	trees := slices.Repeat([]int{-1}, len(policy)) // detached mounts; -1 for a line that has none
	open := func(pass func(operation) bool) error {
		for i, op := range policy {
			if !pass(op) {
				continue
			}
			fd, err := op.open(i)
			if err != nil {
				return fmt.Errorf("%s %s: %w", op.Do, op.name(), err)
			}
			trees[i] = fd
		}
		return nil
	}
	if err := open(func(op operation) bool { return !op.overlay() }); err != nil {
		return err
	}
	if err := stage(); err != nil {
		return err
	}
	if err := open(operation.overlay); err != nil {
		return err
	}
	if err := pivot(trees[0]); err != nil {
		return fmt.Errorf("changing root: %w", err)
	}
	for i, op := range policy[1:] {
		if err := op.perform(trees[i+1]); err != nil {
			return fmt.Errorf("%s %s: %w", op.Do, op.name(), err)
		}
	}
	return nil
}

func (o operation) overlay() bool { return o.Do == doRoot || o.Do == doOverlay }

// name is what an error calls the line: the user's own path.
func (o operation) name() string {
	switch {
	case o.Do == doBind:
		return o.Source + " at " + o.Target
	case o.Target != "":
		return o.Target
	}
	return o.Source
}

// stage covers the staging point with a scratch folder. It goes away with the old root. What this process has open
// keeps its names there: before Linux 6.6 they are the way to change modes.
func stage() error {
	self, err := cloneTree("/proc/self")
	if err != nil {
		return err
	}
	defer unix.Close(self)
	fd, err := newFilesystem("tmpfs", 0, "mode=0755")
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	defer unix.Close(fd)
	if err := place(fd, stagingPoint); err != nil {
		return fmt.Errorf("placing a scratch folder: %w", err)
	}
	if err := errors.Join(os.Mkdir(stagingPoint+"/root", 0o755), os.Mkdir(stagingPoint+"/self", 0o755)); err != nil {
		return err
	}
	return place(self, stagingPoint+"/self")
}

// pivot makes the tree the root and lets go of the old one, and with it of every name on the host.
func pivot(tree int) error {
	root := stagingPoint + "/root"
	if err := place(tree, root); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	// The old root ends up on top of the new one, and is taken off there: no folder for it is needed.
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// open makes the line's mount, not yet placed anywhere.
func (o operation) open(line int) (int, error) {
	switch o.Do {
	case doRoot, doOverlay:
		return o.openOverlay(filepath.Join(stagingPoint, strconv.Itoa(line)))
	case doBind:
		return o.openBind()
	case doTmpfs:
		options := []string{fmt.Sprintf("mode=%o", o.Mode)}
		if o.Size > 0 {
			options = append(options, fmt.Sprintf("size=%d", o.Size))
		}
		return newFilesystem("tmpfs", o.attributes(), options...)
	case doProc:
		return openProc()
	case doDevpts:
		return newFilesystem("devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "newinstance", "ptmxmode=0666", "mode=0620")
	case doBinfmt:
		return o.openBinfmt()
	}
	return -1, nil
}

// attributes: setuid bits mean nothing inside in any case, and device nodes none but those of /dev.
func (o operation) attributes() uint64 {
	a := uint64(unix.MOUNT_ATTR_NOSUID)
	if !o.Device {
		a |= unix.MOUNT_ATTR_NODEV
	}
	if o.ReadOnly {
		a |= unix.MOUNT_ATTR_RDONLY
	}
	return a
}

func openProc() (int, error) {
	fd, err := newFilesystem("proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if errors.Is(err, unix.EPERM) {
		// The kernel gives nobody a view of /proc who had only a part of it.
		return fd, fmt.Errorf("%w; a surrounding container masks parts of /proc: start that with all of it "+
			"(docker and podman: --security-opt systempaths=unconfined)", err)
	}
	return fd, err
}

func (o operation) openBind() (int, error) {
	fd, err := cloneTree(o.Source)
	if o.Optional && errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	return fd, setAttributes(fd, o.attributes())
}

// perform does the line inside the new root.
func (o operation) perform(tree int) error {
	switch o.Do {
	case doDirectory:
		return o.directory()
	case doLink:
		return os.Symlink(o.Source, o.Target)
	case doWrite:
		return ignoreMissing(os.WriteFile(o.Target, []byte(o.Source), 0o644))
	case doSeal:
		return seal(o.Target)
	case doMask:
		return mask(o.Target)
	case doHostname:
		return os.NewSyscallError("sethostname", unix.Sethostname([]byte(o.Source)))
	case doLoopback:
		return raiseLoopback()
	}
	if tree < 0 {
		return nil
	}
	defer unix.Close(tree)
	if err := o.makeTarget(tree); err != nil {
		return err
	}
	return cover(tree, o.Target)
}

func (o operation) directory() error {
	if err := os.MkdirAll(o.Target, 0o755); err != nil {
		return err
	}
	if err := folder(o.Target); err != nil {
		return err
	}
	return unix.Chmod(o.Target, o.Mode)
}

// makeTarget makes the place for a mount: a folder, or a file when the mount is of a file.
func (o operation) makeTarget(tree int) error {
	var top unix.Stat_t
	if err := unix.Fstat(tree, &top); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if top.Mode&unix.S_IFMT == unix.S_IFDIR {
		return ignoreExisting(os.MkdirAll(o.Target, 0o755))
	}
	if _, err := os.Stat(o.Target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(o.Target, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// seal makes what is at the path read-only: a clone of it is placed on top.
func seal(path string) error {
	fd, err := cloneTree(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Not recursive: what is mounted below has been given its own attributes.
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	return cover(fd, path)
}

// mask covers what is at the path with nothing.
func mask(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var fd int
	if info.IsDir() {
		fd, err = newFilesystem("tmpfs", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, "mode=0555", "size=4096")
	} else {
		fd, err = cloneTree("/dev/null")
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return cover(fd, path)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func ignoreExisting(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return os.NewSyscallError("ioctl", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
}
