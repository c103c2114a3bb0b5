// Package ldcache makes /etc/ld.so.cache, in which glibc's dynamic linker looks up shared libraries: what ldconfig does,
// for a tree that lies on no disk and for any machine.
//
// It knows the format of the cache and of /etc/ld.so.conf, and which file a library is known by. That a cache is wanted,
// others know.
package ldcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Cache is the content of a cache: libraries in the order in which the linker takes them.
type Cache struct {
	Entries []Entry
	Big     bool // its numbers are big-endian, as on s390x
}

// Entry is one library of a cache.
type Entry struct {
	Soname string // what programs ask for
	Path   string // where it is
	Flags  uint32 // for which machine and ABI: see Library
	Subdir string // of glibc-hwcaps, that the processor must satisfy: "x86-64-v3"; usually empty
}

// The format is that of glibc's dl-cache.h, "new" form, version 1.1: a header, entries of five numbers, strings, and behind
// them extensions, of which one lists the names of glibc-hwcaps. Offsets count from the beginning of the file.
const (
	magic   = "glibc-ld.so.cache" + "1.1"
	header  = len(magic) + 7*4
	entryAt = header

	entrySize = 24

	little, big = 2, 3 // in the byte of the header that says how numbers are written

	extensionMagic = 0xeaa42174
	tagGenerator   = 0
	tagHwcaps      = 1

	// hwcapExtension marks in an entry's upper half that its lower half is an index into the names of glibc-hwcaps.
	hwcapExtension = 1 << 30
)

// generator is where ldconfig names itself.
const generator = "apko"

