package elf

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Symbols says which symbols a strip drops. All of them drop what only debuggers read.
type Symbols int

const (
	Debugging Symbols = iota // those of files and sections, which only debuggers read
	Unneeded                 // and those that no relocation needs
	All
)

// Options say what to drop.
type Options struct {
	Symbols  Symbols
	Locals   bool                   // drop local symbols too
	Sections func(name string) bool // more sections to drop, of those that are not loaded; may be nil
	Link     []byte                 // of a file with debugging sections, see [Link]; nil for none
}

// Strip returns the file without what the options name; nil when there is nothing in the file that could be dropped
// because it has no sections at all.
func Strip(data []byte, o Options) ([]byte, error) {
	f, err := parse(data)
	switch {
	case errors.Is(err, errNoSections):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := f.drop(o); err != nil {
		return nil, err
	}
	if o.Link != nil {
		f.sections = append(f.sections, f.link(o.Link))
	}
	return f.write()
}

// debugPrefixes begin the names of sections that only debuggers read, as the ABI's tools have agreed on them.
var debugPrefixes = []string{".debug", ".zdebug", ".gnu.debuglto_.debug_", ".gnu.linkonce.wi.", ".line", ".stab"}

func debugging(name string) bool {
	return name == ".gdb_index" || slices.ContainsFunc(debugPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// sectionAddrsig lists symbols by their number, for one optimization of lld.
const sectionAddrsig elf.SectionType = 0x6fff4c03

// drop decides which sections stay, and rewrites those that have to do with what does not.
func (f *file) drop(o Options) error {
	for i := range f.sections[1:] {
		s := &f.sections[i+1]
		switch {
		case s.allocated() || i+1 == f.names:
		case debugging(s.name), s.name == linkSection && o.Link != nil, o.Sections != nil && o.Sections(s.name), s.kind == sectionAddrsig && f.kind == elf.ET_REL:
			s.dropped = true
		case o.Symbols == All && relocations(s):
			s.dropped = true
		}
	}
	f.dropDependent()
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind == elf.SHT_SYMTAB && !s.dropped && !s.allocated() {
			if err := f.dropSymbols(uint32(i), o); err != nil {
				return fmt.Errorf("section %s: %w", s.name, err)
			}
		}
	}
	return nil
}

func relocations(s *section) bool { return s.kind == elf.SHT_REL || s.kind == elf.SHT_RELA }

// dropDependent drops relocations of what is dropped, and groups with nothing left in them.
func (f *file) dropDependent() {
	for i := range f.sections {
		s := &f.sections[i]
		if relocations(s) && !s.allocated() && f.isDropped(s.info) {
			s.dropped = true
		}
	}
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind != elf.SHT_GROUP || s.dropped || len(s.content) < 4 {
			continue
		}
		kept := slices.Clone(s.content[:4])
		for m := 4; m+4 <= len(s.content); m += 4 {
			if !f.isDropped(f.order.Uint32(s.content[m:])) {
				kept = append(kept, s.content[m:m+4]...)
			}
		}
		s.dropped = len(kept) == 4
		s.rewritten = true
		s.content, s.size = kept, uint64(len(kept))
	}
}

func (f *file) isDropped(index uint32) bool {
	return index != 0 && index < uint32(len(f.sections)) && f.sections[index].dropped
}

// write puts the sections that stay into a new file: the fixed part first, then what is not loaded, then the headers.
func (f *file) write() ([]byte, error) {
	kept := f.sequence()
	f.number(kept)
	if err := f.nameSections(); err != nil {
		return nil, err
	}
	f.relink()
	blocks := f.blocks()
	last := blocks[len(blocks)-1]
	out := make([]byte, last.end-last.shift, len(f.data))
	for _, b := range blocks {
		copy(out[b.start-b.shift:], f.data[b.start:b.end])
	}
	if len(blocks) > 1 {
		f.moveSegments(out, blocks)
	}
	for _, i := range kept {
		s := &f.sections[i]
		if i == 0 {
			continue
		}
		if s.content == nil && !s.rewritten {
			if f.free || !s.allocated() {
				s.offset = uint64(len(out))
			}
			continue
		}
		if at, stays := place(blocks, s.offset, s.size); stays && !s.rewritten && !f.free {
			s.offset = at
			continue
		}
		out = pad(out, s.align)
		s.offset = uint64(len(out))
		out = append(out, s.content...)
	}
	out = pad(out, uint64(f.word))
	start := len(out)
	out = append(out, make([]byte, len(kept)*f.section)...)
	for n, i := range kept {
		f.writeSection(out[start+n*f.section:], &f.sections[i])
	}
	return out, f.writeHeader(out, start, len(kept))
}

// maxAlign is the largest page there is. What is not loaded is not aligned to more.
const maxAlign = 1 << 16

func pad(b []byte, align uint64) []byte {
	if align > maxAlign {
		align = maxAlign
	}
	if align < 2 {
		return b
	}
	if rest := uint64(len(b)) % align; rest != 0 {
		b = append(b, make([]byte, align-rest)...)
	}
	return b
}

// number gives the sections that stay their new numbers, which are their places in the list.
func (f *file) number(kept []int) {
	for n, i := range kept {
		f.sections[i].index = uint32(n)
	}
}

// sequence is the sections that stay: as they were, but that symbols, their names, and the names of sections are the last
// ones, as binutils writes them.
func (f *file) sequence() []int {
	var all []int
	late := make([]int, len(f.sections)) // how late a section comes
	for i := range f.sections {
		s := &f.sections[i]
		if s.dropped {
			continue
		}
		all = append(all, i)
		switch {
		case s.allocated():
		case s.kind == elf.SHT_SYMTAB:
			late[i] = 1
			if names := s.link; names != 0 && names < uint32(len(f.sections)) && !f.sections[names].allocated() {
				late[names] = 3
			}
		case s.kind == elf.SHT_SYMTAB_SHNDX:
			late[i] = 2
		}
	}
	late[f.names] = 4
	slices.SortStableFunc(all, func(a, b int) int { return late[a] - late[b] })
	return all
}

// renumber is the new number of a section; 0 when it is gone.
func (f *file) renumber(index uint32) uint32 {
	if index >= uint32(len(f.sections)) || f.sections[index].dropped {
		return 0
	}
	return f.sections[index].index
}

// nameSections makes the table of names anew.
func (f *file) nameSections() error {
	var names []string
	for i := range f.sections {
		if s := &f.sections[i]; !s.dropped {
			names = append(names, s.name)
		}
	}
	table, offsets := packStrings(names)
	for i := range f.sections {
		f.sections[i].nameOffset = offsets[f.sections[i].name]
	}
	return f.replace(uint32(f.names), table)
}

// replace gives a section another content, which is not loaded.
func (f *file) replace(index uint32, content []byte) error {
	s := &f.sections[index]
	if s.allocated() {
		return fmt.Errorf("section %s is loaded into memory, and would have to change", s.name)
	}
	s.content, s.size, s.rewritten = content, uint64(len(content)), true
	return nil
}

// relink has the headers, and the lists in groups, name sections by their new numbers.
func (f *file) relink() {
	for i := range f.sections {
		s := &f.sections[i]
		if i == 0 || s.dropped {
			continue
		}
		s.link = f.renumber(s.link)
		if relocations(s) || s.flags&uint64(elf.SHF_INFO_LINK) != 0 {
			s.info = f.renumber(s.info)
		}
		if s.kind == elf.SHT_GROUP && s.rewritten {
			for m := 4; m+4 <= len(s.content); m += 4 {
				f.order.PutUint32(s.content[m:], f.renumber(f.order.Uint32(s.content[m:])))
			}
		}
	}
}

func (f *file) writeHeader(out []byte, start, count int) error {
	f.putAddress(out[f.sectionOffset():], uint64(start))
	counts := out[f.counts():]
	zero := out[start:]
	names := f.sections[f.names].index
	shnum, shstrndx := uint16(count), uint16(names)
	// Numbers that are too large for the file header go to the first section header.
	size, link := uint64(0), uint32(0)
	if count >= int(elf.SHN_LORESERVE) {
		shnum, size = 0, uint64(count)
	}
	if names >= uint32(elf.SHN_LORESERVE) {
		shstrndx, link = uint16(elf.SHN_XINDEX), names
	}
	f.putAddress(zero[8+3*f.word:], size)
	f.order.PutUint32(zero[8+4*f.word:], link)
	f.order.PutUint16(counts[6:], shnum)
	f.order.PutUint16(counts[8:], shstrndx)
	return nil
}
