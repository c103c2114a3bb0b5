package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// linked FILE [soname=NAME] [needed=NAME] [exports=SYMBOL,...] [imports=SYMBOL,...] writes a library or program that says
// so, and has no code.
func linked(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, dynamicObject(args[1:]), 0o755))
}

// dynamicObject has three sections beside the first: names, symbols, and the dynamic one, in this order.
func dynamicObject(words []string) []byte {
	var names, symbols, dynamic bytes.Buffer
	name := func(s string) uint32 {
		at := names.Len()
		names.WriteString(s + "\x00")
		return uint32(at)
	}
	put := func(b *bytes.Buffer, v any) { binary.Write(b, binary.LittleEndian, v) }
	names.WriteByte(0)
	put(&symbols, elf.Sym64{})
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "soname":
			put(&dynamic, elf.Dyn64{Tag: int64(elf.DT_SONAME), Val: uint64(name(value))})
		case "needed":
			put(&dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(name(value))})
		case "exports", "imports":
			for _, s := range strings.Split(value, ",") {
				symbol := elf.Sym64{Name: name(s), Info: elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)}
				if key == "exports" {
					symbol.Shndx = 1
				}
				put(&symbols, symbol)
			}
		}
	}
	put(&dynamic, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	var body bytes.Buffer
	const header, section = 64, 64
	place := func(b *bytes.Buffer) (off, size uint64) {
		off = header + uint64(body.Len())
		body.Write(b.Bytes())
		return off, uint64(b.Len())
	}
	namesAt, namesSize := place(&names)
	symbolsAt, symbolsSize := place(&symbols)
	dynamicAt, dynamicSize := place(&dynamic)
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header,
		Shoff: header + uint64(body.Len()), Shentsize: section, Shnum: 4, Shstrndx: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var all bytes.Buffer
	put(&all, h)
	all.Write(body.Bytes())
	put(&all, []elf.Section64{
		{},
		{Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: namesSize},
		{Type: uint32(elf.SHT_DYNSYM), Off: symbolsAt, Size: symbolsSize, Link: 1, Info: 1, Entsize: elf.Sym64Size},
		{Type: uint32(elf.SHT_DYNAMIC), Off: dynamicAt, Size: dynamicSize, Link: 1, Entsize: 16},
	})
	return all.Bytes()
}
