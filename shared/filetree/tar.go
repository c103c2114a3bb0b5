package filetree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"time"
)

const xattrRecord = "SCHILY.xattr."

// FromHeader turns a tar header into an entry without content. It refuses what could lead outside the
// tree (absolute names, "..") and what no tree holds. An entry with no place in a tree because it
// describes the top itself or the archive is nil.
//
// A hard link's Mode is what the header says; only the tree knows the file it names.
func FromHeader(h *tar.Header) (*Entry, error) {
	if isSparse(h) {
		return nil, fmt.Errorf("tar entry %q: sparse files are refused", h.Name)
	}
	kind, ok := tarTypes[h.Typeflag]
	if !ok {
		if h.Typeflag == tar.TypeXGlobalHeader {
			return nil, nil
		}
		return nil, fmt.Errorf("tar entry %q: type %q is not known", h.Name, h.Typeflag)
	}
	name, err := tarPath(h.Name)
	if err != nil {
		return nil, err
	}
	if name == "." {
		if kind != fs.ModeDir {
			return nil, fmt.Errorf("tar entry %q: the top is a directory", h.Name)
		}
		return nil, nil
	}
	e := &Entry{
		Path: name, Mode: kind | modeOf(h.Mode), UID: h.Uid, GID: h.Gid, User: h.Uname, Group: h.Gname,
		ModTime: h.ModTime.Truncate(time.Second), Xattrs: xattrsOf(h.PAXRecords),
	}
	switch h.Typeflag {
	case tar.TypeLink:
		e.HardLink = true
		if e.Link, err = tarPath(h.Linkname); err != nil {
			return nil, fmt.Errorf("hard link %s: %w", name, err)
		}
	case tar.TypeSymlink:
		e.Link = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.DevMajor, e.DevMinor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeReg:
		e.Size = h.Size
	}
	return e, e.check()
}

var tarTypes = map[byte]fs.FileMode{
	tar.TypeReg:     0,
	tar.TypeLink:    0,
	tar.TypeDir:     fs.ModeDir,
	tar.TypeSymlink: fs.ModeSymlink,
	tar.TypeFifo:    fs.ModeNamedPipe,
	tar.TypeBlock:   fs.ModeDevice,
	tar.TypeChar:    fs.ModeDevice | fs.ModeCharDevice,
}

// isSparse recognizes a file of which the archive holds only a map: with it a few hundred bytes can
// claim to be exabytes of zeros, which no limit on the stream would stop.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// tarPath is the canonical spelling of a name in a tar: "./usr//bin/" is "usr/bin".
func tarPath(name string) (string, error) {
	if path.IsAbs(name) || name == "" {
		return "", fmt.Errorf("tar entry %q: the name is not relative", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf(`tar entry %q: ".." leads outside`, name)
		}
	}
	return path.Clean(name), nil
}

// Only the twelve permission bits count: the type is said by the type flag, whatever the mode claims.
func modeOf(bits int64) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range specialBits {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// Unix returns the twelve permission bits of the mode as the kernel spells them.
func Unix(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	for bit, flag := range specialBits {
		if mode&flag != 0 {
			bits |= uint32(bit)
		}
	}
	return bits
}

var specialBits = map[int64]fs.FileMode{
	0o4000: fs.ModeSetuid,
	0o2000: fs.ModeSetgid,
	0o1000: fs.ModeSticky,
}

func xattrsOf(pax map[string]string) map[string]string {
	var xattrs map[string]string
	for record, value := range pax {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok && name != "" {
			if xattrs == nil {
				xattrs = make(map[string]string)
			}
			xattrs[name] = value
		}
	}
	return xattrs
}

// Header returns the tar header of e. The pax records are added to those that e itself needs.
func Header(e *Entry, pax map[string]string) (*tar.Header, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	h := &tar.Header{
		Name: e.Path, Mode: int64(Unix(e.Mode)), Uid: e.UID, Gid: e.GID, Uname: e.User, Gname: e.Group,
		ModTime: e.ModTime.Truncate(time.Second),
	}
	switch kind := e.Mode.Type(); {
	case e.HardLink:
		h.Typeflag, h.Linkname = tar.TypeLink, e.Link
	case kind == 0:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case kind == fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case kind == fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
	case kind == fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case kind == fs.ModeDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(e.DevMajor), int64(e.DevMinor)
	default:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(e.DevMajor), int64(e.DevMinor)
	}
	if len(e.Xattrs)+len(pax) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs)+len(pax))
		for name, value := range e.Xattrs {
			h.PAXRecords[xattrRecord+name] = value
		}
		for record, value := range pax {
			h.PAXRecords[record] = value
		}
	}
	return h, nil
}

