package filetree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
)

// cpioTypes are the bits of st_mode.
var cpioTypes = map[fs.FileMode]uint32{
	0:                                 0o100000,
	fs.ModeDir:                        0o040000,
	fs.ModeSymlink:                    0o120000,
	fs.ModeNamedPipe:                  0o010000,
	fs.ModeDevice:                     0o060000,
	fs.ModeDevice | fs.ModeCharDevice: 0o020000,
}

// WriteCPIO writes the tree as a cpio archive of the "newc" form, which is what Linux unpacks as its first root (kernel
// documentation, "initramfs buffer format"). Entries come in the order of InTarOrder; the content of a file with several
// names comes with the first of them. Extended attributes have no place in the format and are left out.
func WriteCPIO(w io.Writer, t *Tree) error {
	c := cpioWriter{w: w, links: make(map[string]uint32), inodes: make(map[string]uint32)}
	for e := range t.All() {
		if e.HardLink {
			c.links[e.Link]++
		}
	}
	for e, err := range t.InTarOrder() {
		if err != nil {
			return err
		}
		if err := c.entry(t, e); err != nil {
			return fmt.Errorf("writing %s into cpio archive: %w", e.Path, err)
		}
	}
	return c.member(cpioMember{name: "TRAILER!!!", nlink: 1}, strings.NewReader(""))
}

type cpioWriter struct {
	w      io.Writer
	next   uint32            // number of the last inode
	links  map[string]uint32 // hard links to each file
	inodes map[string]uint32 // of the files that were written
}

// cpioMember is a header; fields of it that are always zero are left out.
type cpioMember struct {
	name               string
	inode, mode, nlink uint32
	uid, gid, mtime    uint32
	size               uint32
	devMajor, devMinor uint32
}

func (c *cpioWriter) entry(t *Tree, e *Entry) error {
	m := cpioMember{
		name: e.Path, mode: cpioTypes[e.Mode.Type()] | Unix(e.Mode), nlink: 1 + c.links[e.Path],
		uid: uint32(e.UID), gid: uint32(e.GID), devMajor: e.DevMajor, devMinor: e.DevMinor,
	}
	if s := e.ModTime.Unix(); s > 0 && s <= math.MaxUint32 {
		m.mtime = uint32(s)
	}
	switch {
	case e.HardLink:
		m.inode, m.nlink = c.inodes[e.Link], 1+c.links[e.Link]
		return c.member(m, strings.NewReader(""))
	case e.Mode.IsDir():
		m.nlink = 2
	}
	c.next++
	m.inode, c.inodes[e.Path] = c.next, c.next
	if e.Mode.Type() == fs.ModeSymlink {
		m.size = uint32(len(e.Link))
		return c.member(m, strings.NewReader(e.Link))
	}
	if !e.IsRegular() {
		return c.member(m, strings.NewReader(""))
	}
	if e.Size > math.MaxUint32 {
		return errors.New("it is larger than the format can say")
	}
	m.size = uint32(e.Size)
	content, err := t.Open(e)
	if err != nil {
		return err
	}
	defer content.Close()
	return c.member(m, content)
}

// member writes a header, the name and the content, each filled up to a multiple of four bytes.
func (c *cpioWriter) member(m cpioMember, content io.Reader) error {
	header := "070701"
	for _, n := range []uint32{
		m.inode, m.mode, m.uid, m.gid, m.nlink, m.mtime, m.size, 0, 0, m.devMajor, m.devMinor, uint32(len(m.name) + 1), 0,
	} {
		header += fmt.Sprintf("%08X", n)
	}
	header += m.name + "\x00"
	header += strings.Repeat("\x00", -len(header)&3)
	if _, err := io.WriteString(c.w, header); err != nil {
		return err
	}
	n, err := io.Copy(c.w, content)
	if err == nil && n != int64(m.size) {
		err = fmt.Errorf("its content has %d bytes, not %d", n, m.size)
	}
	if err == nil {
		_, err = io.WriteString(c.w, strings.Repeat("\x00", int(-n&3)))
	}
	return err
}
