package scan

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"distro.internal/shared/filetree"
)

// TestScan tells each rule as a story. In a testdata file, every line of
// "tree" is an entry "package path kind rest": kind is dir, file MODE text,
// link TARGET, hard PATH or elf followed by interp=, soname= and needed=.
// "options" has lines that the recipe would have; "want" is the result.
func TestScan(t *testing.T) {
	stories, err := fs.Glob(os.DirFS("testdata"), "*.txtar")
	if err != nil || len(stories) == 0 {
		t.Fatalf("stories %v, error %v", stories, err)
	}
	for _, name := range stories {
		t.Run(strings.TrimSuffix(name, ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile("testdata/" + name)
			if err != nil {
				t.Fatal(err)
			}
			in, want := story(t, ar)
			got, err := Scan(in)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(got); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func show(r Result) string {
	var b strings.Builder
	for _, list := range []struct {
		word  string
		items []string
	}{{"depend", r.Depends}, {"provide", r.Provides}, {"vendor", r.Vendored}} {
		for _, item := range list.items {
			fmt.Fprintf(&b, "%s %s\n", list.word, item)
		}
	}
	return b.String()
}

func story(t *testing.T, ar *txtar.Archive) (in Input, want string) {
	t.Helper()
	in.Version = "1.2-r3"
	trees := map[string]*filetree.Tree{}
	for _, f := range ar.Files {
		switch f.Name {
		case "want":
			want = string(f.Data)
		case "options":
			for line := range strings.Lines(string(f.Data)) {
				option(t, &in, strings.Fields(line))
			}
		case "tree":
			for line := range strings.Lines(string(f.Data)) {
				pkg, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				if trees[pkg] == nil {
					trees[pkg] = filetree.New()
					in.Siblings = append(in.Siblings, Package{pkg, trees[pkg]})
				}
				if err := trees[pkg].Put(entry(t, rest)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	in.Package = in.Siblings[0]
	for _, s := range in.Siblings {
		if strings.HasPrefix(string(ar.Comment), s.Name+":") {
			in.Package = s
		}
	}
	return in, want
}

func option(t *testing.T, in *Input, words []string) {
	t.Helper()
	switch words[0] {
	case "depend":
		in.Depends = append(in.Depends, words[1])
	case "provide":
		in.Provides = append(in.Provides, words[1])
	case "no-commands":
		in.Options.NoCommands = true
	case "no-depends":
		in.Options.NoDepends = true
	case "no-provides":
		in.Options.NoProvides = true
	default:
		t.Fatalf("option %q", words)
	}
}

func entry(t *testing.T, line string) filetree.Entry {
	t.Helper()
	words := strings.SplitN(line, " ", 4)
	e := filetree.Entry{Path: words[0], Mode: 0o755}
	var content []byte
	switch words[1] {
	case "dir":
		e.Mode |= fs.ModeDir
	case "link":
		e.Mode, e.Link = fs.ModeSymlink|0o777, words[2]
	case "hard":
		e.HardLink, e.Link = true, words[2]
	case "file":
		var mode uint32
		fmt.Sscanf(words[2], "%o", &mode)
		e.Mode = fs.FileMode(mode)
		if len(words) > 3 {
			content = []byte(strings.ReplaceAll(words[3], `\n`, "\n"))
		}
	case "elf":
		content = object(strings.Fields(line)[2:])
	default:
		t.Fatalf("entry %q", line)
	}
	if content != nil {
		e.Size = int64(len(content))
		e.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	}
	return e
}

// object writes the smallest ELF file that has what a loader reads: a program
// header for the interpreter, a dynamic section and its strings.
func object(attributes []string) []byte {
	strtab := []byte{0}
	str := func(s string) uint64 {
		at := len(strtab)
		strtab = append(append(strtab, s...), 0)
		return uint64(at)
	}
	var dyn []elf.Dyn64
	var interp []byte
	var lost uint64
	for _, a := range attributes {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "interp":
			interp = append([]byte(value), 0)
		case "lost": // an interpreter whose name is beyond the end
			interp, lost = append([]byte(value), 0), 1<<20
		case "soname":
			dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_SONAME), Val: str(value)})
		case "needed":
			dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: str(value)})
		}
	}
	dyn = append(dyn, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	var dynamic bytes.Buffer
	binary.Write(&dynamic, binary.LittleEndian, dyn)

	const header, prog, section = 64, 56, 64
	interpAt := uint64(header + prog)
	dynAt := interpAt + uint64(len(interp))
	strAt := dynAt + uint64(dynamic.Len())
	shAt := strAt + uint64(len(strtab))
	h := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: header, Shoff: shAt,
		Ehsize: header, Phentsize: prog, Shentsize: section, Shnum: 3}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	p := elf.Prog64{Type: uint32(elf.PT_NULL)}
	if interp != nil {
		h.Phnum = 1
		p = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: interpAt + lost, Filesz: uint64(len(interp))}
	}
	var out bytes.Buffer
	for _, part := range []any{h, p, interp, dynamic.Bytes(), strtab, []elf.Section64{
		{},
		{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(dynamic.Len()), Link: 2, Entsize: 16},
		{Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: uint64(len(strtab))},
	}} {
		binary.Write(&out, binary.LittleEndian, part)
	}
	return out.Bytes()
}

// TestVariableBomb: lines of a pkg-config file that double each other end the scan, not the machine.
func TestVariableBomb(t *testing.T) {
	text := "v0=" + strings.Repeat("x", 100) + "\n"
	for i := range 60 {
		text += fmt.Sprintf("v%d=${v%d}${v%d}\n", i+1, i, i)
	}
	tree := filetree.New()
	if err := tree.Put(filetree.Entry{Path: "x.pc", Mode: 0o644, Size: int64(len(text)), Open: filetree.Bytes([]byte(text))}); err != nil {
		t.Fatal(err)
	}
	p := Package{Name: "bomb", Tree: tree}
	if _, err := Scan(Input{Package: p, Siblings: []Package{p}}); err == nil || !strings.Contains(err.Error(), "v10: a value of more than 65536 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestModuleNames(t *testing.T) {
	for list, want := range map[string]string{
		"":                           "",
		"zlib":                       "zlib",
		"zlib >= 1.2, libpng":        "zlib libpng",
		"a>=1 b = 2 c":               "a b c",
		"glib-2.0 gobject-2.0 != 3,": "glib-2.0 gobject-2.0",
	} {
		if got := strings.Join(moduleNames(list), " "); got != want {
			t.Errorf("moduleNames(%q) = %q, want %q", list, got, want)
		}
	}
}

func TestScriptInterpreter(t *testing.T) {
	for line, want := range map[string]string{
		"":                          "",
		"/bin/bash -e":              "bash",
		"/usr/bin/env perl":         "perl",
		"/usr/bin/env -S ruby -W":   "ruby",
		"/usr/bin/env -i X=1 perl":  "",
		"/usr/bin/env FOO=bar perl": "",
	} {
		if got := scriptInterpreter(strings.Fields(line)); got != want {
			t.Errorf("scriptInterpreter(%q) = %q, want %q", line, got, want)
		}
	}
}

// FuzzObject: no file, however broken, may stop or crash a scan.
func FuzzObject(f *testing.F) {
	f.Add(object([]string{"interp=/lib/ld-musl-x86_64.so.1", "needed=libz.so.1"}))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree := filetree.New()
		e := filetree.Entry{Path: "usr/lib/libx.so.1", Mode: 0o755, Size: int64(len(b)),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
		p := Package{"x", tree}
		r, err := Scan(Input{Package: p, Version: "1-r0", Siblings: []Package{p}})
		if err == nil && !slices.IsSorted(r.Depends) {
			t.Errorf("not sorted: %q", r.Depends)
		}
	})
}
