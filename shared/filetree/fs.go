package filetree

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// FS shows the tree as a file system. Symbolic links are followed inside the tree; ReadLink and Lstat are
// there too. Sys of each FileInfo is the *Entry.
func (t *Tree) FS() fs.FS { return treeFS{t} }

type treeFS struct{ tree *Tree }

var (
	_ fs.ReadLinkFS = treeFS{}
	_ fs.ReadDirFS  = treeFS{}
	_ fs.StatFS     = treeFS{}
	_ fs.ReadFileFS = treeFS{}
)

func (f treeFS) walk(op, name string, follow bool) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := f.tree.walkLinks(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

func (f treeFS) Open(name string) (fs.File, error) {
	n, err := f.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	info := f.info(path.Base(name), &n.entry)
	if n.entry.Mode.IsDir() {
		return &openDir{info: info, rest: f.dirEntries(n)}, nil
	}
	r, err := f.tree.Open(&n.entry)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return openFile{r, info}, nil
}

func (f treeFS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.walk("stat", name, true)
	if err != nil {
		return nil, err
	}
	return f.info(path.Base(name), &n.entry), nil
}

func (f treeFS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.walk("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return f.info(path.Base(name), &n.entry), nil
}

func (f treeFS) ReadLink(name string) (string, error) {
	n, err := f.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.entry.Mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return n.entry.Link, nil
}

func (f treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.walk("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.entry.Mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: ErrNotDir}
	}
	return f.dirEntries(n), nil
}

func (f treeFS) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

func (f treeFS) dirEntries(n *node) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(n.children))
	for i, c := range n.children {
		entries[i] = fs.FileInfoToDirEntry(f.info(c.name, &c.entry))
	}
	return entries
}

// info describes e under the name by which it was reached.
func (f treeFS) info(name string, e *Entry) fs.FileInfo {
	size := e.Size
	switch {
	case e.HardLink:
		size = 0
		if target, err := f.tree.linked(e); err == nil {
			size = target.Size
		}
	case e.Mode.Type() == fs.ModeSymlink:
		size = int64(len(e.Link))
	}
	return fileInfo{name, size, e}
}

type fileInfo struct {
	name  string
	size  int64
	entry *Entry
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.entry.Mode }
func (i fileInfo) ModTime() time.Time { return i.entry.ModTime }
func (i fileInfo) IsDir() bool        { return i.entry.Mode.IsDir() }
func (i fileInfo) Sys() any           { return i.entry }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

type openFile struct {
	io.ReadCloser
	info fs.FileInfo
}

func (f openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Seek works when the content can be sought in; debug/elf and its like need ReadAt as well.
func (f openFile) Seek(offset int64, whence int) (int64, error) {
	if s, ok := f.ReadCloser.(io.Seeker); ok {
		return s.Seek(offset, whence)
	}
	return 0, fmt.Errorf("seeking in %s: the content is a stream", f.info.Name())
}

func (f openFile) ReadAt(p []byte, off int64) (int, error) {
	if r, ok := f.ReadCloser.(io.ReaderAt); ok {
		return r.ReadAt(p, off)
	}
	return 0, fmt.Errorf("reading %s at an offset: the content is a stream", f.info.Name())
}

type openDir struct {
	info fs.FileInfo
	rest []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: fs.ErrInvalid}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.rest) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.rest) {
		n = len(d.rest)
	}
	entries := d.rest[:n:n]
	d.rest = d.rest[n:]
	return entries, nil
}
