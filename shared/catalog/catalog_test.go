package catalog

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// A stall is a repository in a folder, signed by a key.
type stall struct {
	t      *testing.T
	dir    string
	signer apk.Signer
	ring   apk.Keyring
}

var keys = sync.OnceValues(func() (*rsa.PrivateKey, error) { return apk.GenerateKey(2048) })

func newStall(t *testing.T) *stall {
	key, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	m := &stall{t: t, dir: t.TempDir(), ring: apk.Keyring{"test.rsa.pub": &key.PublicKey}}
	if m.signer, err = apk.NewSigner("test.rsa.pub", key); err != nil {
		t.Fatal(err)
	}
	return m
}

// publish writes an index that is worth keeping, with a package called new
// in the given version. The file looks as if it had lain there for a while.
func (m *stall) publish(version string) { m.publishAs(0, version) }

func (m *stall) publishAs(generation int, version string) {
	x := &apk.Index{Generation: generation}
	for i := range 6000 {
		p := &apk.Package{
			Name: fmt.Sprint("package", i), Version: "1-r0", Arch: "x86_64", InstalledSize: 1,
			Depends: []apk.Dependency{{Name: "new"}}, Commit: cas.DigestOf(fmt.Append(nil, version, i)).Hash,
		}
		copy(p.Checksum[:], p.Commit)
		x.Packages = append(x.Packages, p)
	}
	x.Packages = append(x.Packages, &apk.Package{Name: "new", Version: apk.Version(version), Arch: "x86_64", InstalledSize: 1, Checksum: apk.Checksum{1, version[0]}})
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, x, m.signer); err != nil {
		m.t.Fatal(err)
	}
	if b.Len() < worthKeeping {
		m.t.Fatalf("an index of %d bytes is not worth keeping", b.Len())
	}
	m.write(b.Bytes())
}

func (m *stall) write(index []byte) {
	name := filepath.Join(m.dir, "x86_64", "APKINDEX.tar.gz")
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name+"~", index, 0o644), os.Rename(name+"~", name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *stall) source() Source {
	return Source{Source: repository.Source{URL: m.dir, Keyring: m.ring}}
}

