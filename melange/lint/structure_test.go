package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distro.internal/shared/filetree"
)

// TestStructures: what holds of a package, and what is said when it does not.
func TestStructures(t *testing.T) {
	file := func(text string) filetree.Entry {
		return filetree.Entry{Mode: 0o644, Size: int64(len(text)), Open: filetree.Bytes([]byte(text))}
	}
	link := func(target string) filetree.Entry { return filetree.Entry{Mode: fs.ModeSymlink | 0o777, Link: target} }
	catalog := func(name string) string { // written by GNU msgfmt
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	type files map[string]filetree.Entry
	type with map[string]string
	const pc = "Name: x\nVersion: 1\nRequires: zlib >= 1.2, other\n"
	for _, c := range []struct {
		check string
		with  with
		files files
		err   string // part of it; empty when all is well
	}{
		{"empty", nil, files{"var/lib/db/sbom/x.spdx.json": file("{}")}, ""},
		{"empty", nil, files{"a": file(""), "b": file(""), "c": file(""), "d": file("")}, "has a, b, c, and 1 more"},
		{"byproduct", nil, files{"usr/lib": {Mode: fs.ModeDir | 0o755}}, ""},
		{"byproduct", nil, files{"usr/bin/x": file("")}, "should be empty, and has usr/bin/x"},
		{"meta", nil, files{}, ""},
		{"meta", with{"described": "true"}, files{}, "does not say that it is a meta package"},
		{"docs", with{"prefix": "usr/share"}, files{"usr/share/doc/x": file("x"), "etc/x": file("")}, ""},
		{"docs", with{"prefix": "usr/share", "only": "true"}, files{"usr/share/doc/x": file("x"), "etc/x": file("")}, "but etc/x"},
		{"docs", with{"prefix": "/usr/share/"}, files{"usr/shared": file("x")}, "nothing is below usr/share/"},
		{"no-docs", nil, files{"usr/share/info/dir": file("")}, ""},
		{"no-docs", with{"packages": "x"}, files{"usr/share/man/man1/x.1": file("")}, "documentation belongs into a package of its own"},
		{"no-docs", with{"packages": "y"}, files{}, "only x itself is looked at, not y"},
		{"config", with{"packages": "x", "dir": "etc/"}, files{"etc/x.conf": file("a=b")}, ""},
		{"config", with{"packages": "x", "dir": "/etc/x/"}, files{"etc/xy": file("a=b")}, "no configuration is below /etc/x"},
		{"config", with{"packages": "y", "dir": "etc/"}, files{"etc/x": file("a=b")}, "only x itself is looked at, not y"},
		{"debug", nil, files{"usr/lib/debug/usr/bin/x.debug": file("")}, ""},
		{"debug", nil, files{"usr/lib/debugger": file("")}, "nothing is below /usr/lib/debug"},
		{"src", with{"dir": "/usr/src/", "name": "*"}, files{"usr/src/x/x.o": file("\x7fELF\x00"), "usr/src/x/x.c": file("int x;")}, ""},
		{"src", with{"dir": "/usr/src/", "name": "*"}, files{"usr/src/x.o": file("\x7fELF\x00"), "usr/src/.git/HEAD": file("ref"), "usr/src/y": file("")}, "no text is below /usr/src"},
		{"src", with{"dir": "/usr/src/", "name": "["}, files{"usr/src/x": file("x")}, "syntax error in pattern"},
		{"lang", nil, files{"usr/share/locale/de/LC_MESSAGES/x.mo": file(catalog("de.mo")), "usr/share/locale/alias": file("")}, ""},
		{"lang", nil, files{"usr/share/locale/de/LC_MESSAGES/x.mo": file(catalog("de-big.mo"))}, ""},
		{"lang", nil, files{"usr/share/locale/de/LC_MESSAGES/x.mo": file(catalog("de.mo")[:100])}, "x.mo is no catalogue of messages: text 2 is cut off"},
		{"lang", nil, files{"usr/share/locale/de/LC_MESSAGES/x.mo": file(catalog("de.mo")[:40])}, "a table is cut off"},
		{"lang", nil, files{"usr/share/locale/de/LC_MESSAGES/x.mo": file(strings.Repeat("msgid", 10))}, "it does not begin like one"},
		{"lang", nil, files{"usr/share/locale/de/x.po": file("x"), "usr/lib/x.mo": file(catalog("de.mo"))}, "no catalogue of messages is below /usr/share/locale"},
		{"dev", with{"prefix": "/usr"}, files{"usr/lib/libx.so": link("libx.so.1")}, ""},
		{"dev", with{"prefix": "/opt/x"}, files{"opt/x/include/y": file("")}, ""},
		{"dev", with{"prefix": "/usr"}, files{"usr/lib/libx.so.1": file("")}, "nothing in it is for development"},
		{"static", nil, files{"usr/lib/libx.a": file("")}, ""},
		{"static", nil, files{"usr/lib/libx.a": file(""), "usr/lib/libx.so.1": file("")}, "usr/lib/libx.so.1 is a shared library"},
		{"static", nil, files{"usr/lib/x.o": file("")}, "no static library"},
		{"virtual", with{"names": "one two"}, files{}, ""},
		{"virtual", with{"names": "one twoo"}, files{}, "does not provide twoo"},
		{"contains-files", with{"files": "/a/b c"}, files{"a/b": file(""), "c": link("a")}, ""},
		{"contains-files", with{"files": "/a"}, files{}, "/a is not in it"},
		{"contains-files", with{"dir": "/usr", "name": "*.rb", "type": "f"}, files{"usr/x/y.rb": file("")}, ""},
		{"contains-files", with{"dir": "/usr", "name": "*.rb", "type": "l"}, files{"usr/x/y.rb": file("")}, "nothing below /usr is called *.rb"},
		{"contains-files", with{"dir": "/", "name": "[", "type": "f"}, files{"x": file("")}, "syntax error in pattern"},
		{"symlinks", with{"packages": "x"}, files{"a/b": link("../c"), "c": file(""), "d": link("there")}, ""},
		{"symlinks", with{"packages": "x"}, files{"a/b": link("c")}, "a/b leads to c, which is nowhere"},
		{"symlinks", with{"packages": "x"}, files{"a": link("/c"), "c": file("")}, "an absolute link"},
		{"symlinks", with{"packages": "x", "allow-absolute": "true"}, files{"a": link("/c"), "c": file("")}, ""},
		{"symlinks", with{"packages": "none"}, files{"a": link("c")}, ""},
		{"symlinks", with{"packages": "y"}, files{}, "only x itself is looked at, not y"},
		{"pkgconf", nil, files{"usr/lib/pkgconfig/x.pc": file(pc), "usr/share/pkgconfig/other.pc": file("Name: other\n")}, ""},
		{"pkgconf", nil, files{"usr/lib/pkgconfig/x.pc": file(pc)}, "requires other, which nothing provides"},
		{"pkgconf", nil, files{"usr/lib/x.pc": file(pc)}, "not where pkgconf looks"},
		{"ldd", with{"packages": "x", "files": "/a"}, files{}, "/a is not in it"},
		{"ldd", with{"packages": "x"}, files{"usr/bin/x": file("\x7fELF" + strings.Repeat("x", 80))}, ""},
	} {
		s := Structure{
			Name: "x", Description: "X", Depends: []string{"y"}, Provides: []string{"one=1", "two", "so:libx.so.1=1"}, Tree: filetree.New(),
			Installed: func(path string) (bool, error) { return path == "there", nil },
			Provided:  func(name string) bool { return name == "pc:zlib" },
		}
		for name, e := range c.files {
			e.Path = name
			if err := s.Tree.Put(e); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Check(c.check, c.with)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s %v of %d files: %v, want %q", c.check, c.with, len(c.files), err, c.err)
		}
	}
}
