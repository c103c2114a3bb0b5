package policy

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"distro.internal/ci/record"
	"distro.internal/shared/apk"
)

// Contents is what the checks want to know of a package's files. It is a
// function of the package, small beside it, and can be kept.
type Contents struct {
	Files   []File // all names, directories among them, in the order of the package
	Objects []Object
}

// A File is a name in a package.
type File struct {
	Path       string
	Mode       fs.FileMode
	Capability bool // the kernel gives who runs it a capability
}

// An Object is a program or library with a dynamic section.
type Object struct {
	Path    string
	Soname  string // empty: nobody links with it
	Needed  []string
	Exports []Symbol // of one with a soname; by name, then version
	Imports []Symbol // that it needs of others; likewise
}

// A Symbol is what dynamic objects know each other's parts by.
type Symbol struct {
	Name    string
	Version string // "" where the library has none
	Default bool   // of an export: what a program that is linked now gets
	Data    bool   // a variable, of which programs may have copied the Size
	Size    uint64
}

// String spells a symbol as linkers do: name@@VERSION where it is the default one.
func (s Symbol) String() string {
	switch {
	case s.Version == "":
		return s.Name
	case s.Default:
		return s.Name + "@@" + s.Version
	}
	return s.Name + "@" + s.Version
}

// ReadContents reads a package to its end, and verifies it in doing so. ELF files
// are looked into in scratch, which is overwritten.
func ReadContents(r *apk.Reader, scratch *os.File) (*Contents, error) {
	c := &Contents{}
	for {
		e, content, err := r.Next()
		if err == io.EOF {
			return c, nil
		} else if err != nil {
			return nil, err
		}
		_, able := e.Xattrs["security.capability"]
		c.Files = append(c.Files, File{e.Path, e.Mode, able})
		if !e.IsRegular() {
			continue
		}
		o, err := readObject(content, scratch)
		if err != nil {
			return nil, fmt.Errorf("looking at %s of %s: %w", e.Path, r.Package.Name, err)
		}
		if o != nil {
			o.Path = e.Path
			c.Objects = append(c.Objects, *o)
		}
	}
}

// readObject is nil for what is no dynamic object, or only looks like one: test
// data and debug information do.
func readObject(content io.Reader, scratch *os.File) (*Object, error) {
	b := bufio.NewReader(content)
	if head, err := b.Peek(len(elf.ELFMAG)); err != nil && err != io.EOF {
		return nil, err
	} else if !bytes.Equal(head, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	_, err := scratch.Seek(0, io.SeekStart)
	if err := errors.Join(err, scratch.Truncate(0)); err != nil {
		return nil, err
	}
	if _, err := io.Copy(scratch, b); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(scratch)
	if err != nil {
		return nil, nil
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, nil
	}
	o := &Object{}
	if o.Needed, err = f.ImportedLibraries(); err != nil {
		return nil, nil
	}
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) > 0 {
		o.Soname = names[0]
	}
	o.take(symbols)
	return o, nil
}

// linkers are the symbols that linkers add, each others; no program means them.
var linkers = []string{"", "_init", "_fini", "_end", "_edata", "_etext", "__bss_start", "__bss_start__", "__bss_end__", "__end__", "_bss_end__"}

// take sorts out the symbols of an object.
func (o *Object) take(symbols []elf.Symbol) {
	for _, s := range symbols {
		bind, visible := elf.ST_BIND(s.Info), elf.ST_VISIBILITY(s.Other)
		kind := elf.ST_TYPE(s.Info)
		if bind == elf.STB_LOCAL || kind == elf.STT_SECTION || kind == elf.STT_FILE || slices.Contains(linkers, s.Name) {
			continue
		}
		own := Symbol{Name: s.Name, Version: s.Version}
		switch {
		case s.Section == elf.SHN_UNDEF:
			if bind != elf.STB_WEAK { // who can do without asks weakly
				o.Imports = append(o.Imports, own)
			}
		case o.Soname != "" && (visible == elf.STV_DEFAULT || visible == elf.STV_PROTECTED):
			if s.Section == elf.SHN_ABS && s.Name == s.Version {
				continue // what names the version itself
			}
			own.Default = s.HasVersion && !s.VersionIndex.IsHidden()
			if kind == elf.STT_OBJECT || kind == elf.STT_TLS {
				own.Data, own.Size = true, s.Size
			}
			o.Exports = append(o.Exports, own)
		}
	}
	for _, list := range []*[]Symbol{&o.Exports, &o.Imports} {
		slices.SortFunc(*list, compareSymbols)
		*list = slices.CompactFunc(*list, func(a, b Symbol) bool { return compareSymbols(a, b) == 0 })
	}
}

func compareSymbols(a, b Symbol) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
}

// ContentsFormat names what Encode writes and ReadContents finds: what was kept of another one says something else.
const ContentsFormat = "contents/2"

// Encode returns the bytes that DecodeContents reads.
func (c *Contents) Encode() []byte {
	w := &record.Writer{}
	w.Count(len(c.Files))
	for _, f := range c.Files {
		w.Text(f.Path)
		w.Int(int64(f.Mode))
		w.Bool(f.Capability)
	}
	w.Count(len(c.Objects))
	for _, o := range c.Objects {
		w.Text(o.Path)
		w.Text(o.Soname)
		w.Texts(o.Needed)
		encodeSymbols(w, o.Exports)
		encodeSymbols(w, o.Imports)
	}
	return w.Encoded()
}

func encodeSymbols(w *record.Writer, list []Symbol) {
	w.Count(len(list))
	for _, s := range list {
		w.Text(s.Name)
		w.Text(s.Version)
		w.Bool(s.Default)
		w.Bool(s.Data)
		w.Int(int64(s.Size))
	}
}

// DecodeContents reads what Encode has written. Its texts lie in b.
func DecodeContents(b []byte) (*Contents, error) {
	r := record.NewReader(b)
	c := &Contents{Files: make([]File, r.Count())}
	for i := range c.Files {
		c.Files[i] = File{r.Text(), fs.FileMode(r.Int()), r.Bool()}
	}
	c.Objects = make([]Object, r.Count())
	for i := range c.Objects {
		c.Objects[i] = Object{r.Text(), r.Text(), r.Texts(), decodeSymbols(r), decodeSymbols(r)}
	}
	if !r.Ended() {
		return nil, errors.New("the record of a package's contents is not what was written")
	}
	return c, nil
}

func decodeSymbols(r *record.Reader) []Symbol {
	n := r.Count()
	if n == 0 {
		return nil
	}
	list := make([]Symbol, n)
	for i := range list {
		list[i] = Symbol{r.Text(), r.Text(), r.Bool(), r.Bool(), uint64(r.Int())}
	}
	return list
}