// newest opens the sources and returns the version of new that is chosen.
func newest(t *testing.T, c *repository.Client, sources ...Source) string {
	t.Helper()
	u, err := Open(t.Context(), c, "x86_64", sources...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := u.Solve([]apk.Dependency{{Name: "package7"}}, solve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.Package("new")
	if got, _ := s.Package("package7"); len(got.Commit) != 64 || got.Depends[0].Name != "new" {
		t.Errorf("not the whole package: %+v", got.Package)
	}
	return string(p.Version)
}

func client(t *testing.T) *repository.Client {
	return &repository.Client{Cache: t.TempDir(), Backoff: time.Millisecond, Log: func(s string) { t.Error(s) }}
}

// kept lists the files that are kept.
func kept(t *testing.T, c *repository.Client) []string {
	files, err := filepath.Glob(filepath.Join(c.Cache, "universes", "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestOpen(t *testing.T) {
	m, c := newStall(t), client(t)
	for _, version := range []string{"1", "2", "1", "3"} {
		m.publish(version)
		for range 3 {
			if got := newest(t, c, m.source()); got != version {
				t.Fatalf("got %s, published %s", got, version)
			}
		}
	}
	if n := len(kept(t, c)); n != 3 {
		t.Errorf("%d files kept of 3 states", n)
	}
}

// TestOpenReadsNothing takes the index's text away from a client: a warm one
// does not miss it.
func TestOpenReadsNothing(t *testing.T) {
	m := newStall(t)
	m.publish("1")
	files := http.FileServer(http.Dir(m.dir))
	bodies := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Modified-Since") == "" {
			bodies++
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	c, s := client(t), m.source()
	s.URL = server.URL
	for range 3 {
		if got := newest(t, c, s); got != "1" {
			t.Fatalf("got %s", got)
		}
	}
	if bodies != 1 {
		t.Errorf("the index was fetched %d times", bodies)
	}
	server.Close()
	c.Offline = true
	if got := newest(t, c, s); got != "1" {
		t.Errorf("offline: %s", got)
	}
}

// TestDamage damages a kept universe in every part; it is made anew.
func TestDamage(t *testing.T) {
	m, c := newStall(t), client(t)
	m.publish("1")
	newest(t, c, m.source())
	file := kept(t, c)[0]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	bad := map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "cut in the seal": good[:sealSize-1], "longer": append(bytes.Clone(good), 0)}
	for _, i := range []int{0, 16, 24, 28, sealSize, len(good) / 3, len(good) / 2, len(good) - 1} {
		bad[fmt.Sprint("byte ", i)] = flip(i)
	}
	for name, b := range bad {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := newest(t, c, m.source()); got != "1" {
			t.Errorf("%s: got %s", name, got)
		}
		if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
			t.Errorf("%s: not made anew as it was (%v)", name, err)
		}
	}
}

// TestWitness writes into a kept universe that was checked and found good, and
// makes it look as if nobody had.
func TestWitness(t *testing.T) {
	m, c := newStall(t), client(t)
	m.publish("1")
	newest(t, c, m.source())
	file := kept(t, c)[0]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2100 * time.Millisecond) // a file that has just changed has no witness
	newest(t, c, m.source())
	witness := filepath.Join(c.Cache, "universes", witnesses, filepath.Base(file))
	if _, err := os.Stat(witness); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{good[len(good)/3] ^ 1}, int64(len(good)/3))
	if err := errors.Join(err, f.Close(), os.Chtimes(file, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if got := newest(t, c, m.source()); got != "1" {
		t.Errorf("got %s", got)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, good) {
		t.Errorf("not made anew as it was (%v)", err)
	}
}

// TestTrust checks that what one set of keys vouched for is of no use to who
// trusts another.
func TestTrust(t *testing.T) {
	m, c := newStall(t), client(t)
	m.publish("1")
	newest(t, c, m.source())
	stranger, err := apk.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]apk.Keyring{
		"no key": {}, "another key of the same name": {"test.rsa.pub": &stranger.PublicKey}, "the key under another name": {"x.rsa.pub": m.ring["test.rsa.pub"]},
	} {
		s := m.source()
		s.Keyring = ring
		if _, err := Open(t.Context(), c, "x86_64", s); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	file := filepath.Join(m.dir, "x86_64", "APKINDEX.tar.gz")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	m.write(b)
	if _, err := Open(t.Context(), c, "x86_64", m.source()); err == nil {
		t.Error("a changed index is opened")
	}
}

// TestOlder goes back to a state that lies compiled on the shelf.
func TestOlder(t *testing.T) {
	m, c := newStall(t), client(t)
	m.publishAs(1, "1")
	newest(t, c, m.source())
	m.publishAs(2, "2")
	newest(t, c, m.source())
	m.publishAs(1, "1")
	if _, err := Open(t.Context(), c, "x86_64", m.source()); !errors.Is(err, repository.ErrOlder) {
		t.Errorf("error %v", err)
	}
	c.AllowOlder = true
	if got := newest(t, c, m.source()); got != "1" {
		t.Errorf("allowed: %s", got)
	}
}

func TestSeveral(t *testing.T) {
	big, small, c := newStall(t), newStall(t), client(t)
	big.publish("1")
	small.publish("2")
	if got := newest(t, c, big.source(), small.source()); got != "2" {
		t.Errorf("of both: %s", got)
	}
	tagged := small.source()
	tagged.Tag = "edge"
	for range 2 {
		if got := newest(t, c, big.source(), tagged); got != "1" {
			t.Errorf("without asking for the tag: %s", got)
		}
	}
	absent := Source{Source: repository.Source{URL: t.TempDir(), Insecure: true}}
	if _, err := Open(t.Context(), c, "x86_64", big.source(), absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a repository without an index: %v", err)
	}
	absent.Optional = true
	for range 2 {
		if got := newest(t, c, absent, big.source()); got != "1" {
			t.Errorf("beside an absent one: %s", got)
		}
	}
}

// TestOneOfSeveral changes one of several repositories: what was made of the
// other alone is not made again.
func TestOneOfSeveral(t *testing.T) {
	big, small, c := newStall(t), newStall(t), client(t)
	big.publish("1")
	small.publish("2")
	if got := newest(t, c, big.source(), small.source()); got != "2" {
		t.Errorf("got %s", got)
	}
	before := map[string]fs.FileInfo{}
	for _, file := range kept(t, c) {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		before[file] = info
	}
	small.publish("3")
	if got := newest(t, c, big.source(), small.source()); got != "3" {
		t.Errorf("got %s", got)
	}
	after := kept(t, c)
	if len(before) != 3 || len(after) != 5 { // each state alone, and the pairs
		t.Errorf("%d files are kept, then %d", len(before), len(after))
	}
	for file, was := range before {
		if info, err := os.Stat(file); err != nil || !os.SameFile(was, info) {
			t.Errorf("%s was made again: %v", file, err)
		}
	}
}

// TestManyAtOnce opens changing states from many goroutines, each with the
// means of a process of its own.
func TestManyAtOnce(t *testing.T) {
	m, c := newStall(t), client(t)
	m.publish("1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			own := *c
			for range 4 {
				if got := newest(t, &own, m.source()); !strings.Contains("1 2 3", got) {
					t.Errorf("got %s", got)
				}
			}
		})
	}
	m.publish("2")
	m.publish("3")
	wg.Wait()
	if got := newest(t, c, m.source()); got != "3" {
		t.Errorf("in the end: %s", got)
	}
}

