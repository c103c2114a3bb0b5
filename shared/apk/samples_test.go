package apk

import (
	"bytes"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"distro.internal/shared/filetree"
)

// A sample is a package to be built in a test.
type sample struct {
	p       Package
	entries []filetree.Entry
	scripts Scripts
	extra   map[string][]byte
}

func deps(words ...string) []Dependency {
	var list []Dependency
	for _, w := range words {
		d, err := ParseDependency(w)
		if err != nil {
			panic(err)
		}
		list = append(list, d)
	}
	return list
}

func file(path string, mode fs.FileMode, content string) filetree.Entry {
	return filetree.Entry{Path: path, Mode: mode, Size: int64(len(content)), Open: filetree.Bytes([]byte(content))}
}

func baseSample() sample {
	return sample{
		p: Package{
			Name: "base", Version: "1.2.3-r4", Description: "a base", URL: "https://base.test", License: "MIT", Origin: "base",
			BuildDate: 1600000000, Provides: deps("base-layout=1.2.3-r4"), Replaces: deps("old<2"), ReplacesPriority: 3,
		},
		entries: []filetree.Entry{
			{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Path: "root", Mode: fs.ModeDir | 0o700},
			file("etc/motd", 0o644, "hello\n"),
		},
	}
}

// oddSample has one of every kind of file.
func oddSample() sample {
	return sample{
		p: Package{
			Name: "odd", Version: "0.1_rc1-r0", Description: "every kind of file", License: "Zlib", Origin: "odd",
			BuildDate: 1600000001, Provides: deps("so:libodd.so.1=1.0.0", "cmd:odd=0.1_rc1-r0"), Triggers: []string{"/usr/share/odd", "/etc/odd/*"},
		},
		entries: []filetree.Entry{
			file("usr/bin/odd", fs.ModeSetuid|0o755, strings.Repeat("#!/bin/sh\n", 1000)),
			{Path: "usr/bin/zodd", Mode: fs.ModeSetuid | 0o755, HardLink: true, Link: "usr/bin/odd"},
			{Path: "usr/bin/aodd", Mode: fs.ModeSetuid | 0o755, HardLink: true, Link: "usr/bin/odd"},
			{Path: "usr/bin/odd-link", Mode: fs.ModeSymlink | 0o777, Link: "odd"},
			file("usr/lib/libodd.so.1", 0o755, strings.Repeat("\x7fELF", 9000)),
			{Path: "usr/lib/capable", Mode: 0o755, Size: 1, Open: filetree.Bytes([]byte("x")),
				Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}},
			{Path: "usr/lib/empty", Mode: 0o600, UID: 12, GID: 34},
			{Path: "var/lib/odd", Mode: fs.ModeDir | fs.ModeSetgid | 0o750, UID: 100, GID: 101},
			{Path: "var/lib/odd/fifo", Mode: fs.ModeNamedPipe | 0o600},
			{Path: "dev/odd", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, DevMajor: 1, DevMinor: 3},
			file("usr/share/"+strings.Repeat("long/", 30)+"name of "+strings.Repeat("x", 120), 0o644, "deep"),
			file("usr/share/ünïcode", 0o644, "u"),
			file("usr-x/sorts between", 0o644, "usr and usr/bin"),
		},
		scripts: Scripts{".trigger": []byte("#!/bin/sh\n"), ".pre-upgrade": []byte("#!/bin/sh\nexit 0\n")},
		extra:   map[string][]byte{".melange.yaml": []byte("package: {}\n")},
	}
}

func (s sample) tree(t testing.TB) *filetree.Tree {
	t.Helper()
	tree := filetree.New()
	for _, e := range s.entries {
		if e.ModTime.IsZero() {
			e.ModTime = time.Unix(s.p.BuildDate, 0)
		}
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// build returns the file of the package, signed unless signer is nil.
func (s sample) build(t testing.TB, signer Signer) ([]byte, *Package) {
	t.Helper()
	var data, control, out bytes.Buffer
	info, err := WriteData(&data, s.tree(t))
	if err != nil {
		t.Fatal(err)
	}
	p := s.p
	if p.Arch == "" {
		p.Arch = "x86_64"
	}
	p.DataHash, p.InstalledSize = info.Hash, info.InstalledSize
	mtime := time.Unix(p.BuildDate, 0)
	sum, sha256, err := WriteControl(&control, &p, s.scripts, s.extra, mtime)
	if err != nil {
		t.Fatal(err)
	}
	if signer != nil {
		if err := SignControl(&out, signer, sha256[:], mtime); err != nil {
			t.Fatal(err)
		}
	}
	control.WriteTo(&out)
	data.WriteTo(&out)
	p.Checksum, p.Size = sum, int64(out.Len())
	return out.Bytes(), &p
}

var makeKey = sync.OnceValue(func() Signer {
	key, err := GenerateKey(2048)
	if err != nil {
		panic(err)
	}
	s, err := NewSigner("test.rsa.pub", key)
	if err != nil {
		panic(err)
	}
	return s
})

// testSigner returns a signer of the tests' one key under a name.
func testSigner(t testing.TB, name string) Signer {
	t.Helper()
	s, err := NewSigner(name, makeKey().(*signer).key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testRing() Keyring { return Keyring{"test.rsa.pub": &makeKey().(*signer).key.PublicKey} }

// entries yields what is left to read of a package.
func entries(t testing.TB, r *Reader) iter.Seq2[*filetree.Entry, io.Reader] {
	return func(yield func(*filetree.Entry, io.Reader) bool) {
		for {
			e, content, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !yield(e, content) {
				return
			}
		}
	}
}

// check reads a package to its end and returns what is wrong with it.
func check(file []byte, v Verify) error {
	r, err := Open(bytes.NewReader(file), v)
	for err == nil {
		_, _, err = r.Next()
	}
	if err == io.EOF {
		return nil
	}
	return err
}
