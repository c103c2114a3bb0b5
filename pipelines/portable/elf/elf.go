// Package elf takes symbols and debugging sections out of ELF files: of every class, byte order and architecture, programs
// and shared libraries as well as objects.
//
// It knows the structure of such files, as the System V ABI has it, and which parts strip of binutils drops. It refuses to
// know where files lie. What is loaded into memory is never touched: it keeps its bytes, addresses and offsets.
package elf

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// A layout says where the fields of the tables are, which differ between the two classes.
type layout struct {
	header, program, section, symbol int // sizes of a file header and of entries
	word                             int // size of an address
}

var (
	layout32 = layout{header: 52, program: 32, section: 40, symbol: 16, word: 4}
	layout64 = layout{header: 64, program: 56, section: 64, symbol: 24, word: 8}
)

// file is an ELF file taken apart. The parts refer to the file's own bytes.
type file struct {
	layout
	data     []byte
	order    binary.ByteOrder
	kind     elf.Type
	machine  elf.Machine
	sections []section
	names    int    // the section that holds the sections' names
	fixed    uint64 // what is loaded, and the tables that describe it, ends here
	free     bool   // nothing in it is loaded: all sections may move
}

type section struct {
	name                string
	kind                elf.SectionType
	flags               uint64
	addr, offset, size  uint64
	link, info          uint32
	align, entry        uint64
	content             []byte // nil when it has none in the file
	dropped, rewritten  bool   // by a strip
	index               uint32 // of the section in the new file
	nameOffset, oldName uint32
}

func (s *section) allocated() bool { return s.flags&uint64(elf.SHF_ALLOC) != 0 }

// An Identity is what the first bytes of a file say of it.
type Identity struct {
	Type    elf.Type
	Machine elf.Machine
	OSABI   elf.OSABI
}

// IdentitySize is how many bytes Identify wants to see.
const IdentitySize = 20

// Identify says what a file is by its first bytes; false when it is no ELF file.
func Identify(head []byte) (Identity, bool) {
	if len(head) < IdentitySize || string(head[:4]) != elf.ELFMAG {
		return Identity{}, false
	}
	order := byteOrder(head)
	if order == nil {
		return Identity{}, false
	}
	return Identity{elf.Type(order.Uint16(head[16:])), elf.Machine(order.Uint16(head[18:])), elf.OSABI(head[elf.EI_OSABI])}, true
}

