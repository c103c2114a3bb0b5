package lint

import (
	"bytes"
	"debug/elf"
	"io"
	"strings"

	"distro.internal/shared/filetree"
)

// An object is what linters want to know of a program or library.
type object struct {
	machine elf.Machine // 0: the file is no ELF file
	linked  bool        // a program or shared object, not an intermediate file
	debug   bool        // it has sections for debuggers
}

// readObject looks into a file. One that only begins like an ELF file, a
// fixture of some test, is none.
func readObject(e *filetree.Entry) (*object, error) {
	if e.Open == nil || e.Size < 64 {
		return &object{}, nil
	}
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, err
	}
	if string(magic) != elf.ELFMAG {
		return &object{}, nil
	}
	at, ok := r.(io.ReaderAt)
	if !ok { // read through an archive: the rest of it has to be in memory
		rest, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		at = bytes.NewReader(append(magic, rest...))
	}
	f, err := elf.NewFile(at)
	if err != nil {
		return &object{}, nil
	}
	o := &object{machine: f.Machine, linked: f.Type == elf.ET_EXEC || f.Type == elf.ET_DYN}
	for _, s := range f.Sections {
		o.debug = o.debug || strings.HasPrefix(s.Name, ".debug") || strings.HasPrefix(s.Name, ".zdebug")
	}
	return o, nil
}
