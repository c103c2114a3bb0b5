package ldcache

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"distro.internal/shared/elfobject"
)

// Library is what a cache says of a shared library, apart from where it is.
type Library struct {
	Soname string // DT_SONAME; empty when it has none: then it is known by the name of its file
	Flags  uint32 // its machine and ABI, in glibc's numbers
	Big    bool   // its numbers are big-endian
}

// libc6 is the kind of library that there is today; the machine's number is added.
const libc6 = 3

// ErrNoLibrary is returned for a file that is no shared library, or one of a machine for which glibc has no number.
var ErrNoLibrary = errors.New("no shared library")

// IsLibraryName reports whether ldconfig looks at files of the name.
func IsLibraryName(base string) bool {
	return (strings.HasPrefix(base, "lib") || strings.HasPrefix(base, "ld-")) && strings.Contains(base, ".so") &&
		!strings.HasSuffix(base, "-gdb.py")
}

// ReadLibrary reads what a file says of itself.
func ReadLibrary(r io.ReaderAt) (Library, error) {
	f, err := elfobject.Open(r)
	if err != nil || f.Type != elf.ET_DYN {
		return Library{}, ErrNoLibrary
	}
	defer f.Close()
	l := Library{Big: f.ByteOrder == binary.BigEndian}
	flags, err := headerFlags(r, f)
	if err != nil {
		return Library{}, err
	}
	machine, ok := machineOf(f, flags)
	if !ok {
		return Library{}, ErrNoLibrary
	}
	l.Flags = libc6 | machine
	names, err := f.DynString(elf.DT_SONAME)
	if err != nil || f.SectionByType(elf.SHT_DYNAMIC) == nil {
		return Library{}, ErrNoLibrary
	}
	if len(names) > 0 {
		l.Soname = names[0]
	}
	return l, nil
}

// headerFlags is e_flags, which debug/elf does not tell.
func headerFlags(r io.ReaderAt, f *elf.File) (uint32, error) {
	at := int64(36)
	if f.Class == elf.ELFCLASS64 {
		at = 48
	}
	var b [4]byte
	_, err := r.ReadAt(b[:], at)
	return f.ByteOrder.Uint32(b[:]), err
}

// machineOf is the FLAG_... of glibc's ldconfig.h for a file.
func machineOf(f *elf.File, flags uint32) (uint32, bool) {
	wide := f.Class == elf.ELFCLASS64
	switch f.Machine {
	case elf.EM_386:
		return 0, true
	case elf.EM_X86_64:
		if !wide {
			return 0x0800, true // x32
		}
		return 0x0300, true
	case elf.EM_AARCH64:
		return 0x0a00, wide
	case elf.EM_ARM:
		switch {
		case flags&0x400 != 0: // hard float
			return 0x0900, true
		case flags&0x200 != 0: // soft float
			return 0x0b00, true
		}
		return 0, true
	case elf.EM_S390:
		if wide {
			return 0x0400, true
		}
		return 0, true
	case elf.EM_PPC64:
		return 0x0500, true
	case elf.EM_RISCV:
		switch flags & 0x6 { // the ABI's floating point
		case 0:
			return 0x0f00, wide
		case 0x4:
			return 0x1000, wide
		}
	case elf.EM_LOONGARCH:
		switch flags & 0x7 {
		case 1:
			return 0x1100, wide
		case 3:
			return 0x1200, wide
		}
	}
	return 0, false
}
