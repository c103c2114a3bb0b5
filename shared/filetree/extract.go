package filetree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ExtractOptions say what of a tree is put on a disk. The zero value is right for an ordinary user:
// content, permissions, times and links.
type ExtractOptions struct {
	Owner       bool // set owners and groups; needs the privilege
	Xattrs      bool // set extended attributes; an error where the disk or the kernel refuses
	SkipDevices bool // leave device nodes out instead of making them, which needs a privilege
	NoSetID     bool // leave out setuid and setgid bits, which would mean the calling user on a disk of theirs
	OwnerAccess bool // whatever their modes, let the owner read files and change directories
}

// Extract writes the tree below dir, which is made if missing. What is there under the same name is
// replaced, except that a directory stays. No name and no link of the tree, nor any that dir held before,
// can make it write outside of dir.
func Extract(t *Tree, dir string, o ExtractOptions) error {
	x, err := NewExtractor(dir, o)
	if err != nil {
		return err
	}
	for e, err := range t.InTarOrder() {
		if err == nil {
			err = x.addOpened(e)
		}
		if err != nil {
			return errors.Join(err, x.Close())
		}
	}
	return x.Close()
}

// An Extractor writes entries below a directory as they come from a stream, in any order that an archive
// may have. Permissions and times of directories are set by Close, which must be called in any case.
type Extractor struct {
	o    ExtractOptions
	open []openedDir // from the top down to the directory last written to
	dirs map[string]*Entry
	buf  []byte
}

// openedDir is a directory that was reached one name at a time, never through a link.
type openedDir struct {
	path string
	root *os.Root
	file *os.File // of the same directory, for the calls that os.Root has not
}

// NewExtractor starts writing below dir, which is made if missing.
func NewExtractor(dir string, o ExtractOptions) (*Extractor, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	file, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Extractor{
		o: o, open: []openedDir{{".", root, file}}, dirs: make(map[string]*Entry), buf: make([]byte, 128<<10),
	}, nil
}

func (x *Extractor) addOpened(e *Entry) error {
	if !e.IsRegular() || e.Open == nil {
		return x.Add(e, strings.NewReader(""))
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return x.Add(e, r)
}

// Add writes one entry; content is read only for regular files and must be e.Size bytes long. Missing
// parents are made with mode 0755.
func (x *Extractor) Add(e *Entry, content io.Reader) error {
	if err := e.check(); err != nil {
		return err
	}
	dir, err := x.enter(path.Dir(e.Path))
	if err == nil {
		err = x.make(dir, path.Base(e.Path), e, content)
	}
	if err != nil {
		return fmt.Errorf("extracting %s: %w", e.Path, err)
	}
	return nil
}

// enter makes the directory the one last opened. The names of a stream come mostly sorted, so that
// the way from the directory before is short.
func (x *Extractor) enter(dir string) (openedDir, error) {
	for last := x.open[len(x.open)-1]; last.path != "." && last.path != dir && !strings.HasPrefix(dir, last.path+"/"); {
		last.close()
		x.open = x.open[:len(x.open)-1]
		last = x.open[len(x.open)-1]
	}
	last := x.open[len(x.open)-1]
	if last.path == dir || dir == "." {
		return last, nil
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(dir, strings.TrimPrefix(last.path+"/", "./")), "/") {
		next, err := last.enter(name, x.dirs)
		if err != nil {
			return openedDir{}, err
		}
		x.open = append(x.open, next)
		last = next
	}
	return last, nil
}

func (d openedDir) enter(name string, made map[string]*Entry) (openedDir, error) {
	next := openedDir{path: path.Join(d.path, name)}
	info, err := d.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		made[next.path] = &Entry{Path: next.path, Mode: fs.ModeDir | 0o755}
		err = d.root.Mkdir(name, 0o700)
	case err == nil && !info.IsDir():
		err = fmt.Errorf("%s: %w", next.path, ErrNotDir)
	}
	if err != nil {
		return openedDir{}, err
	}
	if next.root, err = d.root.OpenRoot(name); err != nil {
		return openedDir{}, err
	}
	if next.file, err = next.root.Open("."); err != nil {
		next.root.Close()
		return openedDir{}, err
	}
	return next, nil
}

func (d openedDir) close() {
	d.file.Close()
	d.root.Close()
}

func (x *Extractor) make(dir openedDir, name string, e *Entry, content io.Reader) error {
	kind := e.Mode.Type()
	if kind == fs.ModeDir {
		return x.mkdir(dir, name, e)
	}
	if kind&fs.ModeDevice != 0 && x.o.SkipDevices {
		return nil
	}
	err := x.create(dir, name, e, content)
	if errors.Is(err, fs.ErrExist) { // nothing of content was read yet
		if err := dir.root.Remove(name); err != nil {
			return err
		}
		err = x.create(dir, name, e, content)
	}
	if err != nil || e.HardLink {
		return err
	}
	return x.metadata(dir, name, e)
}

