package elf

import (
	"debug/elf"
	"errors"
	"hash/crc32"
)

// linkSection names the file that has the debugging sections.
const linkSection = ".gnu_debuglink"

// Link is what a stripped file says of the file that Debug made of it before: its name, without folders, and a sum of its
// content, in the byte order of the file.
func Link(name string, debug []byte) []byte {
	link := append([]byte(name), 0)
	for len(link)%4 != 0 {
		link = append(link, 0)
	}
	return append(link, crcOf(debug)...)
}

func crcOf(debug []byte) []byte {
	sum := make([]byte, 4)
	order := byteOrder(debug)
	if order == nil {
		return sum
	}
	order.PutUint32(sum, crc32.ChecksumIEEE(debug))
	return sum
}

func (f *file) link(content []byte) section {
	return section{
		name: linkSection, kind: elf.SHT_PROGBITS, content: content, size: uint64(len(content)), align: 4, rewritten: true,
	}
}

// Debug returns what only debuggers read of a file: of what is loaded it has addresses and sizes, and notes, by which the
// two files are known to belong together. It is nil when the file has no sections.
func Debug(data []byte) ([]byte, error) {
	f, err := parse(data)
	switch {
	case errors.Is(err, errNoSections):
		return nil, nil
	case err != nil:
		return nil, err
	case f.free:
		return nil, errors.New("an object has no addresses")
	}
	start, count, err := f.segments()
	if err != nil {
		return nil, err
	}
	f.free = true
	for i := range f.sections {
		if s := &f.sections[i]; s.allocated() && s.kind != elf.SHT_NOTE && s.kind != elf.SHT_NULL {
			s.kind, s.content = elf.SHT_NOBITS, nil
		}
	}
	f.fixed = max(uint64(f.header), start+uint64(count*f.program))
	out, err := f.write()
	if err != nil {
		return nil, err
	}
	for i := range count {
		f.emptySegment(out[int(start)+i*f.program:])
	}
	return out, nil
}

// segments is where the program headers are. They have to be where they always are, right behind the file header: what
// stands before them stays.
func (f *file) segments() (start uint64, count int, err error) {
	start = f.address(f.data[f.programOffset():])
	count = int(f.order.Uint16(f.data[f.counts()+2:]))
	if count > 0 && start != uint64(f.header) {
		return 0, 0, errors.New("the program headers do not follow the file header")
	}
	if count == 0 {
		return uint64(f.header), 0, nil
	}
	return start, count, nil
}

// gnuProperty is a segment of one note.
const gnuProperty elf.ProgType = 0x6474e553

// emptySegment says that nothing of a segment is in this file, unless it is notes that still lie as they did, or headers.
func (f *file) emptySegment(b []byte) {
	offset, vaddr, size := 8, 16, 32
	if f.word == 4 {
		offset, vaddr, size = 4, 8, 16
	}
	switch kind := elf.ProgType(f.order.Uint32(b)); {
	case kind == elf.PT_PHDR:
	case kind == elf.PT_LOAD && f.address(b[offset:]) == 0:
		f.putAddress(b[size:], min(f.address(b[size:]), f.fixed))
	case kind == elf.PT_NOTE || kind == gnuProperty:
		first, length := f.notes(f.address(b[vaddr:]), f.address(b[size:]))
		if length > 0 {
			f.putAddress(b[offset:], first)
		}
		f.putAddress(b[size:], length)
	default:
		f.putAddress(b[size:], 0)
	}
}

// notes is where the notes of an address range are now; nothing when they do not lie as far from each other as before.
func (f *file) notes(addr, size uint64) (offset, length uint64) {
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind != elf.SHT_NOTE || !s.allocated() || s.addr < addr || s.addr-addr >= size {
			continue
		}
		if length == 0 {
			offset = s.offset - (s.addr - addr)
		}
		if s.offset-offset != s.addr-addr {
			return 0, 0
		}
		length = s.offset + s.size - offset
	}
	return offset, length
}
