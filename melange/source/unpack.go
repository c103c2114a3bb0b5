package source

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// placedTime is that of files that are put into a workspace without a time of
// their own: 1980-01-01.
var placedTime = time.Unix(315532800, 0)

// unpack unpacks an archive into dir and returns the time of its newest file.
// strip leading elements of each name are dropped, counted as tar does it: in
// ./a/b they are ., a and b.
func unpack(ctx context.Context, archive string, dir *os.Root, strip int) (time.Time, error) {
	f, err := os.Open(archive)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	u := &unpacker{ctx: ctx, dir: dir, strip: strip, times: make(map[string]time.Time)}
	read := u.tar
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err == nil && bytes.Equal(magic, []byte("PK\x03\x04")) {
		read = u.zip
	}
	if err := read(f); err != nil {
		return time.Time{}, err
	}
	return u.newest, u.finish()
}

// An unpacker writes entries below a folder, and cannot leave it: neither by
// names nor through links that were written before.
type unpacker struct {
	ctx    context.Context
	dir    *os.Root
	strip  int
	newest time.Time
	times  map[string]time.Time // of folders, which change while they are filled
}

func (u *unpacker) tar(r *os.File) error {
	z, err := Decompress(u.ctx, r)
	if err != nil {
		return err
	}
	defer z.Close()
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading tar: %w", err)
		}
		if err := u.ctx.Err(); err != nil {
			return err
		}
		name, err := u.name(h.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := u.entry(name, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// name returns where an entry goes; empty when it is dropped.
func (u *unpacker) name(s string) (string, error) {
	parts := strings.Split(strings.TrimRight(s, "/"), "/")
	if len(parts) <= u.strip {
		return "", nil
	}
	name := strings.Join(parts[u.strip:], "/")
	if slices.Contains(parts, "..") || path.IsAbs(name) {
		return "", fmt.Errorf("%q leads outside", s)
	}
	if name = path.Clean(name); name == "." {
		return "", nil
	}
	return name, nil
}

func (u *unpacker) entry(name string, h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return u.mkdir(name, h.FileInfo().Mode(), h.ModTime)
	case tar.TypeReg:
		return u.file(name, h.FileInfo().Mode(), h.ModTime, content)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		target, err := u.name(h.Linkname)
		if err != nil {
			return err
		}
		if err := u.clear(name); err != nil {
			return err
		}
		return u.dir.Link(target, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("entry of type %q, which no source has a use for", h.Typeflag)
}

// permissions are those of the archive under a umask of 022, and what is needed
// to build in it. They depend on nothing of this machine.
func permissions(mode fs.FileMode) fs.FileMode { return mode.Perm()&0o755 | 0o600 }

func (u *unpacker) mkdir(name string, mode fs.FileMode, modified time.Time) error {
	if info, err := u.dir.Stat(name); err != nil || !info.IsDir() {
		if err := u.clear(name); err != nil {
			return err
		}
		if err := u.dir.Mkdir(name, 0o755); err != nil {
			return err
		}
	}
	u.times[name] = modified
	return u.dir.Chmod(name, permissions(mode)|0o100)
}

// clear makes room for an entry: its folder is there, and it is not.
func (u *unpacker) clear(name string) error {
	if parent := path.Dir(name); parent != "." {
		if err := u.dir.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if err := u.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (u *unpacker) file(name string, mode fs.FileMode, modified time.Time, content io.Reader) error {
	if err := u.clear(name); err != nil {
		return err
	}
	if err := writeInto(u.dir, name, permissions(mode), modified, content); err != nil {
		return err
	}
	if modified.After(u.newest) {
		u.newest = modified.Truncate(time.Second)
	}
	return nil
}

func (u *unpacker) symlink(name, target string) error {
	if err := u.clear(name); err != nil {
		return err
	}
	return u.dir.Symlink(target, name)
}

// finish sets the times of folders, the innermost first.
func (u *unpacker) finish() error {
	names := make([]string, 0, len(u.times))
	for name := range u.times {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if err := u.dir.Chtimes(name, u.times[name], u.times[name]); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) zip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("reading zip: %w", err)
	}
	for _, e := range z.File {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		name, err := u.name(e.Name)
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := u.zipEntry(name, e); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return nil
}

func (u *unpacker) zipEntry(name string, e *zip.File) error {
	mode := e.Mode()
	if e.Modified.IsZero() || e.Modified.Year() < placedTime.Year() {
		e.Modified = placedTime // the format cannot say an earlier time: there is none
	}
	switch {
	case mode.IsDir():
		return u.mkdir(name, mode, e.Modified)
	case mode.Type() == fs.ModeSymlink:
		r, err := e.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		target, err := io.ReadAll(io.LimitReader(r, 4096))
		if err != nil {
			return err
		}
		return u.symlink(name, string(target))
	case mode.IsRegular():
		r, err := e.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		return u.file(name, mode, e.Modified, r)
	}
	return fmt.Errorf("entry of mode %v, which no source has a use for", mode)
}

// writeInto writes a file that is not there yet.
func writeInto(dir *os.Root, name string, mode fs.FileMode, modified time.Time, content io.Reader) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 64<<10)
	if _, err := io.Copy(w, content); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return dir.Chtimes(name, modified, modified)
}

// copyInto puts a file of the store into a workspace: a copy, for a step may
// write to it.
func copyInto(dir *os.Root, name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeInto(dir, name, 0o644, placedTime, f)
}
