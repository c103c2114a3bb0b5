package filetree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// list is a tree as text, one line per entry, for comparing.
func list(t *Tree) string {
	var b strings.Builder
	for e := range t.All() {
		fmt.Fprintf(&b, "%s %d:%d %s", e.Mode, e.UID, e.GID, e.Path)
		switch {
		case e.HardLink:
			fmt.Fprintf(&b, " == %s", e.Link)
		case e.Link != "":
			fmt.Fprintf(&b, " -> %s", e.Link)
		case e.Mode.IsRegular():
			fmt.Fprintf(&b, " %d", e.Size)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func file(name, content string) Entry {
	return Entry{Path: name, Mode: 0o644, Size: int64(len(content)), Open: Bytes([]byte(content)), ModTime: time.Unix(1e9, 0)}
}

func build(t testing.TB, entries ...Entry) *Tree {
	t.Helper()
	tree := New()
	for _, e := range entries {
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func everything(t testing.TB) *Tree {
	return build(t,
		Entry{Path: "bin", Mode: fs.ModeSymlink | 0o777, Link: "usr/bin"},
		Entry{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		Entry{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, DevMajor: 1, DevMinor: 3},
		Entry{Path: "dev/sda", Mode: fs.ModeDevice | 0o660, DevMajor: 8, GID: 6},
		Entry{Path: "run/pipe", Mode: fs.ModeNamedPipe | 0o600},
		Entry{Path: "usr/bin/su", Mode: 0o755 | fs.ModeSetuid, Size: 2, Open: Bytes([]byte("su")), Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02", "user.a": "b"}},
		Entry{Path: "usr/bin/a-link", Mode: 0o755 | fs.ModeSetuid, HardLink: true, Link: "usr/bin/su"},
		Entry{Path: "usr/bin/z-link", Mode: 0o755 | fs.ModeSetuid, HardLink: true, Link: "usr/bin/su"},
		file("usr/share/"+strings.Repeat("long/", 20)+strings.Repeat("n", 200), "deep"),
		file("usr/share/grüße", "hello"),
		Entry{Path: "usr/share/big-id", Mode: 0o644, UID: 3_000_000, GID: 4_000_000},
		Entry{Path: "usr/share/old", Mode: 0o644, ModTime: time.Unix(-5, 0)},
		Entry{Path: "usr/sbin", Mode: fs.ModeSymlink | 0o777, Link: "/bin"},
	)
}

func TestPut(t *testing.T) {
	link := func(name, target string) Entry { return Entry{Path: name, Mode: fs.ModeSymlink, Link: target} }
	for _, c := range []struct {
		name    string
		entries []Entry
		want    string // error text, or the listing's paths
	}{
		{"parents appear", []Entry{file("a/b/c", "")}, "a a/b a/b/c"},
		{"order is that of a walk", []Entry{file("a.b", ""), file("a/c", ""), file("a-b", "")}, "a a/c a-b a.b"},
		{"replaced", []Entry{file("a", "1"), link("a", "b")}, "a"},
		{"directory twice keeps what is below", []Entry{file("d/f", ""), {Path: "d", Mode: fs.ModeDir | 0o700}}, "d d/f"},
		{"below a file", []Entry{file("a", ""), file("a/b", "")}, "adding a/b: a: parent is not a directory"},
		{"below a link", []Entry{link("a", "/etc"), file("a/b", "")}, "adding a/b: a: parent is not a directory"},
		{"over a full directory", []Entry{file("d/f", ""), file("d", "")}, "adding d: a directory that is not empty is there"},
		{"absolute", []Entry{file("/a", "")}, `bad path "/a"`},
		{"dots", []Entry{file("a/../b", "")}, `bad path "a/../b"`},
		{"unclean", []Entry{file("a//b", "")}, `bad path "a//b"`},
		{"the top", []Entry{file(".", "")}, `bad path "."`},
		{"nothing", []Entry{file("", "")}, `bad path ""`},
		{"zero byte", []Entry{file("a\x00b", "")}, `bad path "a\x00b"`},
		{"link to nothing", []Entry{link("a", "")}, `symbolic link a: bad target ""`},
		{"socket", []Entry{{Path: "s", Mode: fs.ModeSocket}}, "s: files of type S--------- have no place in a tree"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := New()
			var err error
			for _, e := range c.entries {
				err = errors.Join(err, tree.Put(e))
			}
			var paths []string
			for e := range tree.All() {
				paths = append(paths, e.Path)
			}
			got := strings.Join(paths, " ")
			if err != nil {
				got = err.Error()
			} else if len(paths) != tree.Len() {
				t.Errorf("Len is %d", tree.Len())
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	tree := build(t, file("a/b/c", ""), file("a/b/d", ""), file("a/e", ""))
	tree.Remove("a/b")
	tree.Remove("a/none/deep")
	if _, ok := tree.Lookup("a/b/c"); ok || tree.Len() != 2 {
		t.Errorf("left:\n%s", list(tree))
	}
}

func TestResolve(t *testing.T) {
	link := func(name, target string) Entry { return Entry{Path: name, Mode: fs.ModeSymlink, Link: target} }
	tree := build(t, file("usr/bin/sh", ""), link("bin", "usr/bin"), link("usr/bin/bash", "sh"), link("abs", "/bin/bash"),
		link("up", "../../../bin"), link("loop", "loop2"), link("loop2", "/loop"), link("gone", "nowhere"), link("top", "/"))
	for name, want := range map[string]string{
		"usr/bin/sh": "usr/bin/sh", "bin/sh": "usr/bin/sh", "bin/bash": "usr/bin/sh", "abs": "usr/bin/sh", "up": "usr/bin",
		"up/../bin/sh": "usr/bin/sh", "top/bin/sh": "usr/bin/sh",
		"loop": "", "gone": "", "top": "", "usr/bin/sh/x": "", "usr/bin/sh/..": "", ".": "", "": "",
	} {
		got := ""
		if e, ok := tree.Resolve(name); ok {
			got = e.Path
		}
		if got != want {
			t.Errorf("Resolve(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestFS(t *testing.T) {
	tree := build(t, file("usr/bin/sh", "shell"), file("etc/motd", ""), file("etc/os-release", "ID=x\n"),
		Entry{Path: "bin", Mode: fs.ModeSymlink | 0o777, Link: "usr/bin"},
		Entry{Path: "usr/bin/ash", HardLink: true, Mode: 0o755, Link: "usr/bin/sh"},
		Entry{Path: "empty", Mode: fs.ModeDir | 0o755})
	if err := fstest.TestFS(tree.FS(), "usr/bin/sh", "usr/bin/ash", "etc/motd", "etc/os-release", "bin", "empty"); err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(tree.FS(), "bin/ash"); string(b) != "shell" || err != nil {
		t.Errorf("through both links: %q, %v", b, err)
	}
	if err := fstest.TestFS(New().FS()); err != nil {
		t.Error(err)
	}
}

func TestTarRoundTrip(t *testing.T) {
	tree := everything(t)
	var first, second bytes.Buffer
	if err := WriteTar(&first, tree); err != nil {
		t.Fatal(err)
	}
	again, err := ReadTar(bytes.NewReader(first.Bytes()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := list(tree), list(again); a != b {
		t.Errorf("wrote\n%s\nread\n%s", a, b)
	}
	if err := WriteTar(&second, again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the second writing differs from the first")
	}
	su, _ := again.Lookup("usr/bin/su")
	if su.Xattrs["security.capability"] != "\x01\x00\x00\x02" || su.Xattrs["user.a"] != "b" {
		t.Errorf("attributes %q", su.Xattrs)
	}
	if b, err := again.ReadFile("bin/z-link"); string(b) != "su" || err != nil {
		t.Errorf("content %q, %v", b, err)
	}
}

func TestHardLinksFollowTheirFile(t *testing.T) {
	tree := build(t, Entry{Path: "a/x", HardLink: true, Link: "b/y"}, file("b/y", "1"), Entry{Path: "b/z", HardLink: true, Link: "b/y"})
	var order []string
	for e, err := range tree.InTarOrder() {
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, e.Path)
	}
	if got := strings.Join(order, " "); got != "a b b/y a/x b/z" {
		t.Errorf("order %s", got)
	}
	tree.Remove("b/y")
	if err := WriteTar(io.Discard, tree); err == nil || err.Error() != "hard link a/x: b/y is no regular file of the tree" {
		t.Errorf("a link to nothing: %v", err)
	}
}

// TestHugeFile writes the header of a file that ustar has no room for.
func TestHugeFile(t *testing.T) {
	const size = 9 << 40
	h, err := Header(&Entry{Path: "huge", Mode: 0o600, Size: size}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	back, err := tar.NewReader(&b).Next()
	if err != nil || back.Size != size {
		t.Errorf("%v, %v", back, err)
	}
}

func TestWrongSizes(t *testing.T) {
	for _, size := range []int64{3, 5} {
		e := file("f", "four")
		e.Size = size
		tree := build(t, e)
		if err := WriteTar(io.Discard, tree); err == nil {
			t.Errorf("tar: %d bytes instead of 4 went through", size)
		}
		if err := Extract(tree, t.TempDir(), ExtractOptions{}); err == nil {
			t.Errorf("extract: %d bytes instead of 4 went through", size)
		}
	}
}

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadTar(t *testing.T) {
	reg := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	link := func(kind byte, name, target string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o644}
	}
	for _, c := range []struct {
		name    string
		headers []tar.Header
		want    string
	}{
		{"spellings", []tar.Header{{Typeflag: tar.TypeDir, Name: "./"}, {Typeflag: tar.TypeDir, Name: "./d/", Mode: 0o755}, reg("./d//f")},
			"drwxr-xr-x 0:0 d\n-rw-r--r-- 0:0 d/f 0\n"},
		{"comment of git archive", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c0ffee"}}, reg("f")},
			"-rw-r--r-- 0:0 f 0\n"},
		{"the later holds", []tar.Header{reg("f"), link(tar.TypeSymlink, "f", "g")}, "Lrw-r--r-- 0:0 f -> g\n"},
		{"link to a link", []tar.Header{reg("a"), link(tar.TypeLink, "b", "./a"), link(tar.TypeLink, "c", "b")},
			"-rw-r--r-- 0:0 a 0\n-rw-r--r-- 0:0 b == a\n-rw-r--r-- 0:0 c == a\n"},
		{"second name of a symbolic link", []tar.Header{link(tar.TypeSymlink, "a", "x"), link(tar.TypeLink, "b", "a")},
			"Lrw-r--r-- 0:0 a -> x\nLrw-r--r-- 0:0 b -> x\n"},
		{"type bits in the mode mean nothing", []tar.Header{{Typeflag: tar.TypeReg, Name: "f", Mode: 0o120644}}, "-rw-r--r-- 0:0 f 0\n"},
		{"traversal", []tar.Header{reg("a/../../f")}, `reading tar: tar entry "a/../../f": ".." leads outside`},
		{"absolute", []tar.Header{reg("/etc/passwd")}, `reading tar: tar entry "/etc/passwd": the name is not relative`},
		{"through a link", []tar.Header{link(tar.TypeSymlink, "a", "/etc"), reg("a/passwd")},
			"reading tar: adding a/passwd: a: parent is not a directory"},
		{"below a file", []tar.Header{reg("a"), reg("a/b")}, "reading tar: adding a/b: a: parent is not a directory"},
		{"link outside", []tar.Header{link(tar.TypeLink, "a", "../../etc/passwd")}, `reading tar: hard link a: tar entry "../../etc/passwd": ".." leads outside`},
		{"link to nothing", []tar.Header{link(tar.TypeLink, "a", "b")}, "reading tar: hard link a: b is not there"},
		{"link to a directory", []tar.Header{{Typeflag: tar.TypeDir, Name: "d"}, link(tar.TypeLink, "a", "d")}, "reading tar: hard link a: d is not there"},
		{"linked file replaced", []tar.Header{reg("a"), link(tar.TypeLink, "b", "a"), link(tar.TypeSymlink, "a", "/x")},
			"hard link b: a is no regular file of the tree"},
		{"unknown type", []tar.Header{{Typeflag: 'Z', Name: "a"}}, `reading tar: tar entry "a": type 'Z' is not known`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := ReadTar(bytes.NewReader(archive(t, c.headers...)), nil)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = list(tree)
			}
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func FuzzReadTar(f *testing.F) {
	var b bytes.Buffer
	if err := WriteTar(&b, everything(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 600}, tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		tree, err := ReadTar(bytes.NewReader(in), nil)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := WriteTar(&first, tree); err != nil {
			return // a name or a device number that Go's tar has no form for
		}
		again, err := ReadTar(bytes.NewReader(first.Bytes()), nil)
		if err != nil {
			t.Fatalf("what was written is not readable: %v\n%s", err, list(tree))
		}
		if err := WriteTar(&second, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("two writings differ:\n%s\n%s", list(tree), list(again))
		}
	})
}

func TestExtractAndScan(t *testing.T) {
	tree := build(t,
		Entry{Path: "bin", Mode: fs.ModeSymlink | 0o777, Link: "usr/bin"},
		Entry{Path: "locked", Mode: fs.ModeDir | 0o555, ModTime: time.Unix(1e9, 0)},
		file("locked/f", "content"),
		Entry{Path: "run/pipe", Mode: fs.ModeNamedPipe | 0o600},
		Entry{Path: "usr/bin/su", Mode: 0o755 | fs.ModeSetuid, Size: 2, Open: Bytes([]byte("su")), Xattrs: map[string]string{"user.a": "b"}},
		Entry{Path: "usr/bin/a-link", Mode: 0o755 | fs.ModeSetuid, HardLink: true, Link: "usr/bin/su"},
	)
	dir := t.TempDir()
	if err := Extract(tree, dir, ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(dir, "locked"), 0o755) })
	root := func(string, int, int) (int, int, error) { return 0, 0, nil }
	got, err := Scan(dir, ScanOptions{Owner: root})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("usr/bin/a-link == usr/bin/su", "usr/bin/a-link 2", "usr/bin/su 2", "usr/bin/su == usr/bin/a-link").Replace(list(tree))
	if l := list(got); l != want {
		t.Errorf("extracted\n%s\nscanned\n%s", want, l)
	}
	if b, err := got.ReadFile("bin/su"); string(b) != "su" || err != nil {
		t.Errorf("content %q, %v", b, err)
	}
	if e, _ := got.Lookup("locked"); !e.ModTime.Equal(time.Unix(1e9, 0)) {
		t.Errorf("the directory's time is %v", e.ModTime)
	}

	plain := t.TempDir()
	if err := Extract(tree, plain, ExtractOptions{NoSetID: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(plain, "locked"), 0o755) })
	if info, err := os.Stat(filepath.Join(plain, "usr/bin/su")); err != nil || info.Mode() != 0o755 {
		t.Errorf("NoSetID left %v, %v", info.Mode(), err)
	}
}

// TestExtractStaysInside lays links in the way that lead to a file outside.
func TestExtractStaysInside(t *testing.T) {
	for _, c := range []struct {
		name    string
		link    string // a link that is there before, to the directory outside
		entries []Entry
		wantErr bool
	}{
		{"directory on the way", "d", []Entry{file("d/secret", "changed")}, true},
		{"directory entry over a link", "d", []Entry{{Path: "d", Mode: fs.ModeDir | 0o700}}, true},
		{"file over a link", "secret", []Entry{file("secret", "changed")}, false},
		{"hard link through a link", "d", []Entry{{Path: "x", HardLink: true, Link: "d/secret"}}, true},
		{"made by the stream itself", "other", []Entry{{Path: "e", Mode: fs.ModeSymlink, Link: "../outside"}, file("e/secret", "changed")}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			top := t.TempDir()
			secret := filepath.Join(top, "outside", "secret")
			if err := os.MkdirAll(filepath.Join(top, "in"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Dir(secret), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../outside", filepath.Join(top, "in", c.link)); err != nil {
				t.Fatal(err)
			}
			x, err := NewExtractor(filepath.Join(top, "in"), ExtractOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range c.entries {
				err = errors.Join(err, x.addOpened(&e))
			}
			err = errors.Join(err, x.Close())
			if (err != nil) != c.wantErr {
				t.Errorf("error %v", err)
			}
			if b, err := os.ReadFile(secret); string(b) != "secret" || err != nil {
				t.Errorf("outside there is now %q, %v", b, err)
			}
			if info, err := os.Stat(filepath.Dir(secret)); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("the directory outside is now %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestExtractReplaces(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"first", "second"} {
		if err := Extract(build(t, file("d/f", content)), dir, ExtractOptions{}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "d/f")); string(b) != content || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	}
}

func TestPlainCapability(t *testing.T) {
	v3 := "\x01\x00\x00\x03" + strings.Repeat("\x02", 16) + "\xe8\x03\x00\x00"
	v2 := "\x01\x00\x00\x02" + strings.Repeat("\x02", 16)
	if got := string(plainCapability([]byte(v3))); got != v2 {
		t.Errorf("revision 3 became %q", got)
	}
	if got := string(plainCapability([]byte(v2))); got != v2 {
		t.Errorf("revision 2 became %q", got)
	}
}

// TestSparse reads a header in the old GNU form, which claims 2^60 bytes behind an empty map.
func TestSparse(t *testing.T) {
	b := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Format: tar.FormatGNU})
	b[156] = tar.TypeGNUSparse
	copy(b[483:], "\x80\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00") // the real size, in base 256
	sum := int64(0)
	copy(b[148:156], "        ")
	for _, c := range b[:512] {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	if _, err := ReadTar(bytes.NewReader(b), nil); err == nil || !strings.Contains(err.Error(), "sparse files are refused") {
		t.Error(err)
	}
}

// TestScanMemory: a folder with more names than there is memory for is an error.
func TestScanMemory(t *testing.T) {
	dir := t.TempDir()
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Scan(dir, ScanOptions{Memory: 1 << 20}); err != nil {
		t.Error(err)
	}
	if _, err := Scan(dir, ScanOptions{Memory: 10_000}); err == nil || !strings.Contains(err.Error(), "names alone take more than 10000 bytes") {
		t.Errorf("got %v", err)
	}
}
