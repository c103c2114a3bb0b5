// Package record keeps values in a file between runs: numbers and texts one
// behind another, whole or not at all. A file says who wrote it, and what of;
// one of somebody else, of another version, torn or flipped is as if there were
// none, so there is nothing to repair and no version to read but one's own.
package record

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"distro.internal/shared/atomicfile"
)

// A file begins with magic and the checksum of all that follows: the identity, then the values.
const (
	magic    = "distro record 1\n"
	headSize = len(magic) + 4
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Save writes a record whole, under the identity that Open will ask for.
func Save(file, identity string, w *Writer) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	return atomicfile.Write(file, 0o644, func(to io.Writer) error {
		who := append(binary.AppendUvarint(nil, uint64(len(identity))), identity...)
		sum := crc32.Update(crc32.Checksum(who, table), table, w.b)
		for _, part := range [][]byte{binary.LittleEndian.AppendUint32([]byte(magic), sum), who, w.b} {
			if _, err := to.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// Open reads the record of an identity; there being no such record, whole, is
// fs.ErrNotExist.
func Open(file, identity string) (*Reader, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return nil, fs.ErrNotExist
	}
	if crc32.Checksum(b[headSize:], table) != binary.LittleEndian.Uint32(b[headSize-4:]) {
		return nil, fs.ErrNotExist
	}
	r := NewReader(b[headSize:])
	if r.Text() != identity || r.err != nil {
		return nil, fs.ErrNotExist
	}
	return r, nil
}

// A Writer takes values.
type Writer struct{ b []byte }

// Grow makes room for so many bytes more.
func (w *Writer) Grow(n int) { w.b = slices.Grow(w.b, n) }

// Digest names all that was written: SHA-256 in hex.
func (w *Writer) Digest() string {
	sum := sha256.Sum256(w.b)
	return hex.EncodeToString(sum[:])
}

// Encoded is all that was written, for a Reader.
func (w *Writer) Encoded() []byte { return w.b }

// Append adds what another has written.
func (w *Writer) Append(other *Writer) { w.b = append(w.b, other.b...) }

// Part adds what another has written as one value, which need not be read to read on behind it.
func (w *Writer) Part(other *Writer) {
	w.Grow(binary.MaxVarintLen64 + len(other.b))
	w.Count(len(other.b))
	w.Append(other)
}

func (w *Writer) Int(v int64)    { w.b = binary.AppendVarint(w.b, v) }
func (w *Writer) Count(n int)    { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *Writer) Bytes(b []byte) { w.b = append(w.b, b...) }

func (w *Writer) Text(s string) {
	w.Count(len(s))
	w.b = append(w.b, s...)
}

func (w *Writer) Bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

func (w *Writer) Texts(list []string) {
	w.Count(len(list))
	for _, s := range list {
		w.Text(s)
	}
}

// A Reader gives values back in the order in which they were written. After a
// mistake all that it gives is empty; Err tells.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads what a Writer has written. The texts that it gives lie in b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

var errMistake = errors.New("not what was written")

// Fail says that what was read makes no sense.
func (r *Reader) Fail() { r.err, r.b = errMistake, nil }

// Err tells whether all that was read was there.
func (r *Reader) Err() error { return r.err }

// Ended reports whether all was read, and nothing is left.
func (r *Reader) Ended() bool { return r.err == nil && len(r.b) == 0 }

func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Count is of things of which each takes a byte at least.
func (r *Reader) Count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)-n) {
		r.Fail()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *Reader) Bytes(n int) []byte {
	if n > len(r.b) {
		r.Fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *Reader) Text() string {
	b := r.Bytes(r.Count())
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// Part reads what was written as one value.
func (r *Reader) Part() *Reader { return NewReader(r.Bytes(r.Count())) }

func (r *Reader) Bool() bool {
	b := r.Bytes(1)
	if len(b) == 1 && b[0] > 1 {
		r.Fail()
	}
	return len(b) == 1 && b[0] == 1
}

func (r *Reader) Texts() []string {
	n := r.Count()
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.Text()
	}
	return list
}
