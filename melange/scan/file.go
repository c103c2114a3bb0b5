package scan

import (
	"bytes"
	"io"
)

// A file is an opened file with random access. Files of a folder have it by
// themselves, those of an archive are read into memory.
type file struct {
	io.ReaderAt
	size   int64
	closer io.Closer
}

func newFile(r io.ReadCloser, size int64) (*file, error) {
	if at, ok := r.(io.ReaderAt); ok {
		return &file{ReaderAt: at, size: size, closer: r}, nil
	}
	b, err := io.ReadAll(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return &file{ReaderAt: bytes.NewReader(b), size: int64(len(b)), closer: r}, nil
}

func (f *file) Close() error { return f.closer.Close() }

// head returns the first n bytes, or fewer when the file is shorter.
func (f *file) head(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:got], err
}

// reader reads the file from its start.
func (f *file) reader() io.Reader { return io.NewSectionReader(f, 0, f.size) }