// WriteEntry writes e with its content: as plain ustar where that can hold it, with PAX records
// otherwise. Of one entry it always writes the same bytes.
func WriteEntry(tw *tar.Writer, e *Entry, pax map[string]string) error {
	h, err := Header(e, pax)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("writing tar entry %s: %w", e.Path, err)
	}
	if !e.IsRegular() || (e.Open == nil && e.Size == 0) {
		return nil
	}
	if e.Open == nil {
		return fmt.Errorf("writing tar entry %s: %d bytes that cannot be opened", e.Path, e.Size)
	}
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("writing tar entry %s: %w", e.Path, err)
	}
	defer r.Close()
	n, err := io.Copy(tw, r)
	if err == nil && n < e.Size {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, tar.ErrWriteTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("content is not %d bytes long: %w", e.Size, err)
	}
	if err != nil {
		return fmt.Errorf("writing tar entry %s: %w", e.Path, err)
	}
	return nil
}

// WriteTar writes the tree in the order of InTarOrder, with the two zero blocks at the end.
func WriteTar(w io.Writer, t *Tree) error {
	tw := tar.NewWriter(w)
	for e, err := range t.InTarOrder() {
		if err != nil {
			return err
		}
		if err := WriteEntry(tw, e, nil); err != nil {
			return err
		}
	}
	return tw.Close()
}

// InTarOrder yields the entries as All does, except that a hard link that would come before the file it
// names follows it directly: a reader can make a link only to what is there. A hard link that leads to no
// regular file is an error.
func (t *Tree) InTarOrder() iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		written := make(map[*Entry]bool) // of the files that hard links name
		for e := range t.All() {
			if e.HardLink {
				target, err := t.linked(e)
				if err != nil {
					yield(nil, err)
					return
				}
				written[target] = false
			}
		}
		waiting := make(map[*Entry][]*Entry) // links by the file they name
		for e := range t.All() {
			if e.HardLink {
				if target, _ := t.linked(e); !written[target] {
					waiting[target] = append(waiting[target], e)
					continue
				}
			}
			if !yield(e, nil) {
				return
			}
			for _, link := range waiting[e] {
				if !yield(link, nil) {
					return
				}
			}
			if _, named := written[e]; named {
				written[e] = true
			}
		}
	}
}

// ReadTar reads a whole tar stream. For each regular file content decides where the bytes go and how
// they are opened again; nil keeps them in memory. Of two entries of one path the later one holds.
//
// Hostile streams are refused: names that lead outside, entries below something that is no directory,
// hard links to what is not there.
func ReadTar(r io.Reader, content func(*Entry, io.Reader) (open func() (io.ReadCloser, error), err error)) (*Tree, error) {
	if content == nil {
		content = inMemory
	}
	t := New()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return t, t.checkLinks()
		}
		if err != nil {
			return nil, fmt.Errorf("reading tar: %w", err)
		}
		e, err := FromHeader(h)
		if err != nil {
			return nil, fmt.Errorf("reading tar: %w", err)
		}
		if e == nil {
			continue
		}
		if e.IsRegular() {
			if e.Open, err = content(e, tr); err != nil {
				return nil, fmt.Errorf("reading tar entry %s: %w", e.Path, err)
			}
		}
		if err := t.putLinked(*e); err != nil {
			return nil, fmt.Errorf("reading tar: %w", err)
		}
	}
}

func inMemory(e *Entry, r io.Reader) (func() (io.ReadCloser, error), error) {
	b, err := io.ReadAll(r)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return Bytes(b), nil
}

// putLinked is Put for entries in the order of an archive: a hard link is brought to the form that names
// the first name of the file, and has the file's mode. A hard link to a link or device becomes its copy.
func (t *Tree) putLinked(e Entry) error {
	if !e.HardLink {
		return t.Put(e)
	}
	target, ok := t.Lookup(e.Link)
	if ok && target.HardLink {
		target, ok = t.Lookup(target.Link)
	}
	switch {
	case !ok || target.Mode.IsDir():
		return fmt.Errorf("hard link %s: %s is not there", e.Path, e.Link)
	case target.Path == e.Path:
		return nil
	case target.IsRegular():
		e.Link, e.Mode = target.Path, target.Mode
		return t.Put(e)
	default:
		twin := *target
		twin.Path = e.Path
		return t.Put(twin)
	}
}

func (t *Tree) checkLinks() error {
	for e := range t.All() {
		if e.HardLink {
			if _, err := t.linked(e); err != nil {
				return err
			}
		}
	}
	return nil
}
