package stage0

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distro.internal/melange/source"
	"distro.internal/shared/apk"
)

var built = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// A file of a package; a name that ends in / is a folder, a body that begins
// with -> a link.
type file struct{ name, body string }

func makeTar(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: "./" + f.name, Mode: 0o644, ModTime: built, Typeflag: tar.TypeReg, Uname: "root"}
		target, isLink := strings.CutPrefix(f.body, "->")
		switch {
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case isLink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, target
		case strings.Contains(f.name, "bin/"):
			h.Mode = 0o755
			fallthrough
		default:
			h.Size = int64(len(f.body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, f.body)
		}
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// makeDeb makes a Debian package.
func makeDeb(t testing.TB, control string, files ...file) []byte {
	t.Helper()
	b := bytes.NewBufferString(arMagic)
	member := func(name string, data []byte) {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, built.Unix(), 0, 0, "100644", len(data))
		b.Write(data)
		if len(data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.gz", makeTar(t, file{"md5sums", "x"}, file{"control", control}))
	member("data.tar.gz", makeTar(t, files...))
	return b.Bytes()
}

// An archive is a Debian mirror: its packages by their path.
type archive map[string][]byte

func (a archive) add(t testing.TB, name, version, fields string, files ...file) Pin {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nDescription: the %[1]s\n more of it\n%[3]s", name, version, fields)
	deb := makeDeb(t, control, files...)
	sum := sha256.Sum256(deb)
	p := Pin{
		Name: name, Version: version, Arch: "amd64", Size: int64(len(deb)), SHA256: hex.EncodeToString(sum[:]),
		Path: fmt.Sprintf("pool/main/%c/%s/%[2]s_%s_amd64.deb", name[0], name, version),
	}
	a[p.Path] = deb
	return p
}

// cached returns a cache that holds all packages.
func (a archive) cached(t testing.TB) string {
	dir := t.TempDir()
	for _, deb := range a {
		sum := sha256.Sum256(deb)
		if err := os.WriteFile(filepath.Join(dir, hex.EncodeToString(sum[:])), deb, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const specText = `suite: trixie
seeds: [sh, cc-19, emulator]
drop: [usr/share/doc, usr/share/man]
links: {usr/bin/sh: bash}
packages:
  cc-19:
    unversioned: "-19"
    links: {usr/bin/cc: clang}
  certs:
    join: {etc/ssl/all.crt: usr/share/certs/*.crt}
  emulator: {keep: [usr/bin/qemu-a]}
  sh:
    drop: [usr/share/extra]
`

// sample is a small Debian: packages, who depend on each other as Debian's do.
func sample(t testing.TB) (archive, Config) {
	t.Helper()
	a := make(archive)
	lock := &Lock{Suite: "trixie", Pins: []Pin{
		a.add(t, "cc-19", "1:19.1.7-3+b1", "Depends: libc6 (>= 2.41), certs | nothing, c-preprocessor\nSource: llvm (1:19.1.7-3)\n",
			file{"usr/bin/", ""}, file{"usr/bin/clang-19", "clang"}, file{"usr/bin/lld-19", "->../lib/lld"},
			file{"usr/lib/lld", "lld"}, file{"usr/share/doc/cc/copyright", "text"}),
		a.add(t, "certs", "20250419", "Homepage: https://example.org/certs\n",
			file{"usr/share/certs/b.crt", "B"}, file{"usr/share/certs/a.crt", "A\n"}, file{"etc/certs.conf", "x"}),
		a.add(t, "emulator", "1:10.0.13+ds-0", "",
			file{"usr/bin/", ""}, file{"usr/bin/qemu-a", "a"}, file{"usr/bin/qemu-b", "b"}, file{"usr/share/x", "x"}),
		a.add(t, "libc6", "2.41-12", "Provides: libc (= 2.41), c-preprocessor\n",
			file{"lib/", ""}, file{"lib64", "->usr/lib64"}, file{"lib/x86_64-linux-gnu/libc.so.6", strings.Repeat("libc", 1<<19)}),
		a.add(t, "sh", "5.2.37-2", "Pre-Depends: missing | libc6 (>= 2.36) [amd64]\nProvides: libc\n",
			file{"bin/bash", "bash"}, file{"usr/share/extra/x", "x"}, file{"usr/share/man/man1/bash.1", "x"}),
	}}
	spec, err := ParseSpec("stage0.yaml", []byte(specText))
	if err != nil {
		t.Fatal(err)
	}
	return a, Config{Spec: spec, Lock: lock, Dir: t.TempDir(), Cache: a.cached(t)}
}

func mustMake(t *testing.T, c Config) bool {
	t.Helper()
	made, err := Make(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// contents reads a repository as any client would: verified by its key.
func contents(t *testing.T, dir string) string {
	t.Helper()
	ring, err := apk.LoadKeyring(PublicKey(dir))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "x86_64", "APKINDEX.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	index, err := apk.ReadIndex(f, apk.Verify{Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range index.Packages {
		fmt.Fprintf(&b, "%s %s (%s) of %s depends %v provides %v\n", p.Name, p.Version, p.Description, p.Origin, p.Depends, p.Provides)
		for _, line := range files(t, filepath.Join(dir, "x86_64", p.FileName()), p, ring) {
			b.WriteString("\t" + line + "\n")
		}
	}
	return b.String()
}

func files(t *testing.T, name string, p *apk.Package, ring apk.Keyring) (lines []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Keyring: ring, Checksum: &p.Checksum})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, content, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		line := e.Path
		switch {
		case e.Mode.Type() == fs.ModeSymlink:
			line += " -> " + e.Link
		case e.Mode.IsRegular():
			body, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %q", body[:min(20, len(body))])
		default:
			continue
		}
		lines = append(lines, line)
	}
}

const wantSample = `cc-19 19.1.7_p3_p1 (the cc-19 (Debian cc-19 1:19.1.7-3+b1)) of llvm depends [stage0-base certs libc6] provides []
	usr/bin/cc -> clang
	usr/bin/clang -> clang-19
	usr/bin/clang-19 "clang"
	usr/bin/lld -> lld-19
	usr/bin/lld-19 -> ../lib/lld
	usr/lib/lld "lld"
certs 20250419 (the certs (Debian certs 20250419)) of certs depends [stage0-base] provides []
	etc/certs.conf "x"
	etc/ssl/all.crt "A\nB\n"
	usr/share/certs/a.crt "A\n"
	usr/share/certs/b.crt "B"
emulator 10.0.13_p0 (the emulator (Debian emulator 1:10.0.13+ds-0)) of emulator depends [stage0-base] provides []
	usr/bin/qemu-a "a"
libc6 2.41_p12 (the libc6 (Debian libc6 2.41-12)) of libc6 depends [stage0-base] provides [c-preprocessor libc]
	usr/lib/x86_64-linux-gnu/libc.so.6 "libclibclibclibclibc"
sh 5.2.37_p2 (the sh (Debian sh 5.2.37-2)) of sh depends [stage0-base libc6] provides []
	usr/bin/bash "bash"
`

func TestMake(t *testing.T) {
	_, c := sample(t)
	var stages []string
	c.Progress = func(stage string, done, total int64) { stages = append(stages, fmt.Sprint(stage, done, "/", total)) }
	c.Jobs = 1
	if !mustMake(t, c) {
		t.Error("nothing was made")
	}
	got := contents(t, c.Dir)
	before, base, _ := strings.Cut(got, baseName+" "+baseVersion)
	if before != wantSample {
		t.Errorf("the repository is\n%s\nwant\n%s", before, wantSample)
	}
	for _, want := range []string{"bin -> usr/bin", "lib64 -> usr/lib64", "usr/bin/sh -> bash", `etc/passwd "root:x:0:0`} {
		if !strings.Contains(base, "\t"+want) {
			t.Errorf("%s has no %s:\n%s", baseName, want, base)
		}
	}
	if len(stages) != 5 || stages[4] != "convert5/5" {
		t.Errorf("progress was %v", stages)
	}
}

func TestMakeAgain(t *testing.T) {
	a, c := sample(t)
	mustMake(t, c)
	if mustMake(t, c) {
		t.Error("made again though nothing changed")
	}
	// The same lock elsewhere makes the same bytes, by any number of jobs.
	key, err := apk.LoadSigner(filepath.Join(c.Dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	other := c
	other.Dir, other.Signer, other.Jobs = t.TempDir(), key, 3
	mustMake(t, other)
	same(t, filepath.Join(c.Dir, "x86_64"), filepath.Join(other.Dir, "x86_64"))

	// What leaves the lock leaves the repository.
	c.Lock = &Lock{Suite: "trixie", Pins: append([]Pin(nil), c.Lock.Pins...)}
	c.Lock.Pins[3] = a.add(t, "libc6", "2.41-13", "Provides: c-preprocessor\n", file{"usr/lib/x", "new"})
	c.Cache = a.cached(t)
	if !mustMake(t, c) {
		t.Error("a new lock made nothing")
	}
	got := contents(t, c.Dir)
	if !strings.Contains(got, "libc6 2.41_p13") || strings.Contains(got, "2.41_p12") {
		t.Errorf("after a change of the lock there is\n%s", got)
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	entries, err := os.ReadDir(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		one, err1 := os.ReadFile(filepath.Join(a, e.Name()))
		two, err2 := os.ReadFile(filepath.Join(b, e.Name()))
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs, %v", e.Name(), errors.Join(err1, err2))
		}
	}
}

// A cache is not believed: what is in it was once verified, but that is long ago.
func TestSpoiledCache(t *testing.T) {
	_, c := sample(t)
	pin := c.Lock.Pins[1]
	name := filepath.Join(c.Cache, pin.SHA256)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), c); err == nil || !strings.Contains(err.Error(), pin.SHA256) || !strings.Contains(err.Error(), pin.Path) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "x86_64")); err == nil {
		t.Error("a repository was made of it")
	}
}

func TestStaleLock(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"a seed is not in it":             func(c *Config) { c.Lock.Pins = c.Lock.Pins[:4] },
		"another suite":                   func(c *Config) { c.Lock.Suite = "bookworm" },
		"a dependency is not in it":       func(c *Config) { c.Lock.Pins = append(c.Lock.Pins[:3:3], c.Lock.Pins[4]) },
		"a changed package is not in it ": func(c *Config) { c.Lock.Pins = append(c.Lock.Pins[:1:1], c.Lock.Pins[2:]...) },
	} {
		_, c := sample(t)
		change(&c)
		if _, err := Make(t.Context(), c); !errors.Is(err, errStale) || !strings.Contains(err.Error(), "world stage0 refresh") {
			t.Errorf("%s: error %v does not say what to do", name, err)
		}
	}
}

