package ldcache

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"distro.internal/shared/filetree"
	"distro.internal/shared/ldcache/sample"
	"github.com/google/go-cmp/cmp"
)

var amd64 = sample.Machine{Machine: elf.EM_X86_64, Class: elf.ELFCLASS64}

func put(t *testing.T, tree *filetree.Tree, name string, content []byte) {
	t.Helper()
	e := filetree.Entry{Path: name, Mode: 0o755, Size: int64(len(content)), Open: filetree.Bytes(content)}
	if err := tree.Put(e); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, tree *filetree.Tree, name, target string) {
	t.Helper()
	if err := tree.Put(filetree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target}); err != nil {
		t.Fatal(err)
	}
}

// read reads a library of the tree.
func read(tree *filetree.Tree) func(*filetree.Entry) (Library, error) {
	return func(e *filetree.Entry) (Library, error) {
		r, err := tree.Open(e)
		if err != nil {
			return Library{}, err
		}
		defer r.Close()
		content, err := io.ReadAll(r)
		if err != nil {
			return Library{}, err
		}
		return ReadLibrary(bytes.NewReader(content))
	}
}

// crowded is a tree with everything that decides what a cache holds.
func crowded(t *testing.T) *filetree.Tree {
	tree := filetree.New()
	link(t, tree, "lib", "usr/lib")
	link(t, tree, "lib64", "usr/lib")
	put(t, tree, ConfFile, []byte("# a comment\ninclude ld.so.conf.d/*.conf  /etc/more\n/opt/late # after the includes\n\t/usr/lib\nhwcap 1 x\nrelative\n"))
	put(t, tree, "etc/ld.so.conf.d/b.conf", []byte("/opt/b=libc6\n/opt/nothing\n"))
	put(t, tree, "etc/ld.so.conf.d/a.conf", []byte("/opt/a\n"))
	put(t, tree, "etc/ld.so.conf.d/.c.conf", []byte("/opt/hidden\n"))
	put(t, tree, "etc/more", []byte("/opt/more\n"))
	put(t, tree, "opt/hidden/libhidden.so.1", sample.Library(amd64, "libhidden.so.1"))

	put(t, tree, "usr/lib/libz.so.1.3", sample.Library(amd64, "libz.so.1")) // no link of that name: one is made
	put(t, tree, "usr/lib/libz.so.1.10", sample.Library(amd64, "libz.so.1"))
	link(t, tree, "usr/lib/libz.so", "libz.so.1.10")
	put(t, tree, "usr/lib/libc.so.6", sample.Library(amd64, "libc.so.6"))
	put(t, tree, "usr/lib/libplain.so", sample.Library(amd64, ""))
	link(t, tree, "usr/lib/libalias.so.5", "libc.so.6")
	put(t, tree, "usr/lib/libscript.so", []byte("GROUP ( libc.so.6 )\n"))
	put(t, tree, "usr/lib/libother-gdb.py", []byte("import gdb # .so\n"))
	put(t, tree, "usr/lib/plugin.so", sample.Library(amd64, "plugin.so"))
	put(t, tree, "usr/lib/ld-linux-x86-64.so.2", sample.Library(amd64, "ld-linux-x86-64.so.2"))
	put(t, tree, "usr/lib/libz32.so.1", sample.Library(sample.Machine{Machine: elf.EM_386, Class: elf.ELFCLASS32}, "libz32.so.1"))
	for _, level := range []string{"x86-64-v4", "x86-64-v3"} {
		put(t, tree, "usr/lib/glibc-hwcaps/"+level+"/libz.so.1.3", sample.Library(amd64, "libz.so.1"))
	}
	put(t, tree, "opt/a/libz.so.1", sample.Library(amd64, "libz.so.1"))
	put(t, tree, "opt/b/libz.so.1", sample.Library(amd64, "libz.so.1"))
	put(t, tree, "opt/b/libx.so.10", sample.Library(amd64, "libx.so.10"))
	put(t, tree, "opt/b/libx.so.9", sample.Library(amd64, "libx.so.9"))
	put(t, tree, "opt/more/libm.so.1", sample.Library(amd64, "libm.so.1"))
	put(t, tree, "opt/late/libz.so.1", sample.Library(amd64, "libz.so.1"))
	return tree
}

func show(c *Cache) string {
	var b strings.Builder
	for _, e := range c.Entries {
		fmt.Fprintf(&b, "%s %x %s => %s\n", e.Soname, e.Flags, e.Subdir, e.Path)
	}
	return b.String()
}

