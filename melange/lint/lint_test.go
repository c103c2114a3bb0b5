package lint

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/filetree"
)

const big = 1 << 10

// tree makes a tree of paths: "path" is a file, "path/" a folder, "path -> target"
// a link, "path=text" has a content, and "path:4755" a mode.
func tree(t *testing.T, specs ...string) *filetree.Tree {
	t.Helper()
	tree := filetree.New()
	for _, spec := range specs {
		name, text, _ := strings.Cut(spec, "=")
		e := filetree.Entry{Path: name, Mode: 0o644}
		if rest, ok := strings.CutSuffix(name, ":4755"); ok {
			e.Path, e.Mode = rest, 0o755|fs.ModeSetuid
		} else if rest, ok := strings.CutSuffix(name, ":666"); ok {
			e.Path, e.Mode = rest, 0o666
		} else if rest, ok := strings.CutSuffix(name, "/"); ok {
			e.Path, e.Mode = rest, fs.ModeDir|0o755
		} else if link, target, ok := strings.Cut(name, " -> "); ok {
			e.Path, e.Mode, e.Link = link, fs.ModeSymlink|0o777, target
		}
		if e.Mode.IsRegular() && text != "" {
			e.Size, e.Open = int64(len(text)), filetree.Bytes([]byte(text))
		}
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestLinters(t *testing.T) {
	program := func(machine uint16, kind uint16, sections ...string) string {
		return elfFile(machine, kind, sections...)
	}
	const x86, arm, ppc, executable, relocatable = 62, 183, 21, 2, 1
	for _, c := range []struct {
		linter  string
		name    string // of the package; "p" when empty
		offends []string
		passes  []string
	}{
		{"binaryarch", "", []string{"usr/bin/a=" + program(ppc, executable)}, []string{"usr/bin/b=" + program(x86, executable), "usr/lib/c.o=" + program(arm, relocatable), "usr/share/text=" + strings.Repeat("x", 100)}},
		{"cudaruntimelib", "", []string{"usr/lib/libcuda.so.1"}, []string{"usr/lib/libcudart.so.1"}},
		{"dev", "", []string{"dev/null"}, []string{"dev/", "usr/dev/null"}},
		{"dll", "", []string{"usr/share/A.DLL"}, []string{"usr/lib/dll"}},
		{"dll", "p-dev", nil, []string{"usr/share/a.dll"}},
		{"documentation", "", []string{"usr/share/README", "usr/share/a.md"}, []string{"usr/share/ALREADY", "usr/share/a.txt"}},
		{"documentation", "p-doc", nil, []string{"usr/share/README"}},
		{"duplicate", "", []string{"b/x=" + strings.Repeat("a", big)},
			[]string{"a/x=" + strings.Repeat("a", big), "c/x=" + strings.Repeat("b", big), "d/y=" + strings.Repeat("a", big),
				"a/small=1", "b/small=1", "a/LICENSE=" + strings.Repeat("l", big), "b/LICENSE=" + strings.Repeat("l", big)}},
		{"dylib", "", []string{"usr/lib/a.dylib"}, []string{"usr/lib/a.so"}},
		{"infodir", "", []string{"usr/share/info/dir"}, []string{"usr/share/info/a.info"}},
		{"libtool/la-files", "", []string{"usr/lib/a.la"}, []string{"usr/lib/la"}},
		{"maninfo", "", []string{"usr/share/man/man1/a.1.gz", "usr/man/a.3", "usr/share/info/a.info-1.gz"}, []string{"usr/share/man/man1/", "usr/share/manual/a.1"}},
		{"maninfo", "p-doc", nil, []string{"usr/share/man/man1/a.1"}},
		{"nonlinux", "", []string{"usr/share/Windows/a", "usr/share/x/mac-os.txt", "usr/lib/darwin"}, []string{"usr/share/wind"}},
		{"object", "", []string{"usr/lib/a.o"}, []string{"usr/lib/o"}},
		{"opt", "", []string{"opt/a"}, []string{"opt/", "usr/opt/a"}},
		{"opt", "p-compat", nil, []string{"opt/a"}},
		{"python/docs", "", []string{"usr/lib/python3.12/site-packages/docs/"}, []string{"usr/lib/python3.12/site-packages/a/docs/", "usr/lib/python3.12/docs/"}},
		{"python/test", "", []string{"usr/lib/python3.12/site-packages/tests/"}, []string{"usr/lib/python3.12/site-packages/a/tests/a.py"}},
		{"python/multiple", "", nil, []string{"usr/lib/python3.12/site-packages/one/", "usr/lib/python3.12/site-packages/one.cpython-312.so",
			"usr/lib/python3.12/site-packages/one-1.dist-info/", "usr/lib/python3.12/site-packages/_one/", "usr/lib/python3.12/site-packages/tests/"}},
		{"sbom", "", []string{"var/lib/db/sbom/a"}, []string{"var/lib/db/sbom/a.spdx.json"}},
		{"setuidgid", "", []string{"usr/bin/a:4755"}, []string{"usr/bin/b"}},
		{"srv", "", []string{"srv/a"}, []string{"srv/"}},
		{"staticarchive", "", []string{"usr/lib/a.a"}, []string{"usr/lib/a.so"}},
		{"staticarchive", "p-static", nil, []string{"usr/lib/a.a"}},
		{"strip", "", []string{"usr/bin/a=" + program(x86, executable, ".text", ".debug_info"), "usr/lib/z.so=" + program(arm, 3, ".zdebug_line")},
			[]string{"usr/bin/b=" + program(x86, executable, ".text", ".symtab"), "usr/lib/c.o=" + program(x86, relocatable, ".debug_info")}},
		{"tempdir", "", []string{"tmp/a", "var/tmp/b", "var/run/c/", "run/d/"}, []string{"tmp/", "var/tmp/x/"}},
		{"tempdir", "", []string{"run/a"}, []string{"run/d/", "usr/lib/tmpfiles.d/p.conf"}},
		{"unsupportedarch", "", []string{"usr/share/ppc64/a", "usr/lib/a-riscv64.so", "usr/lib/x_s390x"}, []string{"usr/share/x86_64/i386/a", "usr/lib/mipsy", "i386"}},
		{"usrlocal", "", []string{"usr/local/bin/a"}, []string{"usr/local/bin/"}},
		{"usrmerge", "", []string{"lib/", "lib/a", "bin -> usr/bin"}, []string{"usr/lib/a", "library"}},
		{"varempty", "", []string{"var/empty/a"}, []string{"var/empty/"}},
		{"worldwrite", "", []string{"usr/share/a:666"}, []string{"usr/share/l -> a"}},
	} {
		p := Package{Name: c.name, Tree: tree(t, append(slices.Clone(c.passes), c.offends...)...)}
		if p.Name == "" {
			p.Name = "p"
		}
		var want []string
		for _, spec := range c.offends {
			name, _, _ := strings.Cut(spec, "=")
			name, _, _ = strings.Cut(name, " -> ")
			name, _, _ = strings.Cut(name, ":")
			want = append(want, strings.TrimSuffix(name, "/"))
		}
		slices.Sort(want)
		got := only(t, p, c.linter)
		slices.Sort(got.Paths)
		if !slices.Equal(got.Paths, want) {
			t.Errorf("%s of %s: found %q, want %q", c.linter, p.Name, got.Paths, want)
		}
	}
}

// only runs one linter.
func only(t *testing.T, p Package, linter string) Finding {
	t.Helper()
	findings, err := Run(p, Policy{Require: []string{linter}, Warn: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) == 0 {
		return Finding{}
	}
	return findings[0]
}

func TestWholePackages(t *testing.T) {
	const site = "usr/lib/python3.12/site-packages/"
	for _, c := range []struct {
		linter string
		p      Package
		want   string
	}{
		{"empty", Package{Tree: tree(t, "usr/share/", "var/lib/db/sbom/p.spdx.json")}, "it has no files: "},
		{"empty", Package{Tree: tree(t, "usr/share/a")}, ""},
		{"python/multiple", Package{Tree: tree(t, site+"one/", site+"two.py")}, site + "one, " + site + "two.py: "},
		{"python/multiple", Package{Tree: tree(t, site+"one/", "usr/lib/python3.13/site-packages/one/")}, "for several versions of Python: "},
		{"lddcheck", Package{Tree: tree(t, "usr/lib/a.so.1"), Tests: []string{}}, "usr/lib/a.so.1: "},
		{"lddcheck", Package{Tree: tree(t, "usr/lib/a.so.1"), Tests: []string{"test/tw/ldd-check"}}, ""},
		{"lddcheck", Package{Tree: tree(t, "usr/lib/a.so.1")}, ""},
		{"pkgconf", Package{Tree: tree(t, "usr/lib/pkgconfig/a.pc"), Tests: []string{"test/tw/ldd-check"}}, "usr/lib/pkgconfig/a.pc: "},
		{"pkgconf", Package{Tree: tree(t, "usr/lib/pkgconfig/a.pc"), Tests: []string{"test/pkgconf"}}, ""},
		{"dev", Package{Tree: tree(t, "dev/a", "dev/b", "dev/c", "dev/d", "dev/e")}, "dev/a, dev/b, dev/c and 2 more: "},
	} {
		c.p.Name = "p"
		got := only(t, c.p, c.linter)
		if c.want == "" && got.Name != "" || c.want != "" && !strings.HasPrefix(got.String(), "p: "+c.linter+" (required): "+c.want) {
			t.Errorf("%s: found %q, want %q", c.linter, got, c.want)
		}
	}
}

// TestDisabledChecksStayWithTheirPackage has one package's exception change
// nothing for the next, nor for any other linter.
func TestDisabledChecksStayWithTheirPackage(t *testing.T) {
	files := tree(t, "usr/bin/su:4755", "opt/a")
	for _, c := range []struct {
		p    Package
		want []Severity // of opt, setuidgid
	}{
		{Package{Name: "a", Tree: files, Disabled: []string{"setuidgid"}}, []Severity{Warn, Warn}},
		{Package{Name: "b", Tree: files}, []Severity{Warn, Required}},
	} {
		findings, err := Run(c.p, Policy{})
		if err != nil {
			t.Fatal(err)
		}
		var got []Severity
		for _, f := range findings {
			got = append(got, f.Severity)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.p.Name, got, c.want)
		}
	}
}

func TestPolicy(t *testing.T) {
	err := Policy{Require: []string{"stripp"}, Warn: []string{"opt"}}.Check()
	if err == nil || err.Error() != `unknown linter "stripp" (did you mean "strip"?)` {
		t.Errorf("%v", err)
	}
	var names []string
	for _, l := range Linters() {
		names = append(names, l.Name)
		if err := (Policy{Warn: []string{l.Name}}).Check(); err != nil {
			t.Error(err)
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(names)) != len(Linters()) {
		t.Errorf("not sorted, each once: %q", names)
	}
	var required []string
	for _, l := range Linters() {
		if l.Severity == Required {
			required = append(required, l.Name)
		}
	}
	if want := []string{"dev", "infodir", "libtool/la-files", "setuidgid", "tempdir", "usrmerge", "varempty", "worldwrite"}; !slices.Equal(required, want) {
		t.Errorf("required %q, want %q", required, want)
	}
}

// elfFile makes the smallest file that has some sections.
func elfFile(machine, kind uint16, sections ...string) string {
	names := "\x00"
	var at []uint32
	for _, s := range append(sections, ".shstrtab") {
		at = append(at, uint32(len(names)))
		names += s + "\x00"
	}
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&b, binary.LittleEndian, v)
		}
	}
	const header, section = 64, 64
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	count := uint16(len(at) + 1)
	put(kind, machine, uint32(1), uint64(0), uint64(0), uint64(header), uint32(0), uint16(header), uint16(56), uint16(0), uint16(section), count, count-1)
	b.Write(make([]byte, section))
	end := uint64(header + section*int(count))
	for i, name := range at {
		if i < len(sections) {
			put(name, uint32(1), uint64(0), uint64(0), end, uint64(0), uint32(0), uint32(0), uint64(1), uint64(0))
			continue
		}
		put(name, uint32(3), uint64(0), uint64(0), end, uint64(len(names)), uint32(0), uint32(0), uint64(1), uint64(0))
	}
	b.WriteString(names)
	return b.String()
}