func byteOrder(head []byte) binary.ByteOrder {
	switch elf.Data(head[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		return binary.LittleEndian
	case elf.ELFDATA2MSB:
		return binary.BigEndian
	}
	return nil
}

// errNoSections means that there is nothing that could be dropped.
var errNoSections = errors.New("no section headers")

// parse takes a file apart. Everything that it says lies within the file's bounds.
func parse(data []byte) (*file, error) {
	id, ok := Identify(data)
	if !ok {
		return nil, errors.New("not an ELF file")
	}
	f := &file{data: data, order: byteOrder(data), kind: id.Type, machine: id.Machine}
	switch elf.Class(data[elf.EI_CLASS]) {
	case elf.ELFCLASS32:
		f.layout = layout32
	case elf.ELFCLASS64:
		f.layout = layout64
	default:
		return nil, fmt.Errorf("class %d is not known", data[elf.EI_CLASS])
	}
	if len(data) < f.header {
		return nil, errors.New("the header is cut off")
	}
	if err := f.readSections(); err != nil {
		return nil, err
	}
	return f, f.measure()
}

// address reads an address-sized field.
func (f *file) address(b []byte) uint64 {
	if f.word == 4 {
		return uint64(f.order.Uint32(b))
	}
	return f.order.Uint64(b)
}

func (f *file) putAddress(b []byte, v uint64) {
	if f.word == 4 {
		f.order.PutUint32(b, uint32(v))
		return
	}
	f.order.PutUint64(b, v)
}

// Offsets of fields in the file header, from where the address-sized ones end: entry, phoff and shoff begin at 24.
func (f *file) programOffset() int { return 24 + f.word }
func (f *file) sectionOffset() int { return 24 + 2*f.word }
func (f *file) counts() int        { return 24 + 3*f.word + 6 } // phentsize, phnum, shentsize, shnum, shstrndx

// slice is a part of the file.
func (f *file) slice(offset, size uint64) ([]byte, error) {
	if offset > uint64(len(f.data)) || size > uint64(len(f.data))-offset {
		return nil, fmt.Errorf("%d bytes at %d are outside of the file", size, offset)
	}
	return f.data[offset : offset+size : offset+size], nil
}

func (f *file) readSections() error {
	start := f.address(f.data[f.sectionOffset():])
	counts := f.data[f.counts():]
	size, count, names := f.order.Uint16(counts[4:]), uint64(f.order.Uint16(counts[6:])), uint32(f.order.Uint16(counts[8:]))
	if start == 0 {
		return errNoSections
	}
	if int(size) != f.section {
		return fmt.Errorf("section headers of %d bytes", size)
	}
	first, err := f.slice(start, uint64(f.section))
	if err != nil {
		return fmt.Errorf("section headers: %w", err)
	}
	// Numbers that are too large for the file header stand in the first section header.
	zero := f.readSection(first)
	if count == 0 {
		count = zero.size
	}
	if names == uint32(elf.SHN_XINDEX) {
		names = zero.link
	}
	if count < 2 {
		return errNoSections
	}
	if count > uint64(len(f.data))/uint64(f.section) {
		return fmt.Errorf("%d section headers are more than the file can hold", count)
	}
	table, err := f.slice(start, count*uint64(f.section))
	if err != nil {
		return fmt.Errorf("section headers: %w", err)
	}
	for i := range int(count) {
		s := f.readSection(table[i*f.section:])
		if i > 0 && s.kind != elf.SHT_NOBITS && s.kind != elf.SHT_NULL {
			if s.content, err = f.slice(s.offset, s.size); err != nil {
				return fmt.Errorf("section %d: %w", i, err)
			}
		}
		f.sections = append(f.sections, s)
	}
	return f.readNames(names)
}

func (f *file) readSection(b []byte) section {
	w := f.word
	return section{
		oldName: f.order.Uint32(b),
		kind:    elf.SectionType(f.order.Uint32(b[4:])),
		flags:   f.address(b[8:]),
		addr:    f.address(b[8+w:]),
		offset:  f.address(b[8+2*w:]),
		size:    f.address(b[8+3*w:]),
		link:    f.order.Uint32(b[8+4*w:]),
		info:    f.order.Uint32(b[12+4*w:]),
		align:   f.address(b[16+4*w:]),
		entry:   f.address(b[16+5*w:]),
	}
}

func (f *file) writeSection(b []byte, s *section) {
	w := f.word
	f.order.PutUint32(b, s.nameOffset)
	f.order.PutUint32(b[4:], uint32(s.kind))
	f.putAddress(b[8:], s.flags)
	f.putAddress(b[8+w:], s.addr)
	f.putAddress(b[8+2*w:], s.offset)
	f.putAddress(b[8+3*w:], s.size)
	f.order.PutUint32(b[8+4*w:], s.link)
	f.order.PutUint32(b[12+4*w:], s.info)
	f.putAddress(b[16+4*w:], s.align)
	entry := s.entry
	switch s.kind {
	case elf.SHT_INIT_ARRAY, elf.SHT_FINI_ARRAY, elf.SHT_PREINIT_ARRAY: // old linkers do not say that it is addresses
		entry = uint64(w)
	}
	f.putAddress(b[16+5*w:], entry)
}

func (f *file) readNames(index uint32) error {
	if index >= uint32(len(f.sections)) || f.sections[index].kind != elf.SHT_STRTAB {
		return errors.New("the sections have no names")
	}
	f.names = int(index)
	for i := range f.sections {
		s := &f.sections[i]
		name, err := text(f.sections[index].content, s.oldName)
		if err != nil {
			return fmt.Errorf("name of section %d: %w", i, err)
		}
		s.name = name
	}
	return nil
}

// text reads from a table of strings.
func text(table []byte, offset uint32) (string, error) {
	if uint64(offset) >= uint64(len(table)) {
		if offset == 0 {
			return "", nil
		}
		return "", fmt.Errorf("offset %d is outside of the strings", offset)
	}
	end := bytes.IndexByte(table[offset:], 0)
	if end < 0 {
		return "", errors.New("a string without an end")
	}
	return string(table[offset:][:end]), nil
}

// measure finds where the part ends that stays as it is.
func (f *file) measure() error {
	start := f.address(f.data[f.programOffset():])
	counts := f.data[f.counts():]
	size, count := f.order.Uint16(counts), uint64(f.order.Uint16(counts[2:]))
	if count == 0xffff {
		count = uint64(f.sections[0].info)
	}
	f.fixed = uint64(f.header)
	f.free = f.kind == elf.ET_REL
	if count > 0 {
		if int(size) != f.program {
			return fmt.Errorf("program headers of %d bytes", size)
		}
		if count > uint64(len(f.data))/uint64(f.program) {
			return fmt.Errorf("%d program headers are more than the file can hold", count)
		}
		table, err := f.slice(start, count*uint64(f.program))
		if err != nil {
			return fmt.Errorf("program headers: %w", err)
		}
		f.fixed = max(f.fixed, start+uint64(len(table)))
		for i := range int(count) {
			offset, size := f.readProgram(table[i*f.program:])
			if _, err := f.slice(offset, size); err == nil && size > 0 { // a file with debugging sections only says what was elsewhere
				f.fixed = max(f.fixed, offset+size)
			}
		}
	}
	for i := range f.sections {
		if s := &f.sections[i]; s.allocated() && s.content != nil && !f.free {
			f.fixed = max(f.fixed, s.offset+s.size)
		}
	}
	return nil
}

// readProgram is where a segment lies in the file.
func (f *file) readProgram(b []byte) (offset, size uint64) {
	if f.word == 4 {
		return f.address(b[4:]), f.address(b[16:])
	}
	return f.address(b[8:]), f.address(b[32:])
}
