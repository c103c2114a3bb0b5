package elf

import (
	"bytes"
	"os"
	"testing"
)

// FuzzStrip: no file is too broken, and what is made of it is not.
func FuzzStrip(f *testing.F) {
	if own, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(own[:min(len(own), 64)])
	}
	for _, c := range []struct {
		class, order byte
	}{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
		f.Add(sample(c.class, c.order))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if debug, err := Debug(data); err == nil && debug != nil {
			if _, err := parse(debug); err != nil {
				t.Fatalf("the file with debugging sections cannot be read: %v", err)
			}
		}
		for _, symbols := range []Symbols{Debugging, Unneeded, All} {
			o := Options{Symbols: symbols}
			once, err := Strip(data, o)
			if err != nil || once == nil {
				continue
			}
			if _, err := Strip(once, o); err != nil {
				t.Fatalf("what was stripped cannot be read: %v", err)
			}
		}
	})
}

// sample is a small object: a section with a symbol, a debugging section with relocations, and a group.
func sample(class, data byte) []byte {
	f := &file{layout: layout32}
	if class == 2 {
		f.layout = layout64
	}
	head := make([]byte, f.header)
	copy(head, "\x7fELF")
	head[4], head[5], head[6] = class, data, 1
	f.order = byteOrder(head)
	f.order.PutUint16(head[16:], 1)
	f.order.PutUint16(head[18:], 62)
	f.kind, f.free = 1, true
	f.data, f.fixed = head, uint64(len(head))
	counts := head[f.counts():]
	f.order.PutUint16(counts[4:], uint16(f.section))

	symbol := func(name uint32, info byte, shndx uint16) []byte {
		e := make([]byte, f.symbol)
		t := symbolTable{file: f}
		f.order.PutUint32(e, name)
		e[t.infoOffset()] = info
		f.order.PutUint16(t.shndx(e), shndx)
		return e
	}
	symbols := bytes.Join([][]byte{symbol(0, 0, 0), symbol(1, 4, 0xfff1), symbol(0, 3, 1), symbol(0, 3, 2), symbol(5, 0x12, 1)}, nil)
	relocation := make([]byte, 2*f.word)
	(&symbolTable{file: f}).setRelocated(relocation, 2)
	group := make([]byte, 12)
	f.order.PutUint32(group[4:], 1)
	f.order.PutUint32(group[8:], 2)
	f.sections = []section{
		{},
		{name: ".text", kind: 1, flags: 6, content: []byte("code"), align: 4},
		{name: ".debug_info", kind: 1, content: []byte("where and what"), align: 1},
		{name: ".rel.debug_info", kind: 9, content: relocation, link: 6, info: 2, entry: uint64(2 * f.word), align: 4},
		{name: ".rel.text", kind: 9, content: bytes.Clone(relocation), link: 6, info: 1, entry: uint64(2 * f.word), align: 4},
		{name: ".group", kind: 17, content: group, link: 6, info: 4, entry: 4, align: 4},
		{name: ".symtab", kind: 2, content: symbols, link: 7, info: 4, entry: uint64(f.symbol), align: 8},
		{name: ".strtab", kind: 3, content: []byte("\x00x.c\x00main\x00"), align: 1},
		{name: ".shstrtab", kind: 3, align: 1},
	}
	for i := range f.sections {
		f.sections[i].size = uint64(len(f.sections[i].content))
	}
	f.names = 8
	out, err := f.write()
	if err != nil {
		panic(err)
	}
	return out
}

// TestSample: of the small object exactly the debugging parts go, in every class and byte order.
func TestSample(t *testing.T) {
	for class := byte(1); class <= 2; class++ {
		for order := byte(1); order <= 2; order++ {
			out, err := Strip(sample(class, order), Options{})
			if err != nil {
				t.Fatal(err)
			}
			f, err := parse(out)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range f.sections {
				names = append(names, s.name)
			}
			if got, want := len(names), 7; got != want {
				t.Errorf("class %d, order %d: %d sections %q, want %d", class, order, got, names, want)
			}
			symbols, err := f.symbolTable(4)
			if err != nil {
				t.Fatal(err)
			}
			if n := symbols.count(); n != 3 { // none, that of .text which the relocation uses, main
				t.Errorf("class %d, order %d: %d symbols", class, order, n)
			}
			if n := symbols.relocated(f.sections[2].content); n != 1 {
				t.Errorf("class %d, order %d: the relocation uses symbol %d", class, order, n)
			}
		}
	}
}