func TestCollect(t *testing.T) {
	s := shelf{t.TempDir()}
	for i := range keep + 3 {
		key := cas.DigestOf([]byte{byte(i)})
		if err := s.put(key, func(w io.Writer) error { _, err := w.Write([]byte{byte(i)}); return err }); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(s.name(key), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keep + 3 {
		b, _, err := s.take(cas.DigestOf([]byte{byte(i)}))
		if i < 3 != errors.Is(err, fs.ErrNotExist) || err == nil && b[0] != byte(i) {
			t.Errorf("file %d: %q, %v", i, b, err)
		}
	}
	if err := s.put(cas.DigestOf(nil), func(io.Writer) error { return errors.New("no") }); err == nil {
		t.Error("what could not be written is there")
	}
	if files, _ := os.ReadDir(s.dir); len(files) != keep {
		t.Errorf("%d files are left", len(files))
	}
}

// TestTextThatIsNone opens an index that its publisher signed, in the middle of
// which something is no entry: nothing is kept, and the repository is named.
func TestTextThatIsNone(t *testing.T) {
	for _, broken := range []string{"no index", "P:a", "C:x\nP:a\nV:1", "P:a\nV:1\nD:b="} {
		m, c := newStall(t), client(t)
		var text strings.Builder
		for i := range 20000 {
			if fmt.Fprintf(&text, "P:a%d\nV:%d\nc:%x\n\n", i, i, cas.DigestOf(fmt.Append(nil, i)).Hash); i == 15000 {
				fmt.Fprintf(&text, "%s\n\n", broken)
			}
		}
		m.write(signedText(t, text.String(), m.signer))
		_, err := Open(t.Context(), c, "x86_64", Source{Source: m.source().Source, Name: "broken"})
		if !errors.Is(err, apk.ErrFormat) && (err == nil || !strings.Contains(err.Error(), "no version")) || !strings.Contains(err.Error(), "repository broken") {
			t.Errorf("%q: %v", broken, err)
		}
		if files := kept(t, c); len(files) > 0 {
			t.Errorf("%q is kept: %v", broken, files)
		}
	}
}

// signedText is an index of any text.
func signedText(t *testing.T, text string, s apk.Signer) []byte {
	var member, b bytes.Buffer
	z := gzip.NewWriter(&member)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "APKINDEX", Size: int64(len(text)), Mode: 0o644})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	sum := func() []byte { s := sha256.Sum256(member.Bytes()); return s[:] }
	if err = errors.Join(err, w.Close(), z.Close()); err == nil {
		err = apk.SignControl(&b, s, sum(), time.Unix(0, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), member.Bytes()...)
}