func (c *Cache) order() binary.AppendByteOrder {
	if c.Big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// compare is the order of entries: that in which the linker's binary search wants them.
func compare(a, b Entry) int {
	if n := compareNames(b.Soname, a.Soname); n != 0 {
		return n
	}
	switch {
	case a.Flags != b.Flags:
		return int(int64(b.Flags) - int64(a.Flags))
	case a.Subdir != "" && b.Subdir == "":
		return -1
	case a.Subdir == "" && b.Subdir != "":
		return 1
	}
	return strings.Compare(a.Subdir, b.Subdir)
}

// compareNames compares runs of digits as numbers: libx.so.10 comes after libx.so.9.
func compareNames(a, b string) int {
	isDigit := func(c byte) bool { return '0' <= c && c <= '9' }
	number := func(s string) (n uint32, rest string) {
		for s != "" && isDigit(s[0]) {
			n, s = n*10+uint32(s[0]-'0'), s[1:]
		}
		return n, s
	}
	for a != "" && b != "" {
		switch {
		case isDigit(a[0]) && isDigit(b[0]):
			var m, n uint32
			m, a = number(a)
			n, b = number(b)
			if m != n {
				return int(int32(m - n)) // as C's int does
			}
		case isDigit(a[0]):
			return 1
		case isDigit(b[0]):
			return -1
		case a[0] != b[0]:
			return int(a[0]) - int(b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return len(a) - len(b)
}

// Encode returns the bytes of the file. Entries come in the linker's order; those that are equal in it, in the given one.
func (c *Cache) Encode() []byte {
	entries := slices.Clone(c.Entries)
	slices.SortStableFunc(entries, compare)
	var subdirs []string
	for _, e := range entries {
		if e.Subdir != "" {
			subdirs = append(subdirs, e.Subdir)
		}
	}
	slices.Sort(subdirs)
	subdirs = slices.Compact(subdirs)

	o := c.order()
	s := stringTable{base: uint32(entryAt + entrySize*len(entries)), at: make(map[string]uint32)}
	var list []byte
	for _, e := range entries {
		list = o.AppendUint32(list, e.Flags)
		list = o.AppendUint32(list, s.add(e.Soname))
		list = o.AppendUint32(list, s.add(e.Path))
		list = o.AppendUint32(list, 0)
		var hwcap uint64
		if e.Subdir != "" {
			i, _ := slices.BinarySearch(subdirs, e.Subdir)
			hwcap = hwcapExtension<<32 | uint64(i)
		}
		list = o.AppendUint64(list, hwcap)
	}
	var names []byte
	for _, name := range subdirs {
		names = o.AppendUint32(names, s.add(name))
	}
	extension := (s.base + uint32(len(s.text)) + 3) &^ 3

	b := []byte(magic)
	b = o.AppendUint32(b, uint32(len(entries)))
	b = o.AppendUint32(b, uint32(len(s.text)))
	b = append(b, c.endianness(), 0, 0, 0)
	b = o.AppendUint32(b, extension)
	b = append(b, make([]byte, 3*4)...)
	b = append(append(b, list...), s.text...)
	b = append(b, make([]byte, int(extension)-len(b))...)
	return append(b, c.extensions(extension, names)...)
}

func (c *Cache) endianness() byte {
	if c.Big {
		return big
	}
	return little
}

// extensions are a directory of sections and the sections, which begin at the offset.
func (c *Cache) extensions(at uint32, names []byte) []byte {
	o := c.order()
	count := uint32(1)
	if len(names) > 0 {
		count = 2
	}
	begin := at + 8 + 16*count
	b := o.AppendUint32(nil, extensionMagic)
	b = o.AppendUint32(b, count)
	section := func(tag, offset, size uint32) {
		for _, n := range []uint32{tag, 0, offset, size} {
			b = o.AppendUint32(b, n)
		}
	}
	padded := begin + (uint32(len(generator))+3)&^3
	section(tagGenerator, begin, uint32(len(generator)))
	if count == 2 {
		section(tagHwcaps, padded, uint32(len(names)))
	}
	b = append(b, generator...)
	if count == 2 {
		b = append(append(b, make([]byte, int(padded-begin)-len(generator))...), names...)
	}
	return b
}

// stringTable holds each string once, with a zero behind it.
type stringTable struct {
	base uint32
	text []byte
	at   map[string]uint32
}

func (t *stringTable) add(s string) uint32 {
	at, ok := t.at[s]
	if !ok {
		at = t.base + uint32(len(t.text))
		t.at[s] = at
		t.text = append(append(t.text, s...), 0)
	}
	return at
}

var errDamaged = errors.New("reading linker cache: it is damaged")

// Parse reads a cache of the new form.
func Parse(b []byte) (*Cache, error) {
	if len(b) < header || string(b[:len(magic)]) != magic {
		return nil, errors.New("reading linker cache: it is none of glibc's, or of an older form")
	}
	c := &Cache{}
	switch e := b[len(magic)+8]; e {
	case 0, little:
	case big:
		c.Big = true
	default:
		return nil, fmt.Errorf("reading linker cache: its byte order is %d", e)
	}
	r := reader{b: b, order: binary.LittleEndian}
	if c.Big {
		r.order = binary.BigEndian
	}
	count, extension := r.number(len(magic)), r.number(len(magic)+12)
	if int64(count)*entrySize > int64(len(b)-header) {
		return nil, errDamaged
	}
	var subdirs []string
	if extension != 0 {
		subdirs = r.hwcaps(int(extension))
	}
	for i := range int(count) {
		at := entryAt + i*entrySize
		e := Entry{Flags: r.number(at), Soname: r.text(r.number(at + 4)), Path: r.text(r.number(at + 8))}
		if hwcap := r.long(at + 16); hwcap>>32&hwcapExtension != 0 {
			if n := uint32(hwcap); int64(n) < int64(len(subdirs)) {
				e.Subdir = subdirs[n]
			} else {
				r.bad = true
			}
		}
		c.Entries = append(c.Entries, e)
	}
	if r.bad {
		return nil, errDamaged
	}
	return c, nil
}

// reader takes things at offsets; what is not there makes it bad.
type reader struct {
	b     []byte
	order binary.ByteOrder
	bad   bool
}

func (r *reader) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(r.b)-n {
		r.bad = true
		return make([]byte, 8)
	}
	return r.b[at : at+n]
}

func (r *reader) number(at int) uint32 { return r.order.Uint32(r.bytes(at, 4)) }
func (r *reader) long(at int) uint64   { return r.order.Uint64(r.bytes(at, 8)) }

func (r *reader) text(at uint32) string {
	if int64(at) < int64(len(r.b)) {
		if end := bytes.IndexByte(r.b[at:], 0); end >= 0 {
			return string(r.b[at : int(at)+end])
		}
	}
	r.bad = true
	return ""
}

func (r *reader) hwcaps(extension int) []string {
	if r.number(extension) != extensionMagic {
		r.bad = true
		return nil
	}
	for i := range min(int(r.number(extension+4)), len(r.b)/16) {
		at := extension + 8 + 16*i
		if r.number(at) != tagHwcaps {
			continue
		}
		var names []string
		offset, size := int(r.number(at+8)), int(r.number(at+12))
		for n := 0; n+4 <= size && !r.bad; n += 4 {
			names = append(names, r.text(r.number(offset+n)))
		}
		return names
	}
	return nil
}
