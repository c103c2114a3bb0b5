package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"distro.internal/apko/image"
	"distro.internal/apko/testrepo"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/filetree"
	"distro.internal/shared/ldcache"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
	"github.com/google/go-cmp/cmp"
)

// kit is a builder with a repository of the packages in the text.
type kit struct {
	Builder
	sources []repository.Source
}

func newKit(t *testing.T, packages string) *kit {
	t.Helper()
	dir := t.TempDir()
	if err := testrepo.Write(dir, packages, "x86_64", "aarch64"); err != nil {
		t.Fatal(err)
	}
	keyring, err := apk.LoadKeyring(filepath.Join(dir, "keys", testrepo.KeyName))
	if err != nil {
		t.Fatal(err)
	}
	return &kit{
		Builder: Builder{Client: &repository.Client{}, CAS: cas.Layered{Store: cas.Store{Dir: t.TempDir()}}, Tool: "test"},
		sources: []repository.Source{{URL: dir, Keyring: keyring}},
	}
}

func (k *kit) lock(t *testing.T, c *image.Config, archs ...apk.Arch) *image.Lock {
	t.Helper()
	lock, err := k.Lock(t.Context(), c, archs, k.sources)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func wanting(packages ...string) *image.Config {
	return &image.Config{Contents: image.Contents{Packages: packages}}
}

// root returns the tree of the packages, without what the configuration makes of it.
func (k *kit) root(t *testing.T, packages ...string) (*root, error) {
	t.Helper()
	parts, err := k.parts(t.Context(), k.lock(t, wanting(packages...), "x86_64"), "x86_64", k.sources)
	if err != nil {
		t.Fatal(err)
	}
	return newRoot(parts, rootfs.Database{Arch: "x86_64"}, nil)
}

const twoPackages = `
P:a
V:1-r0
t:1700000000
file bin/a 755 a
D:b

P:b
V:2-r0
file etc/b 644 b`

// The same lock makes the same image whatever is in the store, for whom and how often; other locks have other keys.
func TestReproducible(t *testing.T) {
	k := newKit(t, twoPackages)
	c := wanting("a")
	lock := k.lock(t, c, "x86_64", "aarch64")
	digests := make(map[string]bool)
	build := func(b Builder) {
		t.Helper()
		r, err := b.Build(t.Context(), c, lock, k.sources...)
		if err != nil {
			t.Fatal(err)
		}
		digests[r.Index.Descriptor.Digest+string(r.SBOM)+string(r.Archs[0].SBOM)] = true
		if want := []string{"b-2-r0", "a-1-r0"}; !cmp.Equal(want, r.Archs[1].Packages) {
			t.Errorf("packages %v, want %v", r.Archs[1].Packages, want)
		}
	}
	build(k.Builder)
	build(k.Builder)
	cold := k.Builder
	cold.CAS.Dir = t.TempDir()
	cold.Jobs = 1
	build(cold)
	if len(digests) != 1 {
		t.Errorf("%d different images", len(digests))
	}
	whole, err := k.Complete(t.Context(), lock, k.sources...)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Digest() != lock.Digest() {
		t.Error("what Complete adds changes the key")
	}
	if other := k.lock(t, wanting("b"), "x86_64", "aarch64"); other.Digest() == lock.Digest() {
		t.Error("two images share a key")
	}
	dated := k.Builder
	dated.Created = time.Unix(1, 0)
	r, err := dated.Build(t.Context(), c, lock)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := k.Build(t.Context(), c, lock)
	if err != nil {
		t.Fatal(err)
	}
	if r.Archs[0].Image.Layers[0].Digest != plain.Archs[0].Image.Layers[0].Digest {
		t.Error("the date of the image is in its layer")
	}
}

// A hard link stays a whole file when the file it names belongs to another package.
func TestHardLinkOfLostFile(t *testing.T) {
	k := newKit(t, `
P:old
V:1-r0
file bin/first 755 old
hard bin/second bin/first
hard bin/third bin/first

P:new
V:1-r0
r:old
D:old
file bin/first 755 new`)
	r, err := k.root(t, "new")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"bin/first": "new", "bin/second": "old", "bin/third": "old"} {
		if got, err := r.Tree.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, want %q (%v)", name, got, want, err)
		}
	}
	if _, _, err := k.layers(t.Context(), r, image.Layering{}); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ packages, want string }{
		"whiteout":            {"P:a\nV:1-r0\nfile etc/.wh.passwd 644 x", "would remove another file"},
		"file over directory": {"P:a\nV:1-r0\nD:b\nfile usr/x 644 x\n\nP:b\nV:1-r0\nfile usr/x/y 644 y", "usr/x"},
		"directory over file": {"P:a\nV:1-r0\nD:b\nfile usr/x/y 644 x\n\nP:b\nV:1-r0\nfile usr/x 644 y", "usr/x"},
		"two owners":          {"P:a\nV:1-r0\nD:b\nfile x 644 x\n\nP:b\nV:1-r0\nfile x 644 y", "x belongs to b"},
		"link in a circle":    {"P:a\nV:1-r0\nD:b\nfile lib/x 644 x\n\nP:b\nV:1-r0\nlink lib lib", "lib is a symbolic link and a directory (in b and a)"},
	} {
		k := newKit(t, test.packages)
		_, err := k.Build(t.Context(), wanting("a"), k.lock(t, wanting("a"), "x86_64"))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// sized are parts without anything but names and sizes.
func sized(sizes map[string]int64) []*part {
	var parts []*part
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		parts = append(parts, &part{table: table{Package: &apk.Package{Name: name, InstalledSize: sizes[name]}}})
	}
	return parts
}

