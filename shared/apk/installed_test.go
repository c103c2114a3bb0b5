package apk

import (
	"bytes"
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
	sums := make(map[string]Checksum)
	for e := range entries(t, r) {
		sums[e.Path] = r.Sum()
		if e.HardLink {
			sums[e.Path] = sums[e.Link]
		}
		p.Files = append(p.Files, NameOf(e, sums[e.Path]))
	}
	x.Packages = append(x.Packages, p)
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
