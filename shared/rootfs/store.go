// Package rootfs turns packages into a root: into the layers of an overlay in which a build runs, and into
// the file tree of an image.
//
// It knows how the files of several packages come to lie in one tree, which of two packages has a file that
// both bring, and what a system needs besides the files of its packages. It runs no scripts, mounts
// nothing, and does not choose packages.
//
// A Store is a directory that any number of processes use at the same time:
//
//	<hash>/root    the files of the package whose data section has that SHA-256
//	<hash>/names   what the package says of them (owners, modes, links, checksums), as JSON
//	<hash>/boot    in which run of the machine the files were last known to be whole
//	roots/<key>/   the generated top layer of an environment, and which packages it is for
//	tmp/           what is being made; it gets its name when it is whole
//	locks/         one file for each directory that was ever made, locked meanwhile
package rootfs

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// A Store keeps unpacked packages. Their files belong to the calling user and are for the layers of an
// overlay; the owners that a package gives them are remembered beside.
type Store struct {
	Dir string
}

// A Layer is one package unpacked.
type Layer struct {
	Package *apk.Package
	Scripts apk.Scripts
	Dir     string // holds the package's files; nobody may write below it
}

// Unpack makes the package's files available. The package is verified as v says; its files are unpacked
// once, and verified before they can be seen. When they are here already only the control section is read.
func (s Store) Unpack(ctx context.Context, apkFile string, v apk.Verify) (Layer, error) {
	layer, err := s.unpack(ctx, apkFile, v)
	if err != nil {
		return Layer{}, fmt.Errorf("unpacking %s: %w", apkFile, err)
	}
	return layer, nil
}

