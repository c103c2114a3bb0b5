// Package elfobject opens ELF files that strangers made.
//
// debug/elf unpacks a section that says that it is compressed, whatever it is for: the names of sections and libraries,
// too, so that a file of a megabyte takes all the memory of who only wants to know what it is called. No linker
// compresses those, and none of them is large.
package elfobject

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// ErrHostile is returned for a file that would take more memory to look at than any honest one does.
var ErrHostile = errors.New("its tables are larger than those of any program")

// maxTable bounds, in bytes, the table of sections, and each of the sections that have names in them.
const maxTable = 128 << 20

// Open reads the headers of an ELF file. Of what it returns, DynString and ImportedLibraries take no more than some
// hundred MiB of memory. What is no ELF file is the error of debug/elf.
func Open(r io.ReaderAt) (*elf.File, error) {
	if err := checkNames(r); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_DYNAMIC {
			continue
		}
		if !small(s) || int(s.Link) < len(f.Sections) && !small(f.Sections[s.Link]) {
			return nil, ErrHostile
		}
	}
	return f, nil
}

func small(s *elf.Section) bool {
	return s.Flags&elf.SHF_COMPRESSED == 0 && !strings.HasPrefix(s.Name, ".zdebug") && s.FileSize <= maxTable
}

// table is what a header says of the sections. See the System V ABI, chapter 4.
type table struct {
	at     uint64
	size   uint64 // of an entry
	number uint64
	names  uint64 // which of them has the names
}

// section is what counts here of an entry.
type section struct {
	flags, size uint64
	link        uint32
}

// checkNames looks at the two things that debug/elf reads at once: all headers of sections, and their names. Of what
// makes no sense debug/elf says why.
func checkNames(r io.ReaderAt) error {
	head := make([]byte, 64)
	if n, err := r.ReadAt(head, 0); n < 52 || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		if err == io.EOF {
			err = nil
		}
		return err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if head[elf.EI_DATA] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	wide := head[elf.EI_CLASS] == byte(elf.ELFCLASS64)
	t := readTable(head, order, wide)
	if t.at == 0 {
		return nil
	}
	if t.number == 0 || t.names == uint64(elf.SHN_XINDEX) { // more than 16 bits hold: the first entry says it
		first, err := t.section(r, 0, order, wide)
		if err != nil {
			return nil
		}
		if t.number == 0 {
			t.number = first.size
		}
		if t.names == uint64(elf.SHN_XINDEX) {
			t.names = uint64(first.link)
		}
	}
	if t.number > maxTable || t.number*t.size > maxTable {
		return ErrHostile
	}
	names, err := t.section(r, t.names, order, wide)
	if err == nil && (elf.SectionFlag(names.flags)&elf.SHF_COMPRESSED != 0 || names.size > maxTable) {
		return ErrHostile
	}
	return nil
}

func readTable(head []byte, order binary.ByteOrder, wide bool) table {
	number := func(at int) uint64 { return uint64(order.Uint16(head[at:])) }
	if wide {
		return table{order.Uint64(head[0x28:]), number(0x3a), number(0x3c), number(0x3e)}
	}
	return table{uint64(order.Uint32(head[0x20:])), number(0x2e), number(0x30), number(0x32)}
}

func (t table) section(r io.ReaderAt, i uint64, order binary.ByteOrder, wide bool) (s section, err error) {
	entry := make([]byte, 0x40)
	if !wide {
		entry = entry[:0x28]
	}
	if _, err := r.ReadAt(entry, int64(t.at+i*t.size)); err != nil {
		return s, err
	}
	if wide {
		return section{order.Uint64(entry[0x08:]), order.Uint64(entry[0x20:]), order.Uint32(entry[0x28:])}, nil
	}
	return section{uint64(order.Uint32(entry[0x08:])), uint64(order.Uint32(entry[0x14:])), order.Uint32(entry[0x18:])}, nil
}
