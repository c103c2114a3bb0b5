package solve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"distro.internal/shared/apk"
)

// Format names the form that Encode writes. It changes whenever what is written
// does, or what it means.
const Format = "universe/4"

// An encoded universe is its table as it lies in memory: the arrays one behind
// another, and before them how long each is. Who reads it uses them in place;
// the parts that a world does not lead to are never touched. It is meant for the
// machine that wrote it and vouches for nothing: whoever keeps it
// makes sure that it is what was written.

const (
	alignment = 8
	byteOrder = 0x0102030405060708 // reads differently where numbers do
)

// arrays lists all arrays of a table without a base, in the order of the format.
func (t *table) arrays() []array {
	return []array{
		arrayOf(&t.names.text), arrayOf(&t.names.starts), arrayOf(&t.names.hashes), arrayOf(&t.names.slots),
		arrayOf(&t.versions.text), arrayOf(&t.versions.starts),
		arrayOf(&t.outlineOf), arrayOf(&t.outlines), arrayOf(&t.mentions), arrayOf(&t.terms), arrayOf(&t.details), arrayOf(&t.origins),
		arrayOf(&t.candidates.at), arrayOf(&t.candidates.items),
		arrayOf(&t.dependents.at), arrayOf(&t.dependents.items),
		arrayOf(&t.waiting.at), arrayOf(&t.waiting.items),
	}
}

// An array is a slice of numbers, or of structs of numbers, as bytes.
type array struct {
	bytes []byte
	set   func([]byte) error
}

func arrayOf[T any](s *[]T) array {
	size := int(unsafe.Sizeof(*new(T)))
	return array{
		bytes: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(*s))), len(*s)*size),
		set: func(b []byte) error {
			if len(b)%size != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(b)))%alignment != 0 {
				return errors.New("an array that is cut off or out of place")
			}
			*s = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/size)
			return nil
		},
	}
}

// Encode writes the universe for Decode to read. It has to be compiled from
// texts alone, without an Overlay.
func (u *Universe) Encode(w io.Writer) error {
	t := u.table
	switch {
	case u.err != nil:
		return u.err
	case t.base != nil || len(t.made) > 0:
		return errors.New("encoding a universe that was not compiled from texts")
	}
	t.link()
	arrays := t.arrays()
	head := binary.NativeEndian.AppendUint64(nil, byteOrder)
	for _, a := range arrays {
		head = binary.NativeEndian.AppendUint64(head, uint64(len(a.bytes)))
	}
	head = binary.NativeEndian.AppendUint64(head, t.texts.length)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, a := range arrays {
		if _, err := w.Write(a.bytes); err != nil {
			return err
		}
		if _, err := w.Write(make([]byte, -len(a.bytes)&(alignment-1))); err != nil {
			return err
		}
	}
	for _, block := range t.texts.blocks {
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// Decode returns the universe that Compile made of these repositories, whose
// indexes need not be given again, and that Encode wrote. It uses data in
// place: data must not change, or go, as long as the universe or anything that
// it has answered is in use. file has the same bytes, if data lies in memory only
// as far as it is looked at: what is seldom asked for is read from there.
func Decode(data []byte, file io.ReaderAt, repositories []Repository, arch apk.Arch) (*Universe, error) {
	t := &table{}
	if err := t.decode(data, file); err != nil {
		return nil, fmt.Errorf("decoding a universe: %w", err)
	}
	u := &Universe{arch: arch, tags: []string{""}, table: t}
	u.add(nil, repositories)
	return u, nil
}

var errCut = errors.New("cut off")

func (t *table) decode(data []byte, file io.ReaderAt) error {
	size := len(data)
	arrays := t.arrays()
	head := make([]uint64, 1+len(arrays)+1)
	if len(data) < 8*len(head) {
		return errCut
	}
	for i := range head {
		head[i] = binary.NativeEndian.Uint64(data[8*i:])
	}
	if head[0] != byteOrder {
		return errors.New("of another kind of machine")
	}
	data = data[8*len(head):]
	for i, a := range arrays {
		n := head[1+i]
		whole := n + -n&(alignment-1)
		if whole < n || whole > uint64(len(data)) {
			return errCut
		}
		if err := a.set(data[:n:n]); err != nil {
			return err
		}
		data = data[whole:]
	}
	if uint64(len(data)) != head[len(head)-1] || len(t.outlineOf) != len(t.details) || len(t.origins) != len(t.details) {
		return errCut
	}
	t.texts = texts{file: file, start: int64(size - len(data)), length: uint64(len(data))}
	return nil
}
