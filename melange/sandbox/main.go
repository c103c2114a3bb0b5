package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main takes over when this process is a stage of a sandbox, and then does not return. It must be the first
// thing that a main or TestMain does.
func Main() {
	if len(os.Args) < 2 || os.Args[0] != processName {
		return
	}
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
func setup(w *wire) error {
	var r request
	if _, err := w.receive(&r); err != nil {
		return fmt.Errorf("reading the policy: %w", err)
	}
	unix.Umask(0o022)
	g := &guest{wire: w, who: r.Policy.Identity, setgroups: maySetGroups(), memoryMounts: memoryMounts(r.Policy.Lines)}
	var err error
	if g.owners, err = newOwners(); err != nil {
		return err
	}
	if g.measured, err = openFolders(r.Policy.Measured); err != nil {
		return err
	}
	if err := enter(r.Policy.Lines); err != nil {
		return err
	}
	if g.launchers, err = newLaunchers(*r.Policy, g.owners); err != nil {
		return err
	}
	if err := hear(g.launchers.filters, g.owners); err != nil {
		return err
	}
	return g.serve()
}

// openFolders keeps hold of folders for when their names are gone: each as a mount of its own, to read, from which no way
// leads up to the rest of the host.
func openFolders(names []string) ([]*os.File, error) {
	var folders []*os.File
	for _, name := range names {
		fd, err := cloneTree(name)
		if err == nil {
			err = setAttributes(fd, unix.MOUNT_ATTR_RDONLY)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		folders = append(folders, os.NewFile(uintptr(fd), name))
	}
	return folders, nil
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
