package apk

import (
	"archive/tar"
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/gzip"

	"distro.internal/shared/filetree"
)

func TestPackageThereAndBack(t *testing.T) {
	s := oddSample()
	data, p := s.build(t, testSigner(t, "test.rsa.pub"))
	for name, v := range map[string]Verify{
		"by key":      {Keyring: testRing()},
		"by checksum": {Checksum: &p.Checksum},
		"by both":     {Keyring: testRing(), Checksum: &p.Checksum},
		"by nothing":  {Insecure: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(iotest.HalfReader(bytes.NewReader(data)), v)
			if err != nil {
				t.Fatal(err)
			}
			want := *p
			want.Size = 0
			if diff := cmp.Diff(&want, r.Package); diff != "" {
				t.Errorf("package (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(s.scripts, r.Scripts); diff != "" {
				t.Errorf("scripts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(s.extra, r.Control); diff != "" {
				t.Errorf("control (-want +got):\n%s", diff)
			}
			compareTrees(t, s.tree(t), r)
		})
	}
}

// compareTrees reads a package and compares what is in it with a tree.
func compareTrees(t *testing.T, tree *filetree.Tree, r *Reader) {
	t.Helper()
	got := filetree.New()
	for e, content := range entries(t, r) {
		if e.IsRegular() && e.Size > 0 {
			body, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(body)) != e.Size || r.Sum() != sha1.Sum(body) {
				t.Errorf("%s: %d bytes with checksum %v", e.Path, len(body), r.Sum())
			}
			e.Open = filetree.Bytes(body)
		}
		if err := got.Put(*e); err != nil {
			t.Fatal(err)
		}
	}
	list := func(tree *filetree.Tree) (l []filetree.Entry) {
		for e := range tree.All() {
			e := *e
			if e.ModTime.IsZero() {
				e.ModTime = epoch
			}
			e.ModTime = e.ModTime.UTC()
			l = append(l, e)
		}
		return l
	}
	opts := cmp.Options{cmpopts.IgnoreFields(filetree.Entry{}, "Open", "User", "Group"), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(list(tree), list(got), opts); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// These bytes and digests are what keys of builds are made of. When they
// change every package is built again, which must not happen by accident.
func TestGolden(t *testing.T) {
	s := oddSample()
	var data, control bytes.Buffer
	info, err := WriteData(&data, s.tree(t))
	if err != nil {
		t.Fatal(err)
	}
	p := s.p
	p.Arch, p.DataHash, p.InstalledSize = "x86_64", info.Hash, info.InstalledSize
	_, sum, err := WriteControl(&control, &p, s.scripts, s.extra, time.Unix(p.BuildDate, 0))
	if err != nil {
		t.Fatal(err)
	}
	if got := sha256.Sum256(data.Bytes()); hex.EncodeToString(got[:]) != info.Hash || info.Size != int64(data.Len()) {
		t.Errorf("the data section is %x in %d bytes, the info says %s and %d", got, data.Len(), info.Hash, info.Size)
	}
	if got := sha256.Sum256(control.Bytes()); got != sum {
		t.Errorf("the control section is %x, WriteControl says %x", got, sum)
	}
	golden := map[string]string{
		"data":    "ec82bf5dc3985ef5372f70db40a46f48d37ad9ca0e2cc7055d2ee39608dbce72",
		"control": "bc076d17aa9a7b411484fbb2757300622091b6c6b5cca82e0ca0b7d9217a44a6",
		"tree":    "f6e5aa3ed812a039f8677a3ebc883de2fb91b22732d472baab0bf07ea4ecb901",
		"content": "7c49d1f3460b4393ce25154c060671057c33069721aa83b4c5c53add0bcac35c",
		"payload": "ef98b21af4eaff782896ce5eaab798d137c5b7b922415db932a68fc86600f5b8",
	}
	got := map[string]string{
		"data":    info.Hash,
		"control": hex.EncodeToString(sum[:]),
		"tree":    info.Tree,
		"content": ContentDigest(info.Tree, s.scripts, p.Triggers),
		"payload": PayloadDigest(&p, info.Hash, s.scripts),
	}
	if diff := cmp.Diff(golden, got); diff != "" {
		t.Errorf("(-golden +got)\n%s", diff)
	}
}

func TestDigestsSeeWhatMatters(t *testing.T) {
	digests := func(change func(*sample)) (content, payload string) {
		s := oddSample()
		if change != nil {
			change(&s)
		}
		info, err := WriteData(io.Discard, s.tree(t))
		if err != nil {
			t.Fatal(err)
		}
		return ContentDigest(info.Tree, s.scripts, s.p.Triggers), PayloadDigest(&s.p, info.Hash, s.scripts)
	}
	content, payload := digests(nil)
	for _, c := range []struct {
		name             string
		content, payload bool // whether the change is to be seen
		change           func(*sample)
	}{
		{"commit", false, false, func(s *sample) { s.p.Commit = "c" }},
		{"maintainer", false, false, func(s *sample) { s.p.Maintainer = "m" }},
		{"description", false, true, func(s *sample) { s.p.Description = "d" }},
		{"release", false, true, func(s *sample) { s.p.Version = "0.1_rc1-r1" }},
		{"dependency", false, true, func(s *sample) { s.p.Depends = deps("a") }},
		{"provides", false, true, func(s *sample) { s.p.Provides = deps("a") }},
		{"time of files", false, true, func(s *sample) { s.p.BuildDate++ }},
		{"script", true, true, func(s *sample) { s.scripts[".trigger"] = []byte("#!/bin/ash\n") }},
		{"triggers", true, true, func(s *sample) { s.p.Triggers = []string{"/x"} }},
		{"content", true, true, func(s *sample) { s.entries[0] = file("usr/bin/odd", fs.ModeSetuid|0o755, "new") }},
		{"mode", true, true, func(s *sample) { s.entries[0].Mode = 0o755 }},
		{"owner", true, true, func(s *sample) { s.entries[0].UID = 1 }},
		{"link", true, true, func(s *sample) { s.entries[3].Link = "odd2" }},
		{"attribute", true, true, func(s *sample) { s.entries[5].Xattrs = nil }},
		{"name", true, true, func(s *sample) { s.entries[4].Path = "usr/lib/libodd.so.2" }},
		{"bill of materials", false, true, func(s *sample) {
			s.entries = append(s.entries, file("var/lib/db/sbom/odd.spdx.json", 0o644, "{}"))
			s.entries = append(s.entries, file("var/lib/db/x", 0o644, ""))
		}},
	} {
		with, without := c.change, func(*sample) {}
		if c.name == "bill of materials" {
			without = func(s *sample) { s.entries = append(s.entries, file("var/lib/db/x", 0o644, "")) }
			content, payload = digests(without)
		}
		newContent, newPayload := digests(with)
		if (newContent != content) != c.content {
			t.Errorf("%s: content digest changed: %v, want %v", c.name, newContent != content, c.content)
		}
		if (newPayload != payload) != c.payload {
			t.Errorf("%s: payload digest changed: %v, want %v", c.name, newPayload != payload, c.payload)
		}
	}
}

// How the bytes arrive must not be seen in what is written.
func TestDataDoesNotDependOnReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	body := make([]byte, 3<<20)
	for i := range body {
		body[i] = byte(random.IntN(7)) << (i >> 18)
	}
	write := func(open func() io.Reader) string {
		tree := filetree.New()
		for i, size := range []int{10, 70000, maxBuffered, maxBuffered + 1, len(body)} {
			err := tree.Put(filetree.Entry{Path: fmt.Sprint("f", i), Mode: 0o644, Size: int64(size), Open: func() (io.ReadCloser, error) {
				return io.NopCloser(io.LimitReader(open(), int64(size))), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
		info, err := WriteData(io.Discard, tree)
		if err != nil {
			t.Fatal(err)
		}
		return info.Hash
	}
	want := write(func() io.Reader { return bytes.NewReader(body) })
	procs := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(procs)
	for name, open := range map[string]func() io.Reader{
		"in halves": func() io.Reader { return iotest.HalfReader(bytes.NewReader(body)) },
		"by chance": func() io.Reader { return &erratic{bytes.NewReader(body), rand.New(rand.NewPCG(2, 2))} },
		"with end":  func() io.Reader { return iotest.DataErrReader(bytes.NewReader(body)) },
	} {
		if got := write(open); got != want {
			t.Errorf("%s: %s, at once: %s", name, got, want)
		}
	}
}

// erratic reads as many bytes at a time as it likes.
type erratic struct {
	r      io.Reader
	random *rand.Rand
}

func (e *erratic) Read(p []byte) (int, error) {
	return e.r.Read(p[:min(len(p), 1+e.random.IntN(3000))])
}

func TestWriteRefuses(t *testing.T) {
	body := func(size int64, content string) filetree.Entry {
		return filetree.Entry{Path: "a", Mode: 0o644, Size: size, Open: filetree.Bytes([]byte(content))}
	}
	reads := 0
	for _, c := range []struct {
		want  string
		entry filetree.Entry
	}{
		{"begin with a dot", file(".hidden", 0o644, "")},
		{"control characters", file("a\nb", 0o644, "")},
		{"not 4 bytes long", body(4, "123")},
		{"not 2 bytes long", body(2, "123")},
		{"out of the range", filetree.Entry{Path: "a", Mode: 0o644, UID: 1 << 22}},
		{"before 1970", filetree.Entry{Path: "a", Mode: 0o644, ModTime: time.Unix(-1, 0)}},
		{"more than apk can read", body(maxFileSize+1, "")},
		{"no regular file", filetree.Entry{Path: "a", HardLink: true, Link: "b"}},
		{"changed while it was read", filetree.Entry{Path: "a", Size: maxBuffered + 1, Open: func() (io.ReadCloser, error) {
			reads++
			return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte{byte(reads)}, maxBuffered+1))), nil
		}}},
	} {
		tree := filetree.New()
		if err := tree.Put(c.entry); err != nil {
			t.Fatal(err)
		}
		if _, err := WriteData(io.Discard, tree); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error is %v", c.want, err)
		}
	}
}

// A package of any size is written and read in the memory of a small one.
func TestMemory(t *testing.T) {
	const size = 48 << 20
	tree := filetree.New()
	if err := tree.Put(filetree.Entry{Path: "big", Mode: 0o644, Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(zeros{}, size)), nil
	}}); err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	data.Grow(1 << 20)
	used := allocated(func() {
		if _, err := WriteData(&data, tree); err != nil {
			t.Fatal(err)
		}
	})
	if used > 4<<20 {
		t.Errorf("writing allocates %d bytes", used)
	}
	file, _ := sample{p: Package{Name: "big", Version: "1"}}.build(t, nil)
	file = withData(t, file, data.Bytes())
	used = allocated(func() {
		if err := check(file, Verify{Insecure: true}); err != nil {
			t.Fatal(err)
		}
	})
	if used > 2<<20 {
		t.Errorf("reading allocates %d bytes", used)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// withData returns a package like the unsigned one, with another data section.
func withData(t testing.TB, file, data []byte) []byte {
	r, err := Open(bytes.NewReader(file), Verify{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	r.Package.DataHash = hex.EncodeToString(sum[:])
	var out bytes.Buffer
	if _, _, err := WriteControl(&out, r.Package, r.Scripts, r.Control, epoch); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), data...)
}

// rawSection is a gzip member that holds a tar with the given headers.
func rawSection(t testing.TB, closed bool, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, h := range headers {
		body := strings.Repeat("x", int(h.Size))
		if s, ok := h.PAXRecords["test.body"]; ok {
			body, h.Size = s, int64(len(s))
			h.PAXRecords = nil
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, body)
	}
	end := tw.Flush
	if closed {
		end = tw.Close
	}
	if err := errors.Join(end(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func text(name, body string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"test.body": body}}
}

func TestHostilePackages(t *testing.T) {
	signed, p := oddSample().build(t, testSigner(t, "test.rsa.pub"))
	plain, _ := oddSample().build(t, nil)
	sigLen := len(signed) - len(plain)
	dataLen := len(plain) - len(controlOf(t, plain))
	byKey := Verify{Keyring: testRing()}
	flipped := func(at int) []byte {
		b := bytes.Clone(signed)
		b[at] ^= 0x10
		return b
	}
	withHeaders := func(h ...tar.Header) []byte { return withData(t, plain, rawSection(t, true, h...)) }
	control := func(h ...tar.Header) []byte { return append(rawSection(t, false, h...), plain[len(plain)-dataLen:]...) }
	info := "pkgname = a\npkgver = 1\n"
	hash := "datahash = " + strings.Repeat("0", 64) + "\n"
	wrong := p.Checksum
	wrong[0]++

	for _, c := range []struct {
		name string
		file []byte
		v    Verify
		want error
		text string
	}{
		{"sound", signed, byKey, nil, ""},
		{"empty", nil, byKey, io.ErrUnexpectedEOF, ""},
		{"not a package", []byte("#!/bin/sh\necho hello\n"), byKey, ErrFormat, ""},
		{"version 3", []byte("ADBd...."), byKey, ErrFormat, "version 3"},
		{"no way to verify", signed, Verify{}, ErrUntrusted, ""},
		{"unsigned", plain, byKey, ErrUntrusted, "no signature"},
		{"wrong key", signed, Verify{Keyring: Keyring{"other.rsa.pub": testRing()["test.rsa.pub"]}}, ErrUntrusted, "signed by test.rsa.pub"},
		{"another key of that name", signed, Verify{Keyring: Keyring{"test.rsa.pub": otherKey()}}, ErrSignature, ""},
		{"wrong checksum", signed, Verify{Checksum: &wrong}, ErrChecksum, ""},
		{"right checksum, wrong key", signed, Verify{Checksum: &p.Checksum, Keyring: Keyring{}}, ErrUntrusted, ""},
		{"cut in the signature", signed[:sigLen/2], byKey, io.ErrUnexpectedEOF, ""},
		{"cut after the signature", signed[:sigLen], byKey, ErrFormat, "no section after the signature"},
		{"cut in the control section", signed[:sigLen+100], byKey, io.ErrUnexpectedEOF, ""},
		{"cut after the control section", signed[:len(signed)-dataLen], byKey, io.ErrUnexpectedEOF, "no data section"},
		{"cut in the data section", signed[:len(signed)-dataLen/2], byKey, io.ErrUnexpectedEOF, ""},
		{"cut before the last byte", signed[:len(signed)-1], byKey, io.ErrUnexpectedEOF, ""},
		{"something behind", append(bytes.Clone(signed), 0), byKey, ErrFormat, "follows the last section"},
		{"a section behind", append(bytes.Clone(signed), plain...), byKey, ErrFormat, "follows the last section"},
		{"flipped in the data section's header", flipped(len(signed) - dataLen + 9), byKey, ErrDataHash, ""},
		{"data of another", append(bytes.Clone(signed[:len(signed)-dataLen]), rawSection(t, true)...), byKey, ErrDataHash, ""},

		{"no PKGINFO", control(text(".x", "")), Verify{Insecure: true}, ErrFormat, "no file .PKGINFO"},
		{"two PKGINFO", control(text(".PKGINFO", info+hash), text(".PKGINFO", info+hash)), Verify{Insecure: true}, ErrFormat, "two files"},
		{"no data hash", control(text(".PKGINFO", info)), Verify{Insecure: true}, ErrFormat, "no datahash"},
		{"other data hash", control(text(".PKGINFO", info+hash)), Verify{Insecure: true}, ErrDataHash, ""},
		{"a file in the control section", control(text(".PKGINFO", info+hash), text("etc/x", "")), Verify{Insecure: true}, ErrFormat, "etc/x"},
		{"a link in the control section", control(tar.Header{Name: ".PKGINFO", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), Verify{Insecure: true}, ErrFormat, "no plain file"},
		{"too long a script", control(text(".PKGINFO", info+hash), text(".trigger", strings.Repeat("x", maxScriptSize+1))), Verify{Insecure: true}, ErrLimit, ""},
		{"control bomb", control(text(".PKGINFO", info+hash+strings.Repeat("# x\n", 1<<20))), Verify{Insecure: true, Limits: Limits{Control: 1 << 20}}, ErrLimit, "1048576"},
		{"data bomb", withHeaders(tar.Header{Name: "a", Size: 2 << 20}), Verify{Insecure: true, Limits: Limits{Data: 1 << 20}}, ErrLimit, "1048576"},
		{"too many files", withHeaders(tar.Header{Name: "a"}, tar.Header{Name: "b"}, tar.Header{Name: "c"}), Verify{Insecure: true, Limits: Limits{Entries: 2}}, ErrLimit, "2 files"},

		{"absolute name", withHeaders(tar.Header{Name: "/etc/passwd"}), Verify{Insecure: true}, ErrFormat, "/etc/passwd"},
		{"name that leads out", withHeaders(tar.Header{Name: "usr/../../etc/passwd"}), Verify{Insecure: true}, ErrFormat, ".."},
		{"hard link that leads out", withHeaders(tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "../x"}), Verify{Insecure: true}, ErrFormat, ""},
		{"wrong sum", withHeaders(tar.Header{Name: "a", Size: 3, PAXRecords: record([20]byte{1})}), Verify{Insecure: true}, ErrFileSum, "a: "},
		{"wrong sum of a link", withHeaders(tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b", PAXRecords: record([20]byte{1})}), Verify{Insecure: true}, ErrFileSum, "a: "},
		{"sum that is none", withHeaders(tar.Header{Name: "a", Size: 3, PAXRecords: map[string]string{checksumRecord: "xyz"}}), Verify{Insecure: true}, ErrFormat, "xyz"},
	} {
		err := check(c.file, c.v)
		if !errors.Is(err, c.want) || err != nil && (c.want == nil || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: error is %v, want %v (%q)", c.name, err, c.want, c.text)
		}
	}
}

// A bit anywhere in the control or data section is noticed, whatever it does, and so is a file that ends anywhere.
func TestFlippedBits(t *testing.T) {
	signed, _ := oddSample().build(t, testSigner(t, "test.rsa.pub"))
	plain, _ := oddSample().build(t, nil)
	own := []error{ErrFormat, ErrSignature, ErrFileSum, ErrDataHash, io.ErrUnexpectedEOF}
	notice := func(file []byte, what string, at int) {
		err := check(file, Verify{Keyring: testRing()})
		if !slices.ContainsFunc(own, func(e error) bool { return errors.Is(err, e) }) {
			t.Fatalf("%s %d of %d: %v", what, at, len(signed), err)
		}
	}
	for at := len(signed) - len(plain); at < len(signed); at++ {
		bad := bytes.Clone(signed)
		bad[at] ^= 1 << (at % 8)
		notice(bad, "flipped in byte", at)
	}
	for at := range signed {
		notice(signed[:at], "cut at byte", at)
	}
}

// What the signature section itself is packed in nobody has signed: a bit there is noticed, or changes nothing.
func TestFlippedBitsOfTheSignature(t *testing.T) {
	signed, want := oddSample().build(t, testSigner(t, "test.rsa.pub"))
	plain, _ := oddSample().build(t, nil)
	own := []error{ErrFormat, ErrUntrusted, ErrSignature, io.ErrUnexpectedEOF}
	for at := range 8 * (len(signed) - len(plain)) {
		bad := bytes.Clone(signed)
		bad[at/8] ^= 1 << (at % 8)
		r, err := Open(bytes.NewReader(bad), Verify{Keyring: testRing()})
		switch {
		case err == nil && r.Package.Checksum != want.Checksum:
			t.Fatalf("bit %d of byte %d: another package", at%8, at/8)
		case err != nil && !slices.ContainsFunc(own, func(e error) bool { return errors.Is(err, e) }):
			t.Fatalf("bit %d of byte %d: %v", at%8, at/8, err)
		}
	}
}

// controlOf returns the control section of an unsigned package.
func controlOf(t testing.TB, plain []byte) []byte {
	var raw bytes.Buffer
	if _, err := openPackage(bytes.NewReader(plain), Verify{Insecure: true}, &raw); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

func otherKey() *rsa.PublicKey {
	key := *testRing()["test.rsa.pub"]
	key.N = new(big.Int).Add(key.N, big.NewInt(2))
	return &key
}

func TestFilesAreNotReadBeforeTheyAreVouchedFor(t *testing.T) {
	signed, _ := oddSample().build(t, testSigner(t, "other.rsa.pub"))
	r, err := Open(bytes.NewReader(signed), Verify{Keyring: testRing()})
	if r != nil || !errors.Is(err, ErrUntrusted) {
		t.Errorf("Open returns %v, %v", r, err)
	}
}

func TestSHA1Signature(t *testing.T) {
	plain, _ := oddSample().build(t, nil)
	control := controlOf(t, plain)
	sum := sha1.Sum(control)
	sig, err := rsa.SignPKCS1v15(nil, makeKey().(*signer).key, sha1Hash, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	old := append(rawSection(t, false, text(".SIGN.RSA.test.rsa.pub", string(sig))), plain...)
	if err := check(old, Verify{Keyring: testRing()}); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "SHA-1") {
		t.Errorf("not asked for: %v", err)
	}
	if err := check(old, Verify{Keyring: testRing(), AllowSHA1: true}); err != nil {
		t.Errorf("allowed: %v", err)
	}
}

func TestResign(t *testing.T) {
	one, p := oddSample().build(t, testSigner(t, "one.rsa.pub"))
	want, _ := oddSample().build(t, testSigner(t, "test.rsa.pub"))
	var got bytes.Buffer
	if err := Resign(&got, bytes.NewReader(one), testSigner(t, "test.rsa.pub")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("signed again is not the same as signed at once")
	}
	if err := check(got.Bytes(), Verify{Keyring: testRing(), Checksum: &p.Checksum}); err != nil {
		t.Error(err)
	}
	one[len(one)-20] ^= 1
	if err := Resign(io.Discard, bytes.NewReader(one), testSigner(t, "test.rsa.pub")); err == nil {
		t.Error("a damaged package was signed")
	}
	full := errors.New("disk full")
	if err := Resign(failing{full}, bytes.NewReader(want), testSigner(t, "test.rsa.pub")); !errors.Is(err, full) {
		t.Errorf("writing fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestControlRefuses(t *testing.T) {
	good := Package{Name: "a", Version: "1-r0", DataHash: strings.Repeat("0", 64)}
	for _, c := range []struct {
		want    string
		change  func(*Package)
		scripts Scripts
		extra   map[string][]byte
	}{
		{want: "no data hash", change: func(p *Package) { p.DataHash = "" }},
		{want: "data hash", change: func(p *Package) { p.DataHash = "abc" }},
		{want: "name", change: func(p *Package) { p.Name = "a b" }},
		{want: "name", change: func(p *Package) { p.Name = "-a" }},
		{want: "name", change: func(p *Package) { p.Name = "../a" }},
		{want: "version", change: func(p *Package) { p.Version = "1-1" }},
		{want: "description", change: func(p *Package) { p.Description = "a\npkgname = evil" }},
		{want: "description", change: func(p *Package) { p.Description = "a\x00b" }},
		{want: "UTF-8", change: func(p *Package) { p.URL = "\xff" }},
		{want: "apk has room for", change: func(p *Package) { p.Description = strings.Repeat("long ", 500) }},
		{want: "apk has room for", change: func(p *Package) { p.Depends = deps(strings.Repeat("a", 300)) }},
		{want: "depends", change: func(p *Package) { p.Depends = []Dependency{{Name: "a b"}} }},
		{want: "depends", change: func(p *Package) { p.Depends = []Dependency{{Name: "a", Op: "<>", Version: "1"}} }},
		{want: "tag", change: func(p *Package) { p.Depends = deps("a@edge") }},
		{want: "not a version", change: func(p *Package) { p.Provides = deps("a=x") }},
		{want: "trigger", change: func(p *Package) { p.Triggers = []string{"usr"} }},
		{want: "triggers without", change: func(p *Package) { p.Triggers = []string{"/usr"} }},
		{want: "priority", change: func(p *Package) { p.ProviderPriority = 1 << 16 }},
		{want: "no script", scripts: Scripts{".install": nil}},
		{want: "no more than", scripts: Scripts{".trigger": make([]byte, maxScriptSize+1)}},
		{want: "no name", extra: map[string][]byte{"etc/passwd": nil}},
		{want: "no name", extra: map[string][]byte{".PKGINFO": nil}},
		{want: "no name", extra: map[string][]byte{".SIGN.RSA.x": nil}},
	} {
		p := good
		if c.change != nil {
			c.change(&p)
		}
		if _, _, err := WriteControl(io.Discard, &p, c.scripts, c.extra, epoch); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v", c.want, err)
		}
	}
}

// FuzzPackage damages whole files, the others what is inside the compression.
func FuzzPackage(f *testing.F) {
	signed, _ := oddSample().build(f, testSigner(f, "test.rsa.pub"))
	plain, _ := baseSample().build(f, nil)
	f.Add(signed)
	f.Add(plain)
	f.Add(plain[:100])
	limits := Limits{Control: 1 << 20, Data: 4 << 20, Entries: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Open(bytes.NewReader(data), Verify{Insecure: true, Limits: limits})
		if err != nil {
			return
		}
		tree := filetree.New()
		for {
			e, content, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			body, err := io.ReadAll(content)
			if err != nil {
				return
			}
			e.Open = filetree.Bytes(body)
			if tree.Put(*e) != nil {
				return
			}
		}
		// What is sound can be written again, and is then a fixpoint.
		var first, second bytes.Buffer
		one, err := WriteData(&first, tree)
		if err != nil {
			return
		}
		file := withDataAs(t, r, first.Bytes())
		if file == nil {
			return
		}
		if err := check(file, Verify{Insecure: true}); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if two, err := WriteData(&second, tree); err != nil || one != two || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("written twice: %v, %v, %v", one, two, err)
		}
	})
}

func withDataAs(t *testing.T, r *Reader, data []byte) []byte {
	sum := sha256.Sum256(data)
	p := *r.Package
	p.DataHash = hex.EncodeToString(sum[:])
	var out bytes.Buffer
	if _, _, err := WriteControl(&out, &p, r.Scripts, nil, epoch); err != nil {
		return nil // foreign packages may break the rules for ours
	}
	return append(out.Bytes(), data...)
}

func FuzzControl(f *testing.F) {
	plain, _ := oddSample().build(f, nil)
	f.Add(gunzip(f, plain[:len(controlOf(f, plain))]))
	pack := packer(f)
	f.Fuzz(func(t *testing.T, section []byte) {
		r, err := Open(bytes.NewReader(pack(section)), Verify{Insecure: true})
		if err != nil {
			return
		}
		for name := range r.Control {
			if !isControlName(name) {
				t.Errorf("a file %q", name)
			}
		}
		if err := r.Package.checkIdentity(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzSignature(f *testing.F) {
	signed, _ := oddSample().build(f, testSigner(f, "test.rsa.pub"))
	plain, _ := oddSample().build(f, nil)
	good := gunzip(f, signed[:len(signed)-len(plain)])
	f.Add(good)
	pack := packer(f)
	f.Fuzz(func(t *testing.T, section []byte) {
		r, err := Open(bytes.NewReader(append(pack(section), plain...)), Verify{Keyring: testRing()})
		if err != nil {
			return
		}
		if r.SignedBy != "test.rsa.pub" {
			t.Errorf("signed by %q", r.SignedBy)
		}
	})
}

func FuzzData(f *testing.F) {
	plain, p := oddSample().build(f, nil)
	compressed := controlOf(f, plain)
	f.Add(gunzip(f, plain[len(compressed):]))
	control, hash := gunzip(f, compressed), []byte(p.DataHash)
	pack := packer(f)
	f.Fuzz(func(t *testing.T, section []byte) {
		data := pack(section)
		vouching := bytes.Replace(control, hash, fmt.Appendf(nil, "%x", sha256.Sum256(data)), 1)
		r, err := Open(bytes.NewReader(append(pack(vouching), data...)), Verify{Insecure: true, Limits: Limits{Data: 4 << 20, Entries: 1000}})
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, content, err := r.Next()
			if err != nil {
				return
			}
			if !fs.ValidPath(e.Path) || e.Path == "." || e.Path[0] == '.' {
				t.Errorf("a file %q", e.Path)
			}
			if n, err := io.Copy(io.Discard, content); err == nil && n != e.Size {
				t.Errorf("%s: %d bytes of %d", e.Path, n, e.Size)
			}
		}
	})
}

func gunzip(t testing.TB, b []byte) []byte {
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	zw.Write(b)
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// packer returns a function that wraps sections in gzip without compressing them: fuzzing would spend its time there,
// and in the memory that a compressor starts with.
func packer(t testing.TB) func(section []byte) []byte {
	zw, err := gzip.NewWriterLevel(io.Discard, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	return func(section []byte) []byte {
		var out bytes.Buffer
		zw.Reset(&out)
		zw.Write(section)
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
}

func BenchmarkWriteData(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	body := make([]byte, 32<<20) // compresses about as well as programs do
	for i := range body {
		body[i] = byte(random.IntN(9) * random.IntN(9))
	}
	tree := filetree.New()
	if err := tree.Put(filetree.Entry{Path: "big", Mode: 0o644, Size: int64(len(body)), Open: filetree.Bytes(body)}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := WriteData(io.Discard, tree); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	file, p := oddSample().build(b, testSigner(b, "test.rsa.pub"))
	for name, v := range map[string]Verify{"key": {Keyring: testRing()}, "checksum": {Checksum: &p.Checksum}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Open(bytes.NewReader(file), v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	body := bytes.Repeat([]byte("some words that repeat themselves, but not quite;\n"), 700_000)
	for i := 0; i < len(body); i += 37 {
		body[i] = byte(i * i >> 7)
	}
	file, _ := sample{p: Package{Name: "a", Version: "1"}, entries: []filetree.Entry{
		{Path: "big", Mode: 0o644, Size: int64(len(body)), Open: filetree.Bytes(body)},
	}}.build(b, nil)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := check(file, Verify{Insecure: true}); err != nil {
			b.Fatal(err)
		}
	}
}
