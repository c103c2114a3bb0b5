package elfobject

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// bomb is a library whose names are compressed: those of its sections, or those that it needs. They unpack to size bytes.
func bomb(t *testing.T, compressed int, size int) []byte {
	var packed bytes.Buffer
	binary.Write(&packed, binary.LittleEndian, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: uint64(size), Addralign: 1})
	z := zlib.NewWriter(&packed)
	for block := make([]byte, 1<<20); size > 0; size -= len(block) {
		if _, err := z.Write(block[:min(size, len(block))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	dynamic := []elf.Dyn64{{Tag: int64(elf.DT_NEEDED)}, {}}
	const header, section = 64, 64
	tables := [][]byte{nil, make([]byte, binary.Size(dynamic)), {0}, {0}}
	binary.Encode(tables[1], binary.LittleEndian, dynamic)
	sections := []elf.Section64{{}, {Type: uint32(elf.SHT_DYNAMIC), Link: 2}, {Type: uint32(elf.SHT_STRTAB)}, {Type: uint32(elf.SHT_STRTAB)}}
	if compressed > 0 {
		tables[compressed], sections[compressed].Flags = packed.Bytes(), uint64(elf.SHF_COMPRESSED)
	}
	at := uint64(header)
	for i := range sections {
		sections[i].Off, sections[i].Size = at, uint64(len(tables[i]))
		at += sections[i].Size
	}
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: at, Ehsize: header,
		Shentsize: section, Shnum: uint16(len(sections)), Shstrndx: 3}
	copy(h.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1}))
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, h)
	out.Write(bytes.Join(tables, nil))
	binary.Write(&out, binary.LittleEndian, sections)
	return out.Bytes()
}

// TestBombs: a small file does not take all memory; the same one without the trick is read.
func TestBombs(t *testing.T) {
	const size = 1 << 26
	for compressed, want := range map[int]error{0: nil, 2: ErrHostile, 3: ErrHostile} {
		file := bomb(t, compressed, size)
		if len(file) > size/500 {
			t.Fatalf("it has %d bytes", len(file))
		}
		f, err := Open(bytes.NewReader(file))
		if !errors.Is(err, want) {
			t.Errorf("section %d compressed: %v, want %v", compressed, err, want)
		}
		if err == nil {
			if needed, err := f.ImportedLibraries(); err != nil || len(needed) != 1 {
				t.Errorf("it needs %q, %v", needed, err)
			}
		}
	}
	many := bomb(t, 0, 0)
	binary.LittleEndian.PutUint16(many[0x3c:], 0) // as many as the first section says
	binary.LittleEndian.PutUint64(many[binary.LittleEndian.Uint64(many[0x28:])+0x20:], 1<<40)
	if _, err := Open(bytes.NewReader(many)); !errors.Is(err, ErrHostile) {
		t.Errorf("a million million sections: %v", err)
	}
}

// FuzzOpen: what this package lets pass is what debug/elf says of the file.
func FuzzOpen(f *testing.F) {
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own[:4096])
	f.Add([]byte("\x7fELF"))
	f.Add([]byte("#!/bin/sh"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, got := Open(bytes.NewReader(data))
		if errors.Is(got, ErrHostile) {
			return
		}
		if _, want := elf.NewFile(bytes.NewReader(data)); (got == nil) != (want == nil) {
			t.Errorf("%v, debug/elf: %v", got, want)
		}
	})
}
