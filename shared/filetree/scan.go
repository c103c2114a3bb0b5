package filetree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ScanOptions say how what lies in a host directory is read as a tree.
type ScanOptions struct {
	// Owner gives the owner in the tree of a file, by its name and its owner on the disk. Nil keeps that one.
	Owner func(name string, uid, gid int) (int, int, error)

	// Xattr says which extended attributes are part of the tree. Nil takes file capabilities and
	// user attributes, except those that belong to an overlay.
	Xattr func(name string) bool

	// Memory bounds, in bytes and roughly, what the tree may take: names and attributes, not content. Zero is no bound.
	Memory int64
}

// Scan reads the directory as a tree. The content of files stays where it is, and is opened when it is
// asked for; names that share an inode are hard links to the first of them. Sockets are left out.
func Scan(dir string, o ScanOptions) (*Tree, error) {
	s := scanner{o: o, dir: dir, tree: New(), inodes: make(map[inode]string)}
	if s.o.Xattr == nil {
		s.o.Xattr = wantedXattr
	}
	if err := filepath.WalkDir(dir, s.visit); err != nil {
		return nil, fmt.Errorf("scanning %s: %w", dir, err)
	}
	return s.tree, nil
}

type inode struct{ dev, ino uint64 }

type scanner struct {
	o      ScanOptions
	dir    string
	tree   *Tree
	inodes map[inode]string // first name of each file that has several
	memory int64
}

func (s *scanner) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(s.dir, name)
	if err != nil {
		return err
	}
	if rel == "." {
		if !d.IsDir() {
			return errors.New("not a directory")
		}
		return nil
	}
	if d.Type() == fs.ModeSocket {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	e, err := s.entry(name, rel, info)
	if err != nil {
		return err
	}
	s.memory += memoryOf(e)
	if s.o.Memory > 0 && s.memory > s.o.Memory {
		return fmt.Errorf("its names alone take more than %d bytes", s.o.Memory)
	}
	return s.tree.Put(e)
}

// memoryOf is about what an entry takes.
func memoryOf(e Entry) int64 {
	const bare = 256
	n := bare + len(e.Path) + len(e.Link)
	for name, value := range e.Xattrs {
		n += len(name) + len(value)
	}
	return int64(n)
}

func (s *scanner) entry(name, rel string, info fs.FileInfo) (Entry, error) {
	stat := info.Sys().(*syscall.Stat_t)
	e := Entry{
		Path: rel, Mode: info.Mode(), UID: int(stat.Uid), GID: int(stat.Gid),
		ModTime: info.ModTime().Truncate(time.Second),
	}
	var err error
	if s.o.Owner != nil {
		if e.UID, e.GID, err = s.o.Owner(name, e.UID, e.GID); err != nil {
			return e, err
		}
	}
	switch kind := e.Mode.Type(); {
	case kind == 0:
		if first, seen := s.firstName(rel, stat); seen {
			e.HardLink, e.Link = true, first
			return e, nil
		}
		e.Size = info.Size()
		e.Open = func() (io.ReadCloser, error) { return os.OpenInRoot(s.dir, rel) }
	case kind == fs.ModeSymlink:
		e.Link, err = os.Readlink(name)
		return e, err
	case kind&fs.ModeDevice != 0:
		e.DevMajor, e.DevMinor = unix.Major(stat.Rdev), unix.Minor(stat.Rdev)
	}
	e.Xattrs, err = s.xattrs(name)
	return e, err
}

// firstName returns the name under which the file was met before.
func (s *scanner) firstName(rel string, stat *syscall.Stat_t) (string, bool) {
	if stat.Nlink < 2 {
		return "", false
	}
	id := inode{uint64(stat.Dev), stat.Ino}
	first, seen := s.inodes[id]
	if !seen {
		s.inodes[id] = rel
	}
	return first, seen
}

func (s *scanner) xattrs(name string) (map[string]string, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(name, b) })
	if errors.Is(err, unix.ENOTSUP) || (err == nil && len(list) == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	var xattrs map[string]string
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if !s.o.Xattr(key) {
			continue
		}
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(name, key, b) })
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + key, Path: name, Err: err}
		}
		if key == capability {
			value = plainCapability(value)
		}
		if xattrs == nil {
			xattrs = make(map[string]string)
		}
		xattrs[key] = string(value)
	}
	return xattrs, nil
}

// grow calls for the size first, and again when the value grew meanwhile.
func grow(call func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := call(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = call(b)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		return b[:max(n, 0)], err
	}
}

const capability = "security.capability"

func wantedXattr(name string) bool {
	return name == capability || (strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay."))
}

// plainCapability undoes what the kernel does to capabilities that were set inside a user namespace: it
// keeps the namespace's root with them (revision 3), so that they mean nothing on any other machine.
func plainCapability(value []byte) []byte {
	const revision2, revision3, revisionMask = 0x02000000, 0x03000000, 0xff000000
	const size2, size3 = 20, 24
	if len(value) != size3 {
		return value
	}
	magic := binary.LittleEndian.Uint32(value)
	if magic&revisionMask != revision3 {
		return value
	}
	binary.LittleEndian.PutUint32(value, magic&^uint32(revisionMask)|revision2)
	return value[:size2]
}