func (s Store) unpack(ctx context.Context, apkFile string, v apk.Verify) (Layer, error) {
	f, err := os.Open(apkFile)
	if err != nil {
		return Layer{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Layer{}, err
	}
	r, err := apk.Open(f, v)
	if err != nil {
		return Layer{}, err
	}
	r.Package.Size = info.Size()
	dir := filepath.Join(s.Dir, r.Package.DataHash)
	layer := Layer{Package: r.Package, Scripts: r.Scripts, Dir: filepath.Join(dir, "root")}
	return layer, s.ensure(dir,
		func() bool { return s.recheck(ctx, dir) },
		func(temp string) error { return unpackInto(ctx, temp, r) })
}

// ensure makes dir with fill unless it is present. One that is there and not present is from before the
// machine last started; unless recheck finds it whole it is made anew. While one process is at it others
// that want the same wait.
func (s Store) ensure(dir string, recheck func() bool, fill func(temp string) error) error {
	if s.present(dir) {
		return nil
	}
	unlock, err := s.lock(filepath.Base(dir), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if s.present(dir) || recheck() {
		return nil
	}
	if err := s.discard(dir); err != nil {
		return err
	}
	return s.create(dir, fill)
}

// create lets fill write into a new directory, which then becomes dir in one step.
func (s Store) create(dir string, fill func(temp string) error) error {
	for _, d := range []string{filepath.Join(s.Dir, "tmp"), filepath.Dir(dir)} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return err
		}
	}
	temp, err := os.MkdirTemp(filepath.Join(s.Dir, "tmp"), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // gone already when all went well
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err := fill(temp); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

func unpackInto(ctx context.Context, dir string, r *apk.Reader) error {
	x, err := filetree.NewExtractor(filepath.Join(dir, "root"), filetree.ExtractOptions{
		SkipDevices: true, NoSetID: true, OwnerAccess: true,
	})
	if err != nil {
		return err
	}
	names, err := extract(ctx, x, r)
	if err := errors.Join(err, x.Close()); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(dir, "root"), 0o755); err != nil {
		return err
	}
	if err := writeNames(filepath.Join(dir, "names"), names); err != nil {
		return err
	}
	return stampBoot(dir)
}

// extract writes all entries and returns them. The data section is only known to be the right one after
// the last of them.
func extract(ctx context.Context, x *filetree.Extractor, r *apk.Reader) ([]File, error) {
	var files []File
	seen := map[string]bool{".": true}
	for {
		e, content, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if err := x.Add(e, content); err != nil {
			return nil, err
		}
		for _, dir := range parents(e.Path) {
			if !seen[dir] { // on the disk it is there now
				seen[dir] = true
				files = append(files, File{Entry: filetree.Entry{Path: dir, Mode: fs.ModeDir | 0o755}})
			}
		}
		seen[e.Path] = seen[e.Path] || e.Mode.IsDir()
		files = append(files, File{Entry: *e, Sum: r.Sum()})
	}
}

// namesFormat is the version of the file "names". Another version is as good as none.
const namesFormat = 1

type namesFile struct {
	Format int        `json:"format"`
	Names  []nameLine `json:"names"`
}

type nameLine struct {
	Path     string            `json:"p"`
	Mode     fs.FileMode       `json:"m"`
	UID      int               `json:"u,omitempty"`
	GID      int               `json:"g,omitempty"`
	User     string            `json:"un,omitempty"`
	Group    string            `json:"gn,omitempty"`
	Time     int64             `json:"t"`
	Size     int64             `json:"s,omitempty"`
	Link     string            `json:"l,omitempty"`
	HardLink bool              `json:"h,omitempty"`
	Major    uint32            `json:"dj,omitempty"`
	Minor    uint32            `json:"dn,omitempty"`
	Xattrs   map[string][]byte `json:"x,omitempty"`
	Sum      []byte            `json:"c,omitempty"`
}

func writeNames(file string, files []File) error {
	out := namesFile{Format: namesFormat, Names: make([]nameLine, 0, len(files))}
	for i := range files {
		e := &files[i]
		n := nameLine{
			Path: e.Path, Mode: e.Mode, UID: e.UID, GID: e.GID, User: e.User, Group: e.Group, Time: unixTime(e.ModTime),
			Size: e.Size, Link: e.Link, HardLink: e.HardLink, Major: e.DevMajor, Minor: e.DevMinor,
		}
		for key, value := range e.Xattrs {
			if n.Xattrs == nil {
				n.Xattrs = make(map[string][]byte)
			}
			n.Xattrs[key] = []byte(value)
		}
		if !e.Sum.IsZero() {
			n.Sum = e.Sum[:]
		}
		out.Names = append(out.Names, n)
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return writeSynced(file, b)
}

func unixTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func writeSynced(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// readNames returns what the package in dir brings. Files are opened where they were unpacked, and what
// is read of them is compared with the checksum that the package has for them.
func readNames(dir string) ([]File, error) {
	b, err := os.ReadFile(filepath.Join(dir, "names"))
	if err != nil {
		return nil, err
	}
	var in namesFile
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, "names"), err)
	}
	if in.Format != namesFormat {
		return nil, fmt.Errorf("reading %s: format %d, not %d", filepath.Join(dir, "names"), in.Format, namesFormat)
	}
	root := filepath.Join(dir, "root")
	files := make([]File, len(in.Names))
	for i, n := range in.Names {
		f := &files[i]
		f.Entry = n.entry()
		if len(n.Sum) == len(f.Sum) {
			f.Sum = apk.Checksum(n.Sum)
		}
		if f.IsRegular() {
			f.Open = opener(root, n.Path, n.Size, f.Sum)
		}
	}
	return files, nil
}

func (n nameLine) entry() filetree.Entry {
	e := filetree.Entry{
		Path: n.Path, Mode: n.Mode, UID: n.UID, GID: n.GID, User: n.User, Group: n.Group, ModTime: time.Unix(n.Time, 0).UTC(),
		Size: n.Size, Link: n.Link, HardLink: n.HardLink, DevMajor: n.Major, DevMinor: n.Minor,
	}
	for key, value := range n.Xattrs {
		if e.Xattrs == nil {
			e.Xattrs = make(map[string]string)
		}
		e.Xattrs[key] = string(value)
	}
	return e
}

