// Package sample makes shared libraries for tests.
package sample

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Machine is what a library is for.
type Machine struct {
	Machine elf.Machine
	Class   elf.Class
	Big     bool   // big-endian
	Flags   uint32 // e_flags
}

// Library is a shared library with nothing in it but its soname; "" leaves that out too.
func Library(m Machine, soname string) []byte {
	var o binary.ByteOrder = binary.LittleEndian
	data := elf.ELFDATA2LSB
	if m.Big {
		o, data = binary.BigEndian, elf.ELFDATA2MSB
	}
	wide := m.Class == elf.ELFCLASS64
	strs := []byte("\x00" + soname + "\x00")
	ehdr, phdr, shdr, word := 52, 32, 40, 4
	if wide {
		ehdr, phdr, shdr, word = 64, 56, 64, 8
	}
	strAt := ehdr + 2*phdr
	dynAt := (strAt + len(strs) + 7) &^ 7
	var dyn bytes.Buffer
	put := func(b *bytes.Buffer, v uint64) {
		if wide {
			binary.Write(b, o, v)
		} else {
			binary.Write(b, o, uint32(v))
		}
	}
	tags := []uint64{uint64(elf.DT_STRTAB), uint64(strAt), uint64(elf.DT_STRSZ), uint64(len(strs))}
	if soname != "" {
		tags = append(tags, uint64(elf.DT_SONAME), 1)
	}
	for _, v := range append(tags, 0, 0) {
		put(&dyn, v)
	}
	shAt := dynAt + dyn.Len()
	size := shAt + 3*shdr

	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', byte(m.Class), byte(data), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	if wide {
		h := elf.Header64{
			Type: uint16(elf.ET_DYN), Machine: uint16(m.Machine), Version: 1, Phoff: uint64(ehdr), Shoff: uint64(shAt), Flags: m.Flags,
			Ehsize: uint16(ehdr), Phentsize: uint16(phdr), Phnum: 2, Shentsize: uint16(shdr), Shnum: 3, Shstrndx: 1,
		}
		var whole bytes.Buffer
		binary.Write(&whole, o, h)
		b.Write(whole.Bytes()[16:])
		binary.Write(&b, o, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 4, Filesz: uint64(size), Memsz: uint64(size), Align: 4096})
		binary.Write(&b, o, elf.Prog64{Type: uint32(elf.PT_DYNAMIC), Flags: 4, Off: uint64(dynAt), Vaddr: uint64(dynAt), Filesz: uint64(dyn.Len()), Memsz: uint64(dyn.Len()), Align: 8})
	} else {
		h := elf.Header32{
			Type: uint16(elf.ET_DYN), Machine: uint16(m.Machine), Version: 1, Phoff: uint32(ehdr), Shoff: uint32(shAt), Flags: m.Flags,
			Ehsize: uint16(ehdr), Phentsize: uint16(phdr), Phnum: 2, Shentsize: uint16(shdr), Shnum: 3, Shstrndx: 1,
		}
		var whole bytes.Buffer
		binary.Write(&whole, o, h)
		b.Write(whole.Bytes()[16:])
		binary.Write(&b, o, elf.Prog32{Type: uint32(elf.PT_LOAD), Flags: 4, Filesz: uint32(size), Memsz: uint32(size), Align: 4096})
		binary.Write(&b, o, elf.Prog32{Type: uint32(elf.PT_DYNAMIC), Flags: 4, Off: uint32(dynAt), Vaddr: uint32(dynAt), Filesz: uint32(dyn.Len()), Memsz: uint32(dyn.Len()), Align: 4})
	}
	b.Write(strs)
	b.Write(make([]byte, dynAt-b.Len()))
	b.Write(dyn.Bytes())
	if wide {
		binary.Write(&b, o, elf.Section64{})
		binary.Write(&b, o, elf.Section64{Type: uint32(elf.SHT_STRTAB), Flags: 2, Off: uint64(strAt), Addr: uint64(strAt), Size: uint64(len(strs)), Addralign: 1})
		binary.Write(&b, o, elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Flags: 2, Off: uint64(dynAt), Addr: uint64(dynAt), Size: uint64(dyn.Len()), Link: 1, Addralign: 8, Entsize: uint64(2 * word)})
	} else {
		binary.Write(&b, o, elf.Section32{})
		binary.Write(&b, o, elf.Section32{Type: uint32(elf.SHT_STRTAB), Flags: 2, Off: uint32(strAt), Addr: uint32(strAt), Size: uint32(len(strs)), Addralign: 1})
		binary.Write(&b, o, elf.Section32{Type: uint32(elf.SHT_DYNAMIC), Flags: 2, Off: uint32(dynAt), Addr: uint32(dynAt), Size: uint32(dyn.Len()), Link: 1, Addralign: 4, Entsize: uint32(2 * word)})
	}
	return b.Bytes()
}
