package sandbox

import (
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// identity is what every command of an environment is: its ids and what it may do beyond them.
//
// Two kinds of commands start in a user namespace below the environment's own.
//
// Where there is only one id, a command of another one than root has that id under another number: a map of one line.
//
// And who administrates namespaces gets some to administrate, a mount namespace with them. There it may mount what it
// likes, but not take away what the environment is covered with: the kernel locks mounts that come from the
// namespace of another user namespace. That counts where the caller is the host's root, who is root inside as well,
// and whom an uncovered /proc/sys would obey.
type identity struct {
	UID, GID     int
	Alias        bool  // the ids are other numbers for root's, the only ones there are
	Capabilities []int // that root has
	Ambient      []int `json:",omitempty"` // that others have
}

func (s *Sandbox) identity(ids mapping) (identity, error) {
	i := identity{UID: s.UID, GID: s.GID, Capabilities: s.Capabilities.kept(), Ambient: s.Capabilities.ambient()}
	i.Alias = ids.single() && (s.UID != 0 || s.GID != 0)
	if i.Alias {
		return i, nil
	}
	return i, ids.check(s.UID, s.GID)
}

// orRoot is the identity of a command that may have to be root.
func (i identity) orRoot(root bool) identity {
	if root {
		i.UID, i.GID, i.Alias = 0, 0, false
	}
	return i
}

func (i identity) root() bool { return i.UID == 0 && i.GID == 0 }

// administrates says whether commands have namespaces of their own.
func (i identity) administrates() bool { return slices.Contains(i.Capabilities, unix.CAP_SYS_ADMIN) }

// attributes are what a command is started with.
func (i identity) attributes(setgroups bool) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	if !i.root() {
		attr.Credential = &syscall.Credential{Uid: uint32(i.UID), Gid: uint32(i.GID), NoSetGroups: !setgroups || i.Alias}
		for _, c := range i.Ambient {
			attr.AmbientCaps = append(attr.AmbientCaps, uintptr(c))
		}
	}
	if i.administrates() {
		attr.Cloneflags |= syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	}
	switch {
	case i.Alias:
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: i.UID, HostID: 0, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: i.GID, HostID: 0, Size: 1}}
	case i.administrates():
		ids, err := rootMapping() // what there is here
		if err != nil {
			return nil, fmt.Errorf("mapping ids: %w", err)
		}
		ids.apply(attr)
	}
	return attr, nil
}
