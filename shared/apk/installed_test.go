package apk

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"distro.internal/shared/filetree"
)

const installedText = `C:Q1YPelEgilDkY5/FOvLWC4CPRCmh4=
P:abc
V:1.2-r0
A:x86_64
S:1000
I:2000
T:a description
U:
L:MIT
o:abc
D:so:libc.musl-x86_64.so.1
r:old<2
q:5
s:edge
f:f
F:
R:top
F:etc
M:0:0:750
R:conf
a:0:10:640:Q13mhAdHkP2T+trQ+T8Fm+BiKO6xQ=
Z:Q1Pd5Z/z15/CMi9BkvdMHRrzDTLMY=
F:usr
F:usr/bin
M:1:2:7777
R:abc
a:0:0:4755
Z:Q1Pd5Z/z15/CMi9BkvdMHRrzDTLMY=

`

func TestInstalled(t *testing.T) {
	x, err := ParseInstalled(strings.NewReader(installedText))
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := ParseChecksum("Q1Pd5Z/z15/CMi9BkvdMHRrzDTLMY=")
	attr, _ := ParseChecksum("Q13mhAdHkP2T+trQ+T8Fm+BiKO6xQ=")
	want := []InstalledName{
		{Path: "", Mode: fs.ModeDir | 0o755},
		{Path: "top", Mode: 0o644},
		{Path: "etc", Mode: fs.ModeDir | 0o750},
		{Path: "etc/conf", Mode: 0o640, GID: 10, Sum: sum, XattrSum: attr},
		{Path: "usr", Mode: fs.ModeDir | 0o755},
		{Path: "usr/bin", Mode: fs.ModeDir | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777, UID: 1, GID: 2},
		{Path: "usr/bin/abc", Mode: fs.ModeSetuid | 0o755, Sum: sum},
	}
	p := x.Packages[0]
	if diff := cmp.Diff(want, p.Files); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	if p.Tag != "edge" || p.Broken != "f" || p.ReplacesPriority != 5 || !slices.Equal(p.Replaces, deps("old<2")) {
		t.Errorf("package: %+v", p)
	}
	var b bytes.Buffer
	if err := x.Write(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(installedText, b.String()); diff != "" {
		t.Errorf("written again (-want +got)\n%s", diff)
	}
}

func TestBadInstalled(t *testing.T) {
	head := "C:Q1YPelEgilDkY5/FOvLWC4CPRCmh4=\nP:a\nV:1\n"
	for text, want := range map[string]string{
		"P:a\nV:1\n\n":               "no checksum",
		head + "R:x\n":               "line 4",
		head + "Z:Q1\n":              "line 4",
		head + "F:../x\n":            "line 4",
		head + "F:/x\n":              "line 4",
		head + "F:x\nR:../y\n":       "line 5",
		head + "F:x\nR:..\n":         "line 5",
		head + "F:x\na:0:0:644\n":    "line 5",
		head + "F:x\nR:y\nM:0:0:7\n": "line 6",
		head + "F:x\nM:0:0:99\n":     "line 5",
		head + "F:x\nM:0:0\n":        "line 5",
		head + "F:x\nM:-1:0:7\n":     "line 5",
		head + "f:Q\n":               "line 4",
		head + "w:x\n":               "not known",
	} {
		if _, err := ParseInstalled(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
	}
}

func TestFilesOfTwoPackages(t *testing.T) {
	pkg := func(name, origin, replaces string, priority int) *InstalledPackage {
		p := &InstalledPackage{Package: &Package{Name: name, Version: "1", Origin: origin, ReplacesPriority: priority, Checksum: Checksum{1}}}
		if replaces != "" {
			p.Replaces = deps(replaces)
		}
		p.Files = []InstalledName{{Path: "d", Mode: fs.ModeDir}, {Path: "d/f"}, {Path: "d/" + name}}
		return p
	}
	for _, c := range []struct {
		name       string
		first, two *InstalledPackage
		owner      string // of d/f afterwards; "" = conflict
	}{
		{"nothing says who", pkg("a", "", "", 0), pkg("b", "", "", 0), ""},
		{"other origins", pkg("a", "x", "", 0), pkg("b", "y", "", 0), ""},
		{"the same origin", pkg("a", "x", "", 0), pkg("b", "x", "", 0), "b"},
		{"the new one replaces", pkg("a", "", "", 0), pkg("b", "", "a", 0), "b"},
		{"the old one replaces", pkg("a", "", "b", 0), pkg("b", "", "", 0), "a"},
		{"each replaces, the new one more", pkg("a", "", "b", 1), pkg("b", "", "a", 2), "b"},
		{"each replaces, the old one more", pkg("a", "", "b", 2), pkg("b", "", "a", 1), "a"},
		{"each replaces", pkg("a", "", "b", 1), pkg("b", "", "a", 1), "b"},
		{"replaces another version", pkg("a", "", "", 0), pkg("b", "", "a<1", 0), ""},
		{"replaces this version", pkg("a", "", "", 0), pkg("b", "", "a<2", 0), "b"},
		{"the same package", pkg("a", "", "", 0), pkg("a", "", "", 0), "a"},
	} {
		var x Installed
		if _, err := x.Add(c.first); err != nil {
			t.Fatal(err)
		}
		kept, err := x.Add(c.two)
		var conflict *FileConflict
		if errors.As(err, &conflict) {
			if c.owner != "" || conflict.Path != "d/f" || len(x.Packages) != 1 {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var owners []string
		for _, p := range x.Packages {
			for _, f := range p.Files {
				if f.Path == "d/f" {
					owners = append(owners, p.Name)
				}
			}
		}
		if !slices.Equal(owners, []string{c.owner}) {
			t.Errorf("%s: owned by %q", c.name, owners)
		}
		if (len(kept) == 1) != (c.owner == "a" && c.two.Name == "b") {
			t.Errorf("%s: kept %q", c.name, kept)
		}
	}
}

func TestScriptsAndTriggers(t *testing.T) {
	base, odd := baseSample(), oddSample()
	var x Installed
	for _, s := range []sample{odd, base} {
		data, _ := s.build(t, nil)
		x.add(t, data)
	}
	var installed, scripts, triggers bytes.Buffer
	for _, err := range []error{x.Write(&installed), x.WriteScripts(&scripts), x.WriteTriggers(&triggers)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	y, err := ParseInstalled(&installed)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{y.ReadScripts(&scripts), y.ReadTriggers(&triggers)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if y.Packages[0].Name != "base" || y.Packages[1].Name != "odd" {
		t.Fatalf("order: %s, %s", y.Packages[0].Name, y.Packages[1].Name)
	}
	if diff := cmp.Diff(odd.scripts, y.Packages[1].Scripts); diff != "" {
		t.Errorf("scripts (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(odd.p.Triggers, y.Packages[1].Triggers); diff != "" {
		t.Errorf("triggers (-want +got)\n%s", diff)
	}
	for _, f := range y.Packages[1].Files {
		if f.Path == "usr/bin/aodd" && f.Sum.IsZero() {
			t.Error("a hard link has no checksum")
		}
	}
}

// add records a package as a reader of it would.
func (x *Installed) add(t *testing.T, file []byte) {
	t.Helper()
	r, err := Open(bytes.NewReader(file), Verify{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &InstalledPackage{Package: r.Package, Scripts: r.Scripts}
	r.Package.Size = int64(len(file))
	for e := range entries(t, r) {
		p.Record(e, r.Sum())
	}
	if _, err := x.Add(p); err != nil {
		t.Fatal(err)
	}
}

func TestNameOf(t *testing.T) {
	n := NameOf(&filetree.Entry{Path: "a", Mode: fs.ModeSymlink | 0o777, Link: "b"}, Checksum{1})
	if n != (InstalledName{Path: "a", Mode: 0o777, Sum: Checksum{1}}) {
		t.Errorf("%+v", n)
	}
}

// What is read is brought to one form, which then stays.
func FuzzInstalled(f *testing.F) {
	f.Add(installedText)
	f.Add(installedText + installedText)
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseInstalled(strings.NewReader(text))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := x.Write(&first); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		y, err := ParseInstalled(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("reading what was written: %v\n%s", err, &first)
		}
		if err := y.Write(&second); err != nil || first.String() != second.String() {
			t.Errorf("written again (%v):\n%s\nbefore:\n%s", err, &second, &first)
		}
	})
}

func FuzzScripts(f *testing.F) {
	data, _ := oddSample().build(f, nil)
	r, err := Open(bytes.NewReader(data), Verify{Insecure: true})
	if err != nil {
		f.Fatal(err)
	}
	x := Installed{Packages: []*InstalledPackage{{Package: r.Package, Scripts: r.Scripts}}}
	var b bytes.Buffer
	if err := x.WriteScripts(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		y := Installed{Packages: []*InstalledPackage{{Package: r.Package}}}
		if y.ReadScripts(bytes.NewReader(data)) != nil {
			return
		}
		var b bytes.Buffer
		if err := y.WriteScripts(&b); err != nil {
			t.Fatal(err)
		}
		z := Installed{Packages: []*InstalledPackage{{Package: r.Package}}}
		if err := z.ReadScripts(&b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(y.Packages[0].Scripts, z.Packages[0].Scripts, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-written +read)\n%s", diff)
		}
	})
}