func TestPartition(t *testing.T) {
	var parts []*part
	for _, p := range []apk.Package{
		{Name: "a", InstalledSize: 1000}, {Name: "b", InstalledSize: 9000}, {Name: "a-dev", Origin: "a", InstalledSize: 7900},
		{Name: "c", InstalledSize: 10}, {Name: "d", InstalledSize: 20},
	} {
		parts = append(parts, &part{table: table{Package: &p}})
	}
	for budget, want := range map[int][][]int{
		1: {{0, 1, 2, 3, 4}, nil},
		2: {{0, 2}, {1, 3, 4}, nil},
		3: {{0, 2}, {1}, {3, 4}, nil},
		4: {{0, 2}, {1}, {4}, {3}, nil},
		9: {{0, 2}, {1}, {4}, {3}, nil},
	} {
		got := partition(parts, image.Layering{Strategy: "origin", Budget: budget})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("budget %d (-want +got):\n%s", budget, diff)
		}
	}
}

// membersOf are the names in each group, as one text.
func membersOf(parts []*part, budget int) map[string]bool {
	groups := make(map[string]bool)
	for _, group := range partition(parts, image.Layering{Strategy: "origin", Budget: budget}) {
		var names []string
		for _, i := range group {
			names = append(names, parts[i].Package.Name)
		}
		groups[strings.Join(names, " ")] = true
	}
	return groups
}

// Many equal packages make layers of about one size, not one that holds nearly all.
func TestPartitionBalance(t *testing.T) {
	sizes := make(map[string]int64)
	for i := range 151 {
		sizes[fmt.Sprint("package-", i)] = 600_000
	}
	groups := partition(sized(sizes), image.Layering{Strategy: "origin", Budget: 10})
	if len(groups) != 11 {
		t.Errorf("%d layers, want 10 and the top one", len(groups))
	}
	for _, group := range groups[:len(groups)-1] {
		if n := len(group); n < 5 || n > 30 {
			t.Errorf("a layer has %d of 151 packages", n)
		}
	}
}

// An update that makes a package larger or smaller leaves everybody where they are, and a package that is new or gone
// changes the layer that it goes to or comes from.
func TestPartitionStable(t *testing.T) {
	sizes := map[string]int64{"gcc": 150 << 20, "python": 40 << 20, "perl": 45 << 20, "llvm": 118 << 20}
	for i := range 120 {
		sizes[fmt.Sprint("lib", i)] = int64(i*i) << 7
	}
	before := membersOf(sized(sizes), 12)
	if len(before) != 13 {
		t.Errorf("%d layers", len(before))
	}
	for name, size := range map[string]int64{"gcc": 139 << 20, "lib3": 1, "lib119": 2 << 20, "python": 44 << 20} {
		changed := maps.Clone(sizes)
		changed[name] = size
		if diff := cmp.Diff(before, membersOf(sized(changed), 12)); diff != "" {
			t.Errorf("%s of %d bytes (-before +after):\n%s", name, size, diff)
		}
	}
	for _, change := range []func(map[string]int64){
		func(m map[string]int64) { m["new"] = 1 << 20 },
		func(m map[string]int64) { delete(m, "lib100") },
	} {
		changed := maps.Clone(sizes)
		change(changed)
		same := 0
		for group := range membersOf(sized(changed), 12) {
			if before[group] {
				same++
			}
		}
		if same != len(before)-1 {
			t.Errorf("%d of %d layers are as they were", same, len(before))
		}
	}
}

func TestTable(t *testing.T) {
	want := sample()
	encoded, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	var got table
	if err := got.decode(encoded); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	for n := range encoded {
		if err := new(table).decode(encoded[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a table", n, len(encoded))
		}
	}
}

func sample() table {
	return table{
		Package: &apk.Package{
			Name: "a", Version: "1-r0", Arch: "x86_64", Description: "d # d", URL: "u", License: "MIT", Size: 12, BuildDate: 5,
			DataHash: strings.Repeat("0a", 32), Checksum: apk.Checksum{1, 2, 3},
		},
		Scripts: apk.Scripts{".post-install": []byte("x")},
		Data:    image.LockSection{Range: "bytes=1-2", Checksum: "sha256-x"},
		Files: []rootfs.File{
			{Entry: filetree.Entry{Path: "dev/x", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600, DevMajor: 1, DevMinor: 300, ModTime: time.Unix(-5, 0).UTC()}},
			{Entry: filetree.Entry{Path: "b", Mode: fs.ModeSetuid | 0o755, UID: 1 << 31, Size: 1 << 40, ModTime: time.Unix(9, 0).UTC(),
				Xattrs: map[string]string{"security.capability": "\x01\x00", "user.x": ""}}, Sum: apk.Checksum{9}},
			{Entry: filetree.Entry{Path: "c", HardLink: true, Link: "b", ModTime: time.Unix(0, 0).UTC()}},
		},
		Offsets:   []int64{0, 1 << 41, 0},
		Libraries: map[int]ldcache.Library{1: {Soname: "libb.so.1", Flags: 1 << 31, Big: true}, 2: {}},
	}
}

func FuzzTable(f *testing.F) {
	s := sample()
	encoded, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second table
		if first.decode(text) != nil {
			return
		}
		encoded, err := first.encode()
		if err != nil {
			return // a description that apk would not write
		}
		if err := second.decode(encoded); err != nil {
			t.Fatal(err)
		}
		if again, err := second.encode(); err != nil || !bytes.Equal(encoded, again) {
			t.Errorf("the table changes when it is written and read (%v)", err)
		}
	})
}

func TestCanceled(t *testing.T) {
	k := newKit(t, twoPackages)
	lock := k.lock(t, wanting("a"), "x86_64")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Build(ctx, wanting("a"), lock); !errors.Is(err, ctx.Err()) {
		t.Errorf("got %v", err)
	}
}