// serveArchive is a mirror over HTTP.
func serveArchive(t *testing.T, a archive) (Apt, *[]string) {
	t.Helper()
	asked := new([]string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/debian/")
		*asked = append(*asked, name)
		data, ok := a[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", built, bytes.NewReader(data))
	}))
	t.Cleanup(srv.Close)
	return Apt{Mirror: srv.URL + "/debian/"}, asked
}

func TestDownload(t *testing.T) {
	a, c := sample(t)
	var asked *[]string
	c.Apt, asked = serveArchive(t, a)
	c.Cache = t.TempDir()
	c.Progress = func(stage string, done, total int64) {
		if stage == StageDownload && (done > total || total != c.Lock.Size()) {
			t.Errorf("progress %d of %d", done, total)
		}
	}
	mustMake(t, c)
	if len(*asked) != 5 {
		t.Errorf("asked for %v", *asked)
	}
	c.Dir = t.TempDir()
	mustMake(t, c)
	if len(*asked) != 5 {
		t.Errorf("asked again: %v", *asked)
	}

	gone := c.Lock.Pins[1]
	delete(a, gone.Path)
	c.Cache = t.TempDir()
	c.Dir = t.TempDir()
	_, err := Make(t.Context(), c)
	var vanished *VanishedError
	if !errors.As(err, &vanished) || len(vanished.Paths) != 1 || vanished.Paths[0] != gone.Path {
		t.Errorf("a package that is gone: error %v", err)
	}
	// The rest was kept.
	if _, err := os.Stat(filepath.Join(c.Cache, c.Lock.Pins[0].SHA256)); err != nil {
		t.Error(err)
	}

	a[gone.Path] = []byte("something else")
	_, err = Make(t.Context(), c)
	if err == nil || errors.As(err, &vanished) || !strings.Contains(err.Error(), gone.Path) {
		t.Errorf("a package that is another: error %v", err)
	}
}

