package elf

import (
	"debug/elf"
	"errors"
	"fmt"
)

// symbolTable is a table of symbols with what belongs to it.
type symbolTable struct {
	*file
	index    uint32 // of its section
	entries  []byte
	names    []byte
	extended []byte // section numbers that do not fit into an entry; may be nil
	xindex   uint32 // the section of those
}

func (t *symbolTable) count() int         { return len(t.entries) / t.symbol }
func (t *symbolTable) entry(i int) []byte { return t.entries[i*t.symbol : (i+1)*t.symbol] }
func (t *symbolTable) info(e []byte) byte { return e[t.infoOffset()] }
func (t *symbolTable) shndx(e []byte) []byte {
	return e[t.infoOffset()+2:]
}

func (t *symbolTable) infoOffset() int {
	if t.word == 4 {
		return 12
	}
	return 4
}

// where is the section of a symbol; 0 for none that is real.
func (t *symbolTable) where(i int) uint32 {
	n := t.order.Uint16(t.shndx(t.entry(i)))
	switch {
	case n == uint16(elf.SHN_XINDEX) && (i+1)*4 <= len(t.extended):
		return t.order.Uint32(t.extended[i*4:])
	case n >= uint16(elf.SHN_LORESERVE):
		return 0
	}
	return uint32(n)
}

func (f *file) symbolTable(index uint32) (*symbolTable, error) {
	s := &f.sections[index]
	if s.entry != uint64(f.symbol) || s.size%uint64(f.symbol) != 0 || s.size == 0 {
		return nil, errors.New("not a table of symbols")
	}
	if s.link == 0 || s.link >= uint32(len(f.sections)) || f.sections[s.link].kind != elf.SHT_STRTAB {
		return nil, errors.New("the symbols have no names")
	}
	if f.sections[s.link].dropped {
		return nil, errors.New("the names of the symbols are to be dropped")
	}
	t := &symbolTable{file: f, index: index, entries: s.content, names: f.sections[s.link].content}
	for i := range f.sections {
		if x := &f.sections[i]; x.kind == elf.SHT_SYMTAB_SHNDX && x.link == index && !x.dropped {
			t.extended, t.xindex = x.content, uint32(i)
		}
	}
	return t, nil
}

// dropSymbols makes a table of symbols, its names, and the relocations that use it anew.
func (f *file) dropSymbols(index uint32, o Options) error {
	t, err := f.symbolTable(index)
	if err != nil {
		return err
	}
	used, err := t.used()
	if err != nil {
		return err
	}
	numbers := make([]uint32, t.count()) // the new ones; 0 for what is dropped
	var kept []int
	for i := range numbers {
		if i == 0 {
			continue
		}
		if f.isDropped(t.where(i)) {
			if used[i] {
				return fmt.Errorf("symbol %d is needed, and its section is to be dropped", i)
			}
			continue
		}
		if used[i] || t.keeps(t.info(t.entry(i)), t.order.Uint16(t.shndx(t.entry(i))), o) {
			kept = append(kept, i)
			numbers[i] = uint32(len(kept))
		}
	}
	if len(kept) == 0 {
		f.dropTable(t)
		return nil
	}
	if err := t.rewrite(kept); err != nil {
		return err
	}
	return t.renumberUses(numbers)
}

// keeps tells whether a symbol stays that no relocation uses.
func (t *symbolTable) keeps(info byte, shndx uint16, o Options) bool {
	global := elf.ST_BIND(info) != elf.STB_LOCAL || shndx == uint16(elf.SHN_UNDEF) || shndx == uint16(elf.SHN_COMMON)
	kind := elf.ST_TYPE(info)
	switch {
	case o.Symbols == All:
		return false
	case global:
		return t.kind == elf.ET_REL || o.Symbols == Debugging
	case kind == elf.STT_FILE || kind == elf.STT_SECTION:
		return false
	}
	return o.Symbols == Debugging && !o.Locals
}

// dropTable drops the table, and its names unless they are somebody else's too.
func (f *file) dropTable(t *symbolTable) {
	names := f.sections[t.index].link
	f.sections[t.index].dropped = true
	if t.xindex != 0 {
		f.sections[t.xindex].dropped = true
	}
	for i := range f.sections {
		if s := &f.sections[i]; uint32(i) != t.index && s.link == names && !s.dropped {
			return
		}
	}
	if int(names) != f.names {
		f.sections[names].dropped = true
	}
}

