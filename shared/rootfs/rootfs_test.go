package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// A spec describes a package as text: lines "name version field=value ...", then one line for each entry:
// "path content", "path -> target", "path == hard link", "path/".
func writePackage(t testing.TB, spec string) string {
	t.Helper()
	head, body, _ := strings.Cut(strings.TrimSpace(spec), "\n")
	words := strings.Fields(head)
	p := &apk.Package{Name: words[0], Version: apk.Version(words[1]), Arch: "x86_64", Description: words[0], License: "MIT"}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "origin":
			p.Origin = value
		case "priority":
			fmt.Sscan(value, &p.ReplacesPriority)
		case "replaces":
			deps, err := apk.ParseDependencies(strings.ReplaceAll(value, ",", " "))
			if err != nil {
				t.Fatal(err)
			}
			p.Replaces = deps
		case "trigger":
			p.Triggers = []string{value}
		default:
			t.Fatalf("bad field %q", w)
		}
	}
	return writeAPK(t, p, parseTree(t, body))
}

func parseTree(t testing.TB, text string) *filetree.Tree {
	t.Helper()
	tree := filetree.New()
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		e := filetree.Entry{Path: strings.TrimSuffix(name, "/"), ModTime: time.Unix(1e9, 0)}
		switch {
		case name == "":
			continue
		case strings.HasSuffix(name, "/"):
			e.Mode = fs.ModeDir | 0o755
		case strings.HasPrefix(rest, "-> "):
			e.Mode, e.Link = fs.ModeSymlink|0o777, rest[3:]
		case strings.HasPrefix(rest, "== "):
			e.Mode, e.HardLink, e.Link = 0o644, true, rest[3:]
		default:
			content := strings.ReplaceAll(rest, `\n`, "\n")
			e.Mode, e.Size, e.Open = 0o644, int64(len(content)), filetree.Bytes([]byte(content))
		}
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func writeAPK(t testing.TB, p *apk.Package, tree *filetree.Tree) string {
	t.Helper()
	var data, control bytes.Buffer
	info, err := apk.WriteData(&data, tree)
	if err != nil {
		t.Fatal(err)
	}
	p.DataHash, p.InstalledSize = info.Hash, info.InstalledSize
	var scripts apk.Scripts
	if len(p.Triggers) > 0 {
		scripts = apk.Scripts{".trigger": []byte("#!/bin/sh\n")}
	}
	if _, _, err = apk.WriteControl(&control, p, scripts, nil, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), p.FileName())
	if err := os.WriteFile(file, append(control.Bytes(), data.Bytes()...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var anything = apk.Verify{Insecure: true}

func unpackAll(t testing.TB, s Store, specs ...string) []Layer {
	t.Helper()
	var layers []Layer
	for _, spec := range specs {
		l, err := s.Unpack(t.Context(), writePackage(t, spec), anything)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return layers
}

func openAll(t testing.TB, specs ...string) []Opened {
	t.Helper()
	var packages []Opened
	for _, l := range unpackAll(t, Store{Dir: t.TempDir()}, specs...) {
		o, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, o)
	}
	return packages
}

func treeOf(t *testing.T, o Opened) *filetree.Tree {
	t.Helper()
	tree := filetree.New()
	for _, f := range o.Files {
		if err := tree.Put(f.Entry); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// overlay shows what the layers look like when they are mounted above each other.
func overlay(t *testing.T, layers []string) *filetree.Tree {
	t.Helper()
	all := filetree.New()
	for _, dir := range layers {
		tree, err := filetree.Scan(dir, filetree.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for e := range tree.All() {
			if old, ok := all.Lookup(e.Path); ok && old.Mode.IsDir() != e.Mode.IsDir() {
				all.Remove(e.Path)
			}
			entry := *e
			if e.HardLink { // an inode of its layer, whatever other layers do with the name
				file, _ := tree.Lookup(e.Link)
				entry = *file
				entry.Path = e.Path
			}
			if err := all.Put(entry); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

func content(t *testing.T, tree *filetree.Tree, name string) string {
	t.Helper()
	b, err := tree.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

const layout = `
layout 1-r0
bin -> usr/bin
lib -> usr/lib
usr/bin/
usr/lib/
etc/passwd root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false
`

func TestUnpack(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	tree := parseTree(t, "usr/bin/su su\nusr/bin/su2 == usr/bin/su\nusr/lib/x -> y\n")
	for _, e := range []filetree.Entry{
		{Path: "usr/bin/caps", Mode: 0o111, UID: 5, GID: 6, Xattrs: map[string]string{"security.capability": "\x01\xff"}},
		{Path: "closed", Mode: fs.ModeDir | 0o000},
		{Path: "dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, DevMajor: 1, DevMinor: 3},
	} {
		if err := tree.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	su, _ := tree.Lookup("usr/bin/su")
	su.Mode |= fs.ModeSetuid | 0o111
	link, _ := tree.Lookup("usr/bin/su2")
	link.Mode = su.Mode
	file := writeAPK(t, &apk.Package{Name: "p", Version: "1-r0", Arch: "x86_64"}, tree)

	l, err := s.Unpack(t.Context(), file, anything)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(l.Dir, "usr/bin/su")); info.Mode() != 0o755 {
		t.Errorf("on the disk su has mode %v: it must not give the user's rights to others", info.Mode())
	}
	if _, err := os.Lstat(filepath.Join(l.Dir, "dev/null")); err == nil {
		t.Error("a device was made")
	}
	if info, _ := os.Stat(filepath.Join(l.Dir, "closed")); info.Mode().Perm() != 0o700 {
		t.Errorf("nobody could remove the directory of mode %v", info.Mode())
	}
	if info, _ := os.Stat(file); l.Package.Size != info.Size() || l.Package.Name != "p" {
		t.Errorf("package %+v", l.Package)
	}

	o, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"usr/bin/su": "urwxr-xr-x 0:0", "usr/bin/su2": "urwxr-xr-x 0:0", "usr/bin/caps": "---x--x--x 5:6", "closed": "d--------- 0:0",
		"dev/null": "Dcrw-rw-rw- 0:0", "usr/lib/x": "Lrwxrwxrwx 0:0",
	} {
		e, ok := treeOf(t, o).Lookup(name)
		if !ok {
			t.Errorf("%s is lost", name)
		} else if got := fmt.Sprintf("%s %d:%d", e.Mode, e.UID, e.GID); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if e, _ := treeOf(t, o).Lookup("usr/bin/caps"); e.Xattrs["security.capability"] != "\x01\xff" {
		t.Errorf("capabilities %q", e.Xattrs)
	}
	if got := content(t, treeOf(t, o), "usr/bin/su2"); got != "su" {
		t.Errorf("the hard link holds %q", got)
	}
	again, err := s.Unpack(t.Context(), file, anything)
	if err != nil || again.Dir != l.Dir {
		t.Errorf("the second time: %v, %v", again.Dir, err)
	}
}

func TestUnpackVerifies(t *testing.T) {
	file := writePackage(t, "p 1-r0\nf content\n")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged.apk")
	b[len(b)-20] ^= 1
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := apk.Checksum{1}
	for name, c := range map[string]struct {
		file string
		v    apk.Verify
	}{
		"damaged data":        {damaged, anything},
		"nothing to go by":    {file, apk.Verify{}},
		"another checksum":    {file, apk.Verify{Checksum: &wrong}},
		"nobody's signature":  {file, apk.Verify{Keyring: apk.Keyring{}}},
		"not there":           {file + "x", anything},
		"a file of no format": {os.Args[0], anything},
	} {
		s := Store{Dir: t.TempDir()}
		if l, err := s.Unpack(t.Context(), c.file, c.v); err == nil {
			t.Errorf("%s: unpacked to %s", name, l.Dir)
		}
		left, _ := filepath.Glob(filepath.Join(s.Dir, "tmp", "*"))
		if hashes, _ := filepath.Glob(filepath.Join(s.Dir, "????????????????*")); len(left)+len(hashes) > 0 {
			t.Errorf("%s: left behind %v %v", name, left, hashes)
		}
	}
}

func TestUnpackManyAtOnce(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	file := writePackage(t, "p 1-r0\na/b/c content\na/b/d other\n")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			l, err := s.Unpack(t.Context(), file, anything)
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(filepath.Join(l.Dir, "a/b/c")); string(b) != "content" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	wg.Wait()
}

// TestAfterTheMachineDied pretends that the machine was started again since the package was unpacked.
func TestAfterTheMachineDied(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"whole":       func(*testing.T, string) {},
		"empty file":  func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "root/f"), 0) },
		"other bytes": func(t *testing.T, dir string) { os.WriteFile(filepath.Join(dir, "root/f"), []byte("c0ntent"), 0o644) },
		"lost file":   func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "root/f")) },
		"lost link":   func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "root/l")) },
		"no names":    func(t *testing.T, dir string) { os.Truncate(filepath.Join(dir, "names"), 10) },
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			file := writePackage(t, "p 1-r0\nf content\nl -> f\n")
			l, err := s.Unpack(t.Context(), file, anything)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Dir(l.Dir)
			if err := os.WriteFile(filepath.Join(dir, "boot"), []byte("another"), 0o644); err != nil {
				t.Fatal(err)
			}
			mark := filepath.Join(dir, "mark")
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			damage(t, dir)
			if l, err = s.Unpack(t.Context(), file, anything); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(l.Dir, "l")); string(b) != "content" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := os.Stat(mark); (err == nil) != (name == "whole") {
				t.Errorf("kept: %v", err == nil)
			}
			root, err := s.Compose(t.Context(), []Layer{l}, Compose{})
			if err != nil {
				t.Fatal(err)
			}
			top := root.Layers[len(root.Layers)-1]
			os.WriteFile(filepath.Join(filepath.Dir(top), "boot"), []byte("another"), 0o644)
			os.Truncate(filepath.Join(top, "etc/passwd"), 0)
			if _, err = s.Compose(t.Context(), []Layer{l}, Compose{}); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(top, "etc/passwd")); len(b) == 0 || err != nil {
				t.Errorf("the generated layer is not made anew: %v", err)
			}
		})
	}
}

