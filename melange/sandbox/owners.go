package sandbox

import (
	"cmp"
	"io/fs"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A user namespace has some ids: those of 16 bits when the caller is root, one when the caller is a user without a
// range. To the kernel no file can belong to another, and chown to one is an error. But tar as root gives files to
// whoever had them where the archive was made, and install -o to whom they are to belong in the package.
//
// So the filter of system calls asks the agent about every chown to an id that the namespace has not. The agent
// gives the file to the stranger, which is an id that stands for all of those, notes whose it was meant to be, and has
// the call succeed. [Agent.Tar] reads the notes. The stranger is 65535, as whom nobody may be known, or the only id
// there is; what belongs to it without a note is root's. A file that is given to a mapped id is no longer the
// stranger's, and with that its note is void; where there is one id only, every chown is asked about instead.
//
// This much can still be told from the real thing: stat shows the stranger, so that who copies a file with the owner
// that it shows (cp -a, mv to another filesystem) has a copy that is root's. Commands that administrate have ids of
// their own to do it with, and the kernel alone to answer them. And the kernel has one listener: a program inside cannot
// listen to its children's system calls; and where somebody outside listens to ours, as some container runtimes
// do, such a chown is EINVAL as ever.

// owners are the notes. A file is known by its number, and by when it was made, because numbers are given again.
type owners struct {
	uids, gids mapped

	mu    sync.Mutex
	notes map[fileID]owner
}

type fileID struct {
	device, number uint64
	born           int64 // nanoseconds
}

type owner struct{ uid, gid uint32 }

// ownersLimit bounds the notes, to some 50 MiB. What would be one more is ENOSPC.
const ownersLimit = 1 << 19

// unchanged is the id that chown is given for what is to stay; in a note it is one that is not noted.
const unchanged = ^uint32(0)

func newOwners() (*owners, error) {
	uids, err := ownExtents("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	gids, err := ownExtents("/proc/self/gid_map")
	return &owners{uids: uids, gids: gids, notes: make(map[fileID]owner)}, err
}

// mapped is the ids that a namespace has.
type mapped []syscall.SysProcIDMap

// stranger is the id that stands for those which are not mapped.
func (m mapped) stranger() uint32 {
	if exists(m, strangerID) {
		return strangerID
	}
	return 0
}

// foreign reports whether files of the id are the stranger's.
func (m mapped) foreign(id uint32) bool {
	return id != unchanged && (id == m.stranger() || id >= idRange || !exists(m, int(id)))
}

// below is a number below which no id is foreign.
func (m mapped) below() uint32 {
	byID := func(a, b syscall.SysProcIDMap) int { return cmp.Compare(a.ContainerID, b.ContainerID) }
	n := 0
	for _, r := range slices.SortedFunc(slices.Values(m), byID) {
		if r.ContainerID == n {
			n += r.Size
		}
	}
	return min(uint32(n), m.stranger())
}

// real is what the kernel is told instead of the id, noted what is remembered.
func (m mapped) real(id uint32) uint32 {
	if m.foreign(id) {
		return m.stranger()
	}
	return id
}

func (m mapped) noted(id, before uint32) uint32 {
	switch {
	case id == unchanged:
		return before
	case m.foreign(id) && id != m.stranger() && id != strangerID:
		return id
	}
	return unchanged
}

// idle reports whether the kernel alone can give a file to the owner: there is nothing to note, nor to forget.
func (o *owners) idle(to owner) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.notes) == 0 && o.uids.real(to.uid) == to.uid && o.gids.real(to.gid) == to.gid
}

// give makes the file, opened as a place, the owner's.
func (o *owners) give(fd int, to owner) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	uid, gid := o.uids.real(to.uid), o.gids.real(to.gid)
	if err := unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	id, err := identify(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		return err
	}
	before, known := o.notes[id]
	if !known {
		before = owner{unchanged, unchanged}
	}
	after := owner{o.uids.noted(to.uid, before.uid), o.gids.noted(to.gid, before.gid)}
	switch {
	case after == owner{unchanged, unchanged}:
		delete(o.notes, id)
	case !known && len(o.notes) >= ownersLimit:
		return unix.ENOSPC
	default:
		o.notes[id] = after
	}
	return nil
}

func identify(dir int, name string, flags int) (fileID, error) {
	var s unix.Statx_t
	if err := unix.Statx(dir, name, flags, unix.STATX_INO|unix.STATX_BTIME, &s); err != nil {
		return fileID{}, err
	}
	return fileID{unix.Mkdev(s.Dev_major, s.Dev_minor), s.Ino, s.Btime.Sec*1e9 + int64(s.Btime.Nsec)}, nil
}

// of returns whose the file of that name is, of which the kernel says that it is uid's and gid's.
func (o *owners) of(name string, uid, gid int) (int, int, error) {
	uidStranger, gidStranger := int(o.uids.stranger()), int(o.gids.stranger())
	if uid != uidStranger && gid != gidStranger {
		return uid, gid, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	note := owner{unchanged, unchanged}
	if len(o.notes) > 0 {
		id, err := identify(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return 0, 0, &fs.PathError{Op: "statx", Path: name, Err: err}
		}
		if known, ok := o.notes[id]; ok {
			note = known
		}
	}
	return whose(uid, uidStranger, note.uid), whose(gid, gidStranger, note.gid), nil
}

func whose(id, stranger int, noted uint32) int {
	switch {
	case id != stranger:
		return id
	case noted != unchanged:
		return int(noted)
	}
	return 0
}
