package lint

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"strings"

	"distro.internal/shared/elfobject"
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
	f, done, err := openObject(e)
	if f == nil || err != nil {
		return &object{}, err
	}
	defer done()
	o := &object{machine: f.Machine, linked: f.Type == elf.ET_EXEC || f.Type == elf.ET_DYN}
	for _, s := range f.Sections {
		o.debug = o.debug || strings.HasPrefix(s.Name, ".debug") || strings.HasPrefix(s.Name, ".zdebug")
	}
	return o, nil
}

// openObject opens what is an ELF file, until done; of anything else there is none.
func openObject(e *filetree.Entry) (f *elf.File, done func() error, err error) {
	if e.Open == nil || e.Size < 64 {
		return nil, nil, nil
	}
	r, err := e.Open()
	if err != nil {
		return nil, nil, err
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != elf.ELFMAG {
		return nil, nil, errors.Join(err, r.Close())
	}
	at, ok := r.(io.ReaderAt)
	if !ok { // read through an archive: the rest of it has to be in memory
		rest, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, errors.Join(err, r.Close())
		}
		at = bytes.NewReader(append(magic, rest...))
	}
	if f, err = elfobject.Open(at); err != nil {
		return nil, nil, r.Close()
	}
	return f, r.Close, nil
}