func TestMake(t *testing.T) {
	tree := crowded(t)
	made, links, err := Make(tree, read(tree))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(made.Encode())
	if err != nil {
		t.Fatal(err)
	}
	want := `libz32.so.1 3  => /usr/lib/libz32.so.1
libz.so.1 303 x86-64-v3 => /usr/lib/glibc-hwcaps/x86-64-v3/libz.so.1.3
libz.so.1 303 x86-64-v4 => /usr/lib/glibc-hwcaps/x86-64-v4/libz.so.1.3
libz.so.1 303  => /opt/a/libz.so.1
libz.so.1 303  => /opt/b/libz.so.1
libz.so.1 303  => /opt/late/libz.so.1
libz.so.1 303  => /usr/lib/libz.so.1
libz.so 303  => /usr/lib/libz.so
libx.so.10 303  => /opt/b/libx.so.10
libx.so.9 303  => /opt/b/libx.so.9
libplain.so 303  => /usr/lib/libplain.so
libm.so.1 303  => /opt/more/libm.so.1
libc.so.6 303  => /usr/lib/libc.so.6
ld-linux-x86-64.so.2 303  => /usr/lib/ld-linux-x86-64.so.2
`
	if diff := cmp.Diff(want, show(c)); diff != "" {
		t.Errorf("cache (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Link{{"usr/lib/libz.so.1", "libz.so.1.10"}}, links); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

// ldconfig of the machine makes the same of the same tree, and reads ours. glibc is part of every system that the tests
// run on but for those that have musl.
func TestLdconfig(t *testing.T) {
	ldconfig, err := exec.LookPath("/sbin/ldconfig")
	if err != nil {
		t.Skip("no ldconfig here")
	}
	tree := crowded(t)
	tree.Remove("usr/lib/libz32.so.1") // older releases tell apart those that do not use libc.so.6
	made, links, err := Make(tree, read(tree))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := filetree.Extract(tree, root, filetree.ExtractOptions{OwnerAccess: true}); err != nil {
		t.Fatal(err)
	}
	// Only root may change the root: everybody is root in a namespace of their own.
	make := exec.Command(ldconfig, "-r", root)
	make.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ours := filepath.Join(t.TempDir(), "cache")
	if err := os.WriteFile(ours, made.Encode(), 0o644); err != nil {
		t.Fatal(err)
	}
	printed := func(file string) string {
		out, err := exec.Command(ldconfig, "-p", "-C", file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, list, _ := strings.Cut(string(out), "\n")
		list, _, _ = strings.Cut(list, "Cache generated by")
		return list
	}
	if diff := cmp.Diff(printed(filepath.Join(root, CacheFile)), printed(ours)); diff != "" {
		t.Errorf("ldconfig's cache and ours (-ldconfig +ours):\n%s", diff)
	}
	for _, l := range links {
		if target, err := os.Readlink(filepath.Join(root, l.Path)); err != nil || target != l.Target {
			t.Errorf("/%s leads to %s; ldconfig: %s, %v", l.Path, l.Target, target, err)
		}
	}
}

func TestMachines(t *testing.T) {
	for _, test := range []struct {
		sample.Machine
		want uint32
	}{
		{amd64, 0x303},
		{sample.Machine{Machine: elf.EM_X86_64, Class: elf.ELFCLASS32, Big: false, Flags: 0}, 0x803},
		{sample.Machine{Machine: elf.EM_386, Class: elf.ELFCLASS32, Big: false, Flags: 0}, 0x3},
		{sample.Machine{Machine: elf.EM_AARCH64, Class: elf.ELFCLASS64, Big: false, Flags: 0}, 0xa03},
		{sample.Machine{Machine: elf.EM_ARM, Class: elf.ELFCLASS32, Big: false, Flags: 0x5000400}, 0x903},
		{sample.Machine{Machine: elf.EM_ARM, Class: elf.ELFCLASS32, Big: false, Flags: 0x5000200}, 0xb03},
		{sample.Machine{Machine: elf.EM_PPC64, Class: elf.ELFCLASS64, Big: false, Flags: 2}, 0x503},
		{sample.Machine{Machine: elf.EM_S390, Class: elf.ELFCLASS64, Big: true, Flags: 0}, 0x403},
		{sample.Machine{Machine: elf.EM_RISCV, Class: elf.ELFCLASS64, Big: false, Flags: 5}, 0x1003},
		{sample.Machine{Machine: elf.EM_LOONGARCH, Class: elf.ELFCLASS64, Big: false, Flags: 0x43}, 0x1203},
	} {
		l, err := ReadLibrary(bytes.NewReader(sample.Library(test.Machine, "libx.so.1")))
		if want := (Library{"libx.so.1", test.want, test.Big}); err != nil || l != want {
			t.Errorf("%v: %+v, %v, want %+v", test.Machine.Machine, l, err, want)
		}
		c := &Cache{Big: test.Big, Entries: []Entry{{Soname: l.Soname, Path: "/lib/x", Flags: l.Flags, Subdir: "power10"}}}
		back, err := Parse(c.Encode())
		if diff := cmp.Diff(c, back); err != nil || diff != "" {
			t.Errorf("%v: %v (-written +read)\n%s", test.Machine.Machine, err, diff)
		}
	}
}

func TestIncludeCircle(t *testing.T) {
	tree := filetree.New()
	put(t, tree, ConfFile, []byte("include ld.so.conf\n"))
	if _, _, err := Make(tree, read(tree)); err == nil {
		t.Error("a configuration that includes itself is read for ever")
	}
}

// What is read can be written, and is the same then.
func FuzzParse(f *testing.F) {
	for _, c := range []*Cache{
		{}, {Big: true, Entries: []Entry{{"a", "/a", 3, ""}}},
		{Entries: []Entry{{"b.so.10", "/b", 0x303, "x86-64-v3"}, {"b.so.9", "/c", 0x303, ""}}},
	} {
		f.Add(c.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		first := c.Encode()
		again, err := Parse(first)
		if err != nil {
			t.Fatalf("%+v does not come back: %v", c, err)
		}
		if !bytes.Equal(again.Encode(), first) {
			t.Errorf("%+v became %+v", c, again)
		}
	})
}