func TestDebianMirror(t *testing.T) {
	body := []byte("upstream")
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	a := archive{"pool/main/z/zlib/zlib_1.3+really1.orig.tar.gz": body}
	list, err := ParseMirrors("mirrors.yaml", fmt.Appendf(nil, `suites: [trixie]
sources:
  - uri: https://example.org/zlib.tar.gz
    sha256: %s
    debian: pool/main/z/zlib/zlib_1.3+really1.orig.tar.gz
  - uri: https://example.org/gone.tar.gz
    sha256: %064x
    debian: pool/main/g/gone/gone_1.orig.tar.gz
`, digest, 7))
	if err != nil {
		t.Fatal(err)
	}
	m := DebianMirror{Mirrors: list}
	m.Apt, _ = serveArchive(t, a)
	for _, test := range []struct {
		want source.Want
		body string
		err  error
		says string
	}{
		{source.Want{SHA256: digest}, "upstream", nil, ""},
		{source.Want{SHA256: strings.ToUpper(digest)}, "upstream", nil, ""},
		{source.Want{SHA512: "00", URI: "https://example.org/zlib.tar.gz"}, "upstream", nil, ""},
		{source.Want{SHA256: strings.Repeat("1", 64), URI: "https://example.org/zlib.tar.gz"}, "", fs.ErrNotExist, "another SHA-256: " + digest},
		{source.Want{SHA256: strings.Repeat("1", 64), URI: "https://example.org/unheard.tar.gz"}, "", fs.ErrNotExist, ""},
		{source.Want{SHA256: fmt.Sprintf("%064x", 7)}, "", fs.ErrNotExist, "has no pool/main/g/gone/gone_1.orig.tar.gz any more"},
	} {
		var b strings.Builder
		err := m.Fetch(context.Background(), test.want, &b)
		if !errors.Is(err, test.err) || b.String() != test.body || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%+v: %q, %v; want %q, %v", test.want, b.String(), err, test.body, test.err)
		}
	}
	if got := strings.Join(list.Packages(), " "); got != "gone zlib" {
		t.Errorf("packages %q", got)
	}
	gone, added := list.Outdated([]SourceFile{
		{Path: "pool/main/z/zlib/zlib_1.3+really1.orig.tar.gz", SHA256: digest}, {Path: "pool/main/z/zlib/zlib_2.orig.tar.gz", SHA256: "2"},
	})
	if len(gone) != 1 || len(added) != 1 || added[0].SHA256 != "2" {
		t.Errorf("outdated: gone %v, added %v", gone, added)
	}
}