// create makes a name that must not be there.
func (x *Extractor) create(dir openedDir, name string, e *Entry, content io.Reader) error {
	switch kind := e.Mode.Type(); {
	case e.HardLink:
		return x.link(e)
	case kind == 0:
		return x.file(dir, name, e, content)
	case kind == fs.ModeSymlink:
		return dir.root.Symlink(e.Link, name)
	}
	err := unix.Mknodat(int(dir.file.Fd()), name, nodeMode(e.Mode), int(unix.Mkdev(e.DevMajor, e.DevMinor)))
	if err != nil {
		return &fs.PathError{Op: "mknod", Path: e.Path, Err: err}
	}
	return nil
}

func nodeMode(mode fs.FileMode) uint32 {
	switch mode.Type() {
	case fs.ModeNamedPipe:
		return unix.S_IFIFO | 0o600
	case fs.ModeDevice:
		return unix.S_IFBLK | 0o600
	}
	return unix.S_IFCHR | 0o600
}

func (x *Extractor) mkdir(dir openedDir, name string, e *Entry) error {
	info, err := dir.root.Lstat(name)
	if err == nil && !info.IsDir() {
		return errors.New("something else than a directory is there")
	}
	if err != nil {
		// Writable for ourselves until Close, whatever its mode says.
		if err := dir.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	entry := *e
	x.dirs[e.Path] = &entry
	return nil
}

// link makes a hard link by names from the top: both must lie below it, and no part of either may be
// a link, because the kernel makes a link to what it finds there.
func (x *Extractor) link(e *Entry) error {
	top := x.open[0].root
	for dir := path.Dir(e.Link); dir != "."; dir = path.Dir(dir) {
		if info, err := top.Lstat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("hard link to %s: %s: %w", e.Link, dir, ErrNotDir)
		}
	}
	info, err := top.Lstat(e.Link)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", e.Link, err)
	}
	return top.Link(e.Link, e.Path)
}

func (x *Extractor) file(dir openedDir, name string, e *Entry, content io.Reader) error {
	f, err := dir.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// The plain Writer keeps the buffer in use: a file's ReadFrom would allocate its own each time. But what is a file
	// itself is copied by the kernel, which may let both share it.
	to := io.Writer(struct{ io.Writer }{f})
	if _, ok := content.(*os.File); ok {
		to = f
	}
	n, err := io.CopyBuffer(to, content, x.buf)
	if err == nil && n != e.Size {
		err = fmt.Errorf("content is %d bytes long, not %d", n, e.Size)
	}
	return errors.Join(err, f.Close())
}

// metadata sets what a name has besides its content: the owner first, because that clears setuid.
func (x *Extractor) metadata(dir openedDir, name string, e *Entry) error {
	if x.o.Owner {
		if err := dir.root.Lchown(name, e.UID, e.GID); err != nil {
			return err
		}
	}
	if e.Mode.Type() != fs.ModeSymlink {
		if err := dir.root.Chmod(name, x.o.mode(e.Mode)); err != nil {
			return err
		}
	}
	if x.o.Xattrs && len(e.Xattrs) > 0 {
		if err := setXattrs(dir, name, e.Xattrs); err != nil {
			return err
		}
	}
	at, err := unix.TimeToTimespec(written(e.ModTime))
	if err == nil {
		err = unix.UtimesNanoAt(int(dir.file.Fd()), name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return &fs.PathError{Op: "utimensat", Path: e.Path, Err: err}
	}
	return nil
}

func (o ExtractOptions) mode(mode fs.FileMode) fs.FileMode {
	bits := mode.Perm() | mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if o.NoSetID {
		bits &^= fs.ModeSetuid | fs.ModeSetgid
	}
	switch {
	case o.OwnerAccess && mode.IsDir():
		bits |= 0o700
	case o.OwnerAccess:
		bits |= 0o400
	}
	return bits
}

// written is the time that a tar would hold.
func written(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t.Truncate(time.Second)
}

// setXattrs goes through the link that /proc makes of the directory's descriptor: there is no
// setxattrat in the kernels of today, and no name that somebody could replace by another meanwhile.
func setXattrs(dir openedDir, name string, xattrs map[string]string) error {
	file := fmt.Sprintf("/proc/self/fd/%d/%s", dir.file.Fd(), name)
	for key, value := range xattrs {
		if err := unix.Lsetxattr(file, key, []byte(value), 0); err != nil {
			return fmt.Errorf("setting attribute %s: %w", key, err)
		}
	}
	return nil
}

// Close sets the permissions and times of all directories, deepest first, and lets go of the top.
func (x *Extractor) Close() error {
	paths := make([]string, 0, len(x.dirs))
	for p := range x.dirs {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var first error
	for _, p := range slices.Backward(paths) {
		dir, err := x.enter(path.Dir(p))
		if err == nil {
			err = x.metadata(dir, path.Base(p), x.dirs[p])
		}
		if err != nil && first == nil {
			first = fmt.Errorf("extracting %s: %w", p, err)
		}
	}
	for _, dir := range slices.Backward(x.open) {
		dir.close()
	}
	return first
}