// used marks the symbols that sections refer to which stay.
func (t *symbolTable) used() ([]bool, error) {
	used := make([]bool, t.count())
	for i := range t.sections {
		s := &t.sections[i]
		if s.dropped || s.link != t.index || s.allocated() { // what is loaded into memory names no symbols of this table
			continue
		}
		switch {
		case relocations(s):
			err := t.relocations(s, func(entry []byte, symbol uint32) error {
				if symbol >= uint32(len(used)) {
					return fmt.Errorf("section %s: there is no symbol %d", s.name, symbol)
				}
				used[symbol] = true
				return nil
			})
			if err != nil {
				return nil, err
			}
		case s.kind == elf.SHT_GROUP:
			if s.info >= uint32(len(used)) {
				return nil, fmt.Errorf("section %s: there is no symbol %d", s.name, s.info)
			}
			used[s.info] = true
		}
	}
	return used, nil
}

// relocations calls do for each entry of a section with its symbol.
func (t *symbolTable) relocations(s *section, do func(entry []byte, symbol uint32) error) error {
	size := 2 * t.word
	if s.kind == elf.SHT_RELA {
		size += t.word
	}
	if s.entry != uint64(size) || len(s.content)%size != 0 {
		return fmt.Errorf("section %s: entries of %d bytes", s.name, s.entry)
	}
	for b := s.content; len(b) > 0; b = b[size:] {
		if err := do(b[:size], t.relocated(b)); err != nil {
			return err
		}
	}
	return nil
}

// relocated is the symbol of a relocation: the upper part of its second word. On 64-bit MIPS this is a word of its own,
// before four small numbers, in either byte order.
func (t *symbolTable) relocated(entry []byte) uint32 {
	switch {
	case t.word == 4:
		return t.order.Uint32(entry[4:]) >> 8
	case t.machine == elf.EM_MIPS:
		return t.order.Uint32(entry[8:])
	}
	return uint32(t.order.Uint64(entry[8:]) >> 32)
}

func (t *symbolTable) setRelocated(entry []byte, symbol uint32) {
	switch {
	case t.word == 4:
		t.order.PutUint32(entry[4:], symbol<<8|t.order.Uint32(entry[4:])&0xff)
	case t.machine == elf.EM_MIPS:
		t.order.PutUint32(entry[8:], symbol)
	default:
		t.order.PutUint64(entry[8:], uint64(symbol)<<32|t.order.Uint64(entry[8:])&0xffffffff)
	}
}

// rewrite makes the table of the symbols that stay. Their sections do not have their new numbers yet, but none that comes
// before one that stays is dropped later.
func (t *symbolTable) rewrite(kept []int) error {
	names := make([]string, len(kept))
	for n, i := range kept {
		var err error
		if names[n], err = text(t.names, t.order.Uint32(t.entry(i))); err != nil {
			return fmt.Errorf("name of symbol %d: %w", i, err)
		}
	}
	table, offsets := packStrings(names)
	t.number(t.sequence())
	entries := make([]byte, t.symbol, (len(kept)+1)*t.symbol)
	copy(entries, t.entry(0))
	var extended []byte
	if t.xindex != 0 {
		extended = make([]byte, (len(kept)+1)*4)
	}
	locals := uint32(1)
	for n, i := range kept {
		e := append(entries[len(entries):], t.entry(i)...)
		entries = entries[:len(entries)+t.symbol]
		t.order.PutUint32(e, offsets[names[n]])
		if elf.ST_BIND(t.info(e)) == elf.STB_LOCAL {
			locals = uint32(n) + 2
		}
		section := t.renumber(t.where(i))
		switch {
		case section == 0:
		case section < uint32(elf.SHN_LORESERVE):
			t.order.PutUint16(t.shndx(e), uint16(section))
		case extended == nil:
			return errors.New("section numbers are too large")
		default:
			t.order.PutUint16(t.shndx(e), uint16(elf.SHN_XINDEX))
			t.order.PutUint32(extended[(n+1)*4:], section)
		}
	}
	s := &t.sections[t.index]
	s.info = locals
	if extended != nil {
		if err := t.replace(t.xindex, extended); err != nil {
			return err
		}
	}
	if err := t.replace(t.index, entries); err != nil {
		return err
	}
	if int(s.link) == t.file.names {
		return errors.New("symbols and sections share their names")
	}
	return t.replace(s.link, table)
}

// renumberUses has the sections that refer to symbols use their new numbers.
func (t *symbolTable) renumberUses(numbers []uint32) error {
	for i := range t.sections {
		s := &t.sections[i]
		switch {
		case s.dropped || s.link != t.index || s.allocated():
		case s.kind == elf.SHT_GROUP:
			s.info = numbers[s.info]
		case relocations(s):
			s.content, s.rewritten = append([]byte(nil), s.content...), true
			err := t.relocations(s, func(entry []byte, symbol uint32) error {
				t.setRelocated(entry, numbers[symbol])
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