func opener(root, name string, size int64, sum apk.Checksum) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := os.OpenInRoot(root, filepath.FromSlash(name))
		if err != nil {
			return nil, err
		}
		return &storedFile{file: f, size: size, sum: sum, hash: sha1.New()}, nil
	}
}

// ErrDamaged is the cause when an unpacked file is not what was unpacked.
var ErrDamaged = errors.New("the unpacked file was changed")

// storedFile compares a file with its checksum in passing.
type storedFile struct {
	file *os.File
	size int64
	sum  apk.Checksum // zero: the package has none
	hash hash.Hash
	read int64
}

func (f *storedFile) Read(p []byte) (int, error) {
	n, err := f.file.Read(p)
	f.hash.Write(p[:n])
	f.read += int64(n)
	if err == io.EOF && (f.read != f.size || (!f.sum.IsZero() && apk.Checksum(f.hash.Sum(nil)) != f.sum)) {
		return n, fmt.Errorf("%s: %w", f.file.Name(), ErrDamaged)
	}
	return n, err
}

func (f *storedFile) Close() error { return f.file.Close() }

// present reports whether the package is here and whole, and marks it as used.
//
// A process that dies leaves the disk right: a directory has its name only once it is whole. A machine
// that dies may not: the name can be on the disk before the content is. To wait for the disk with each
// package would cost more than unpacking it, so what was unpacked before the machine last started is not
// taken for whole until recheck has looked at it.
func (s Store) present(dir string) bool {
	boot, err := os.ReadFile(filepath.Join(dir, "boot"))
	if err != nil || string(boot) != bootID() {
		return false
	}
	return s.use(dir)
}

// use marks the directory as used now, unless GC took it away.
func (s Store) use(dir string) bool {
	unlock, err := s.lock("gc", unix.LOCK_SH)
	if err != nil {
		return false
	}
	defer unlock()
	return markUsed(dir)
}

// useAll is use for packages by the hashes of their data sections.
func (s Store) useAll(hashes []string) bool {
	unlock, err := s.lock("gc", unix.LOCK_SH)
	if err != nil {
		return false
	}
	defer unlock()
	all := true
	for _, h := range hashes {
		all = markUsed(filepath.Join(s.Dir, h)) && all
	}
	return all
}

func markUsed(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	if now := time.Now(); now.Sub(info.ModTime()) > stampEvery {
		os.Chtimes(dir, time.Time{}, now)
	}
	return true
}

// stampEvery is how coarse the time of last use is.
const stampEvery = time.Minute

// recheck looks at a package that was unpacked before the machine last started, and reports whether it is
// whole.
func (s Store) recheck(ctx context.Context, dir string) bool {
	return verify(ctx, dir) == nil && stampBoot(dir) == nil && s.use(dir)
}

func verify(ctx context.Context, dir string) error {
	files, err := readNames(dir)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	for _, e := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case e.IsRegular():
			err = readThrough(e)
		case e.Mode.Type() == fs.ModeSymlink:
			var target string
			if target, err = os.Readlink(filepath.Join(root, e.Path)); err == nil && target != e.Link {
				err = fmt.Errorf("%s: %w", e.Path, ErrDamaged)
			}
		case e.Mode&fs.ModeDevice == 0:
			_, err = os.Lstat(filepath.Join(root, e.Path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readThrough(f File) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

func stampBoot(dir string) error {
	return os.WriteFile(filepath.Join(dir, "boot"), []byte(bootID()), 0o644)
}

// bootID is another one each time the machine starts. Where the kernel tells none, every package is
// looked at each time.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// lock holds the store's lock of that name in the given way until unlock is called.
func (s Store) lock(name string, how int) (unlock func(), err error) {
	dir := filepath.Join(s.Dir, "locks")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), how)
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return func() { f.Close() }, nil
}