func TestCompose(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	layers := unpackAll(t, s, layout,
		"busybox 1-r0\nusr/bin/busybox BB\nusr/bin/cat own\netc/busybox-paths.d/busybox /bin/sh\\n/bin/cat\\n/usr/bin/awk\\n/sbin/ip\n",
		"ca-certificates 1-r0 trigger=/usr/share/ca-certificates\nusr/share/ca-certificates/b.crt B\nusr/share/ca-certificates/x/a.crt A\\n\nusr/share/ca-certificates/no.crt NO\netc/ca-certificates.conf !no.crt\\n\n",
		"meta 1-r0\n", "meta2 1-r0\n")
	world, err := apk.ParseDependencies("busybox ca-certificates")
	if err != nil {
		t.Fatal(err)
	}
	o := Compose{Arch: "x86_64", World: world, Accounts: Accounts{
		Users:  []User{{Name: "www", UID: 65534, GID: 65534, Home: "/srv"}, {Name: "db", UID: 70, GID: 65534, Home: "/var/db"}},
		Groups: []Group{{Name: "www", GID: 65534, Members: []string{"db", "build"}}},
	}}
	root, err := s.Compose(t.Context(), layers, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(root.Layers) != 5 {
		t.Errorf("layers %v: two packages of no files are one, and one is generated", root.Layers)
	}
	tree := overlay(t, root.Layers)
	for name, want := range map[string]string{
		"etc/apk/arch": "x86_64\n", "etc/apk/world": "busybox\nca-certificates\n",
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" +
			"build:x:1000:1000:build:/home/build:/bin/sh\ndb:x:70:65534:db:/var/db:/bin/sh\n",
		"etc/group":  "root:x:0:\nbuild:x:1000:\nwww:x:65534:db,build\n",
		bundleFile:   "B\nA\n",
		"bin/cat":    "own",
		"bin/sh":     "BB",
		"sbin/ip":    "BB",
		"usr/bin/su": "",
	} {
		if name == "usr/bin/su" {
			continue
		}
		if got := content(t, tree, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"home/build", "var/db", "proc", "tmp"} {
		if e, ok := tree.Lookup(name); !ok || !e.Mode.IsDir() {
			t.Errorf("no directory %s", name)
		}
	}
	for name, want := range map[string]string{"bin": "usr/bin", "lib": "usr/lib"} {
		if e, _ := tree.Lookup(name); e.Link != want {
			t.Errorf("%s is no longer a link", name)
		}
	}
	db, err := apk.ParseInstalled(strings.NewReader(content(t, tree, "usr/lib/apk/db/installed")))
	if err != nil || len(db.Packages) != 5 {
		t.Fatalf("database %v, %v", db, err)
	}
	if got := content(t, tree, apk.TriggersFile); !strings.HasSuffix(got, " /usr/share/ca-certificates\n") {
		t.Errorf("triggers %q", got)
	}
	again, err := s.Compose(t.Context(), layers, o)
	if err != nil || again.Key != root.Key {
		t.Errorf("again: %v, %v", again.Key, err)
	}
	var sums []apk.Checksum
	for _, l := range layers {
		sums = append(sums, l.Package.Checksum)
	}
	if found, ok := s.Composed(sums, o); !ok || !reflect.DeepEqual(found, root) {
		t.Errorf("looked up: %v, %v, want %v", found, ok, root)
	}
	if _, ok := s.Composed(sums[1:], o); ok {
		t.Error("a root was found that nobody made")
	}
	moved := filepath.Join(s.Dir, "elsewhere") // as if GC had taken a package
	if err := os.Rename(filepath.Dir(layers[0].Dir), moved); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Composed(sums, o); ok {
		t.Error("a root was found of which a package is missing")
	}
	if err := os.Rename(moved, filepath.Dir(layers[0].Dir)); err != nil {
		t.Fatal(err)
	}
	other, err := s.Compose(t.Context(), layers[:3], o)
	if err != nil || other.Key == root.Key {
		t.Errorf("other layers: %v, %v", other.Key, err)
	}
	bare, err := s.Compose(t.Context(), layers, Compose{Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := overlay(t, bare.Layers).Lookup("etc/apk"); ok {
		t.Error("a bare root has an apk database")
	}
}

// fileRules is the table of who gets a file that two packages have.
var fileRules = []struct {
	name, first, second string
	want                string // content of f, or the error
}{
	{"strangers", "a 1-r0\nf 1\n", "b 1-r0\nf 2\n", "packages conflict: f belongs to a and to b, and neither replaces the other"},
	{"equal content", "a 1-r0\nf 1\n", "b 1-r0\nf 1\n", "1"},
	{"equal links", "a 1-r0\ng 1\nf -> g\n", "b 1-r0\nf -> g\n", "1"},
	{"other links", "a 1-r0\nf -> g\n", "b 1-r0\nf -> h\n", "packages conflict: f belongs to a and to b, and neither replaces the other"},
	{"same origin", "a 1-r0 origin=o\nf 1\n", "b 1-r0 origin=o\nf 2\n", "2"},
	{"second replaces", "a 1-r0\nf 1\n", "b 1-r0 replaces=a\nf 2\n", "2"},
	{"second replaces older only", "a 2-r0\nf 1\n", "b 1-r0 replaces=a<2\nf 2\n", "packages conflict: f belongs to a and to b, and neither replaces the other"},
	{"second replaces this version", "a 1-r0\nf 1\n", "b 1-r0 replaces=a<2\nf 2\n", "2"},
	{"first replaces", "a 1-r0 replaces=b\nf 1\n", "b 1-r0\nf 2\n", "1"},
	{"first has the priority", "a 1-r0 replaces=b priority=9\nf 1\n", "b 1-r0 replaces=a priority=5\nf 2\n", "1"},
	{"second has the priority", "a 1-r0 replaces=b priority=5\nf 1\n", "b 1-r0 replaces=a priority=9\nf 2\n", "2"},
	{"each replaces", "a 1-r0 replaces=b priority=1\nf 1\n", "b 1-r0 replaces=a priority=1\nf 2\n", "2"},
	{"other origins", "a 1-r0 origin=o\nf 1\n", "b 1-r0 origin=p\nf 2\n", "packages conflict: f belongs to a and to b, and neither replaces the other"},
	{"hard link kept", "a 1-r0 replaces=b\ne 1\nf == e\n", "b 1-r0\nf 2\n", "1"},
	{"its file taken over", "a 1-r0\ne 1\nf == e\n", "b 1-r0 replaces=a\ne 2\n", "1"},
	{"directory over a link", "a 1-r0\nusr/bin/\nbin -> usr/bin\nf -> bin/sub/f\n", "b 1-r0\nbin/sub/f 1\nbin/sub/g == bin/sub/f\n", "1"},
	{"directory over a link, file taken over", "a 1-r0\nusr/bin/x 1\nbin -> usr/bin\nf -> bin/x\n", "b 1-r0 replaces=a\nbin/x 2\n", "2"},
	{"directory over a link, file kept", "a 1-r0 replaces=b\nusr/bin/x 1\nbin -> usr/bin\nf -> bin/x\n", "b 1-r0\nbin/x 2\n", "1"},
	{"directory over a link, file in dispute", "a 1-r0\nusr/bin/x 1\nbin -> usr/bin\n", "b 1-r0\nbin/x 2\n", "packages conflict: bin/x belongs to a and to b, and neither replaces the other"},
	{"directory over a link to nothing", "a 1-r0\nbin -> usr/bin\n", "b 1-r0\nbin/x 2\n", "packages conflict: bin is a symbolic link and a directory (in a and b)"},
	{"link over a directory", "a 1-r0\nbin/f 1\n", "b 1-r0\nbin -> usr/bin\n", "packages conflict: bin is a directory and a symbolic link (in a and b)"},
	{"file over a directory", "a 1-r0\nd/f 1\n", "b 1-r0 replaces=a\nd 1\n", "packages conflict: d is a directory and a file (in a and b)"},
}

func TestFileRules(t *testing.T) {
	for _, c := range fileRules {
		t.Run(c.name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			layers := unpackAll(t, s, c.first, c.second)
			root, err := s.Compose(t.Context(), layers, Compose{})
			got := ""
			if err == nil {
				got = content(t, overlay(t, root.Layers), "f")
			} else if got = strings.TrimPrefix(err.Error(), "composing root: "); !errors.As(err, new(*Conflict)) {
				t.Error("the error is not a Conflict")
			}
			if got != c.want {
				t.Errorf("composed: %s, want %s", got, c.want)
			}
			var packages []Opened
			for _, l := range layers {
				o, err := l.Open()
				if err != nil {
					t.Fatal(err)
				}
				packages = append(packages, o)
			}
			a, err := Assemble(packages, AssembleOptions{})
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "assembling root: ")
			} else {
				got = content(t, a.Tree, "f")
				checkOrigins(t, a, packages)
			}
			if got != c.want {
				t.Errorf("assembled: %s, want %s", got, c.want)
			}
		})
	}
}

// checkOrigins compares the database and the origins with the tree: each file of a package has one owner,
// whose content it has.
func checkOrigins(t *testing.T, a *Assembled, packages []Opened) {
	t.Helper()
	db, err := apk.ParseInstalled(strings.NewReader(content(t, a.Tree, apk.InstalledFile)))
	if err != nil {
		t.Fatal(err)
	}
	installed := make(map[string]int)
	for _, p := range db.Packages {
		for _, f := range p.Files {
			if !f.Mode.IsDir() {
				installed[p.Name+" "+f.Path]++
			}
		}
	}
	for i, p := range packages {
		for j, f := range p.Files {
			at := a.Place(Origin{i, j})
			e, ok := a.Tree.Lookup(at)
			if !ok || e.Mode.Type() != f.Mode.Type() {
				t.Errorf("%s of %s is not at %s", f.Path, p.Package.Name, at)
			}
			o, unchanged := a.Files[at]
			switch own := o == (Origin{i, j}); {
			case f.Mode.IsDir() || !unchanged:
			case own != (installed[p.Package.Name+" "+f.Path] == 1):
				t.Errorf("%s: of %s in the tree: %v, in the database %v", at, p.Package.Name, own, !own)
			case own && (e.HardLink != f.HardLink || e.Size != f.Size || e.Mode != f.Mode):
				t.Errorf("%s is not as %s has it", at, p.Package.Name)
			}
		}
	}
	n := 0
	for e := range a.Tree.All() {
		if !e.Mode.IsDir() {
			n++
		}
	}
	if made := n - len(a.Files); made < 7 || made > 8 { // the database, and a broken link
		t.Errorf("%d files are no package's", made)
	}
}

func TestAssemble(t *testing.T) {
	packages := openAll(t, layout, "tool 2-r1 trigger=/usr/lib\nusr/bin/tool T\nusr/bin/tool2 == usr/bin/tool\n")
	o := AssembleOptions{Time: time.Unix(1.2e9, 0), Database: Database{
		Arch: "aarch64", World: []apk.Dependency{{Name: "tool"}}, Repositories: []apk.RepositoryLine{{URL: "https://example.test/os"}},
		Keys: map[string][]byte{"k.rsa.pub": []byte("KEY")},
	}}
	a, err := Assemble(packages, o)
	if err != nil {
		t.Fatal(err)
	}
	tree := a.Tree
	for name, want := range map[string]string{
		"etc/apk/arch": "aarch64\n", "etc/apk/world": "tool\n", "etc/apk/repositories": "https://example.test/os\n",
		"etc/apk/keys/k.rsa.pub": "KEY", "lib/apk/db/lock": "",
	} {
		if got := content(t, tree, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	if o, ok := a.Files["usr/bin/tool2"]; !ok || o.Package != 1 || packages[1].Files[o.File].Path != "usr/bin/tool2" {
		t.Errorf("tool2 is %v", o)
	}
	if e, _ := tree.Lookup("tmp"); e == nil || e.Mode != fs.ModeDir|fs.ModeSticky|0o777 || !e.ModTime.Equal(o.Time) {
		t.Errorf("tmp is %+v", e)
	}
	var first, second bytes.Buffer
	if err := filetree.WriteTar(&first, tree); err != nil {
		t.Fatal(err)
	}
	if a, err = Assemble(packages, o); err != nil {
		t.Fatal(err)
	}
	if err := filetree.WriteTar(&second, a.Tree); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("assembled twice, two trees (%v)", err)
	}
}

// TestUnlistedDirectories has packages as other builders write them: without their directories.
func TestUnlistedDirectories(t *testing.T) {
	pack := func(name string, files ...filetree.Entry) Opened {
		o := Opened{Package: &apk.Package{Name: name, Version: "1-r0", Checksum: apk.Checksum{1}}}
		for _, e := range files {
			o.Files = append(o.Files, File{Entry: e})
		}
		return o
	}
	link := pack("link", filetree.Entry{Path: "lib", Mode: fs.ModeSymlink | 0o777, Link: "usr/lib"})
	file := pack("file", filetree.Entry{Path: "usr/lib/a/b", Mode: 0o644}, filetree.Entry{Path: "etc/apk/world", Mode: 0o644},
		filetree.Entry{Path: "etc/w", Mode: 0o600, HardLink: true, Link: "etc/apk/world"})
	below := pack("below", filetree.Entry{Path: "lib/a/c", Mode: 0o644}, filetree.Entry{Path: "lib/a", Mode: fs.ModeDir | 0o700})
	a, err := Assemble([]Opened{file, link, below}, AssembleOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Place(Origin{2, 0}); got != "usr/lib/a/c" || a.Files[got] != (Origin{2, 0}) {
		t.Errorf("lib/a/c lies at %s", got)
	}
	if e, ok := a.Tree.Lookup("usr/lib/a"); !ok || e.Mode.Perm() != 0o700 {
		t.Errorf("usr/lib/a is %+v: below comes before file", e)
	}
	if e, _ := a.Tree.Lookup("etc/w"); e == nil || e.HardLink {
		t.Errorf("the other name of the file that was generated anew is %+v", e)
	}
	_, err = Assemble([]Opened{pack("a", filetree.Entry{Path: "x", Mode: 0o644}), pack("b", filetree.Entry{Path: "x/y/z", Mode: 0o644}, filetree.Entry{Path: "x/y/zz", Mode: 0o644})}, AssembleOptions{})
	if want := "assembling root: packages conflict: x is a file and a directory (in a and b)"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestChangedFile changes an unpacked file: an image must not get it.
func TestChangedFile(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	l := unpackAll(t, s, "p 1-r0\nf content\n")[0]
	if err := os.WriteFile(filepath.Join(l.Dir, "f"), []byte("hostile"), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := filetree.WriteTar(io.Discard, treeOf(t, o)); !errors.Is(err, ErrDamaged) {
		t.Errorf("it went through: %v", err)
	}
}

func TestGC(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	layers := unpackAll(t, s, "old 1-r0\nf 1234567890\n", "used 1-r0\ng 1\n", "fresh 1-r0\nh 2\n")
	root, err := s.Compose(t.Context(), layers, Compose{})
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Dir(root.Layers[len(root.Layers)-1])
	partial := filepath.Join(s.Dir, "tmp", "unpack-dead")
	if err := os.Mkdir(partial, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(layers[0].Dir), filepath.Dir(layers[1].Dir), top, partial} {
		then := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if !s.present(filepath.Dir(layers[1].Dir)) { // this is the use
		t.Fatal("not present")
	}
	c, err := s.GC(30*24*time.Hour, 0)
	if err != nil || c.Items != 1 {
		t.Errorf("nothing is that old, but %+v, %v", c, err)
	}
	if _, err := os.Stat(partial); err == nil {
		t.Error("what a dead process left stayed")
	}
	c, err = s.GC(0, 1)
	if err != nil || c.Items != 2 {
		t.Errorf("collected %+v, %v", c, err)
	}
	for i, want := range []bool{false, true, true} {
		if got := s.present(filepath.Dir(layers[i].Dir)); got != want {
			t.Errorf("%s present: %v", layers[i].Package.Name, got)
		}
	}
}
