package apk

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const indexText = `C:Q1YPelEgilDkY5/FOvLWC4CPRCmh4=
P:abc
V:1.2-r0
A:x86_64
S:1000
I:2000
T:the letters: a, b = c
U:https://abc.test
L:MIT
o:abc
m:M <m@x.test>
t:1700000000
c:deadbeef
k:10
D:so:libc.musl-x86_64.so.1 !bad d<3
p:cmd:abc=1.2-r0 virt
i:x y=2

C:Q1Pd5Z/z15/CMi9BkvdMHRrzDTLMY=
P:empty
V:0
S:0
I:0
T:
U:
L:

`

func TestIndex(t *testing.T) {
	x, err := ParseIndex(strings.NewReader(indexText))
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := ParseChecksum("Q1YPelEgilDkY5/FOvLWC4CPRCmh4=")
	want := &Package{
		Name: "abc", Version: "1.2-r0", Arch: "x86_64", Size: 1000, InstalledSize: 2000, Checksum: sum,
		Description: "the letters: a, b = c", URL: "https://abc.test", License: "MIT", Origin: "abc", Maintainer: "M <m@x.test>",
		BuildDate: 1700000000, Commit: "deadbeef", ProviderPriority: 10,
		Depends: deps("so:libc.musl-x86_64.so.1", "!bad", "d<3"), Provides: deps("cmd:abc=1.2-r0", "virt"), InstallIf: deps("x", "y=2"),
	}
	if diff := cmp.Diff(want, x.Packages[0]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var b bytes.Buffer
	if err := x.Write(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(indexText, b.String()); diff != "" {
		t.Errorf("written again (-want +got)\n%s", diff)
	}
}

// What apk accepts of an index written by a later apk.
func TestUnknownFields(t *testing.T) {
	if _, err := ParseIndex(strings.NewReader("P:a\nV:1\nx:new\n\n")); err != nil {
		t.Error(err)
	}
	if _, err := ParseIndex(strings.NewReader("P:a\nV:1\nX:new\n\n")); !errors.Is(err, ErrFormat) {
		t.Errorf("unknown capital: %v", err)
	}
}

func TestBadIndex(t *testing.T) {
	for text, want := range map[string]string{
		"P:a\n\n":                 "line 2: package a: version",
		"V:1\n\n":                 "package name",
		"P\n":                     "line 1",
		"P:a\nV:1\nC:Q1\n":        "line 3",
		"P:a\nV:1\nC:Q2xx\n":      "line 3",
		"P:a\nV:1\nS:-1\n":        "line 3",
		"P:a\nV:1\nk:70000\n":     "line 3",
		"P:a\nV:1\nD:a b= c\n":    "line 3",
		"P:a\nV:1\nD:a@edge\n":    "tag",
		"P:../../x\nV:1\n\n":      "package name",
		"P:a\nV:1/../../../x\n\n": "version",
	} {
		if _, err := ParseIndex(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
	}
}

func TestIndexWriteRefuses(t *testing.T) {
	for _, p := range []Package{
		{Name: "a", Version: "1", Description: "a\nP:evil"},
		{Name: "a\nP:evil", Version: "1"},
		{Name: "a", Version: "1", Depends: []Dependency{{Name: "a\nP:evil"}}},
		{Name: "a", Version: "1", ProviderPriority: -1},
	} {
		if err := (&Index{Packages: []*Package{&p}}).Write(io.Discard); err == nil {
			t.Errorf("%+v is written", p)
		}
	}
	for _, x := range []Index{
		{Description: strings.Repeat("x", 161)}, // apk does not read it
		{Description: strings.Repeat("x", 150), Generation: 1},
		{Description: "what is left of generation 7"},
		{Generation: -1},
	} {
		if err := WriteIndex(io.Discard, &x, nil); err == nil {
			t.Errorf("%+v is written", x)
		}
	}
}

func TestGeneration(t *testing.T) {
	for text, want := range map[string]Index{
		"":                                     {},
		"v3.17-2-gabc":                         {Description: "v3.17-2-gabc"},
		"generation 7":                         {Generation: 7},
		"our distro generation 12":             {Description: "our distro", Generation: 12},
		"generation 1 generation 12":           {Description: "generation 1", Generation: 12},
		"our generation":                       {Description: "our generation"},
		"our generation ":                      {Description: "our generation "},
		" generation 7":                        {Description: " generation 7"},
		"regeneration 7":                       {Description: "regeneration 7"},
		"generation 07":                        {Description: "generation 07"},
		"generation +7":                        {Description: "generation +7"},
		"generation -7":                        {Description: "generation -7"},
		"generation 0":                         {Description: "generation 0"},
		"generation 7 ":                        {Description: "generation 7 "},
		"generation 99999999999999999999":      {Description: "generation 99999999999999999999"},
		"generation 7\n":                       {Description: "generation 7\n"},
		"a generation later, generation seven": {Description: "a generation later, generation seven"},
	} {
		var x Index
		x.Description, x.Generation = parseDescription(text)
		if diff := cmp.Diff(want, x); diff != "" {
			t.Errorf("%q (-want +got)\n%s", text, diff)
		}
	}
}

func FuzzDescription(f *testing.F) {
	f.Add("our distro generation 12")
	f.Add("generation 1 generation 2")
	f.Add(" generation 3")
	f.Fuzz(func(t *testing.T, text string) {
		var x Index
		x.Description, x.Generation = parseDescription(text)
		again, err := x.describe()
		if _, inner := parseDescription(x.Description); inner != 0 || len(text) > maxDescription {
			if err == nil {
				t.Errorf("%q is written", again)
			}
			return
		}
		if err != nil || again != text {
			t.Errorf("%q becomes %q, %v", text, again, err)
		}
	})
}

func TestSignedIndex(t *testing.T) {
	x, err := ParseIndex(strings.NewReader(indexText))
	if err != nil {
		t.Fatal(err)
	}
	x.Description, x.Generation = "v1-2-gabc", 3
	var signed, again, plain bytes.Buffer
	for w, s := range map[*bytes.Buffer]Signer{&signed: testSigner(t, "test.rsa.pub"), &again: testSigner(t, "test.rsa.pub"), &plain: nil} {
		if err := WriteIndex(w, x, s); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(signed.Bytes(), again.Bytes()) {
		t.Error("written twice, the bytes differ")
	}
	got, err := ReadIndex(bytes.NewReader(signed.Bytes()), Verify{Keyring: testRing()})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	flipped := bytes.Clone(signed.Bytes())
	flipped[len(flipped)-30] ^= 1
	for _, c := range []struct {
		name string
		file []byte
		v    Verify
		want error
	}{
		{"unsigned, trusted as it is", plain.Bytes(), Verify{Insecure: true}, nil},
		{"unsigned", plain.Bytes(), Verify{Keyring: testRing()}, ErrUntrusted},
		{"unsigned, nothing asked for", plain.Bytes(), Verify{}, ErrUntrusted},
		{"another name for the key", signed.Bytes(), Verify{Keyring: Keyring{"x": testRing()["test.rsa.pub"]}}, ErrUntrusted},
		{"another key of that name", signed.Bytes(), Verify{Keyring: Keyring{"test.rsa.pub": otherKey()}}, ErrSignature},
		{"cut", signed.Bytes()[:signed.Len()-1], Verify{Keyring: testRing()}, io.ErrUnexpectedEOF},
		{"something behind", append(bytes.Clone(signed.Bytes()), plain.Bytes()...), Verify{Keyring: testRing()}, ErrSignature},
		{"something behind, unsigned", append(bytes.Clone(plain.Bytes()), 0), Verify{Insecure: true}, ErrFormat},
		{"bomb", signed.Bytes(), Verify{Keyring: testRing(), Limits: Limits{Index: 1000}}, ErrLimit},
		{"no index in it", rawSection(t, true, text("DESCRIPTION", "")), Verify{Insecure: true}, ErrFormat},
		{"two in it", rawSection(t, true, text("APKINDEX", ""), text("APKINDEX", "")), Verify{Insecure: true}, ErrFormat},
		{"a package", rawSection(t, true, text(".PKGINFO", "")), Verify{Insecure: true}, ErrFormat},
	} {
		if _, err := ReadIndex(bytes.NewReader(c.file), c.v); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: error is %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := ReadIndex(bytes.NewReader(flipped), Verify{Keyring: testRing()}); err == nil {
		t.Error("a flipped bit is not noticed")
	}
}

// TestDamagedIndex cuts an index everywhere and flips bits everywhere. The signature does not cover how it is
// packed itself; whatever changes there, what is read is what was signed.
func TestDamagedIndex(t *testing.T) {
	x, err := ParseIndex(strings.NewReader(indexText))
	if err != nil {
		t.Fatal(err)
	}
	x.Generation = 3
	var b, plain bytes.Buffer
	if err := errors.Join(WriteIndex(&b, x, testSigner(t, "test.rsa.pub")), WriteIndex(&plain, x, nil)); err != nil {
		t.Fatal(err)
	}
	signed, unsigned := b.Bytes(), plain.Bytes()
	byKey := Verify{Keyring: testRing()}
	for n := range signed {
		if got, err := ReadIndex(bytes.NewReader(signed[:n]), byKey); err == nil || !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrFormat) {
			t.Fatalf("%d of %d bytes: %v, %v", n, len(signed), got, err)
		}
	}
	for n := range unsigned {
		if got, err := ReadIndex(bytes.NewReader(unsigned[:n]), Verify{Insecure: true}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("unsigned, %d of %d bytes: %v, %v", n, len(unsigned), got, err)
		}
	}
	own := []error{ErrFormat, ErrUntrusted, ErrSignature, ErrLimit, io.ErrUnexpectedEOF}
	for at := range 8 * len(signed) {
		bad := bytes.Clone(signed)
		bad[at/8] ^= 1 << (at % 8)
		got, err := ReadIndex(bytes.NewReader(bad), byKey)
		switch {
		case err == nil && (at/8 >= len(signed)-len(unsigned) || !cmp.Equal(x, got)):
			t.Fatalf("bit %d of byte %d: %v is taken for what was signed", at%8, at/8, got)
		case err != nil && !slices.ContainsFunc(own, func(e error) bool { return errors.Is(err, e) }):
			t.Fatalf("bit %d of byte %d: %v", at%8, at/8, err)
		}
	}
}

// TestHostileIndexes reads what nobody signed, so that only the reader stands in the way.
func TestHostileIndexes(t *testing.T) {
	huge := text("APKINDEX", "")
	huge.Size = 1 << 50
	hugeDescription := text("DESCRIPTION", "")
	hugeDescription.Size = 1 << 50
	key := text("evil.rsa.pub", "-----BEGIN PUBLIC KEY-----")
	member := rawSection(t, true, text(".SIGN.RSA256.x", ""))
	entry := "P:a\nV:1\n\n"
	limits := Limits{Index: 1 << 20}
	for _, c := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"empty", nil, io.ErrUnexpectedEOF, ""},
		{"not an index", []byte("<!DOCTYPE html>"), ErrFormat, ""},
		{"signatures and no more", member, io.ErrUnexpectedEOF, ""},
		{"very many signatures", bytes.Repeat(member, 100_000), ErrLimit, ""},
		{"a key among the signatures", slices.Concat(rawSection(t, true, text(".SIGN.RSA256.x", ""), key), rawSection(t, true, text("APKINDEX", entry))), ErrFormat, "evil.rsa.pub"},
		{"a key in it", rawSection(t, true, text("APKINDEX", entry), key), ErrFormat, "evil.rsa.pub"},
		{"a link", rawSection(t, true, tar.Header{Name: "APKINDEX", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), ErrFormat, "no plain file"},
		{"a path that leads out", rawSection(t, true, text("../APKINDEX", entry)), ErrFormat, "../APKINDEX"},
		{"a file of a size that is not there", rawHeader(t, huge), io.ErrUnexpectedEOF, ""},
		{"a description of a size that is not there", rawHeader(t, hugeDescription), io.ErrUnexpectedEOF, ""},
		{"bomb", rawSection(t, true, text("APKINDEX", strings.Repeat(entry, 1<<18))), ErrLimit, "1048576"},
		{"bomb in the description", rawSection(t, true, text("DESCRIPTION", strings.Repeat("x", 2<<20))), ErrLimit, "1048576"},
		{"bomb behind the end", append(gzipped(t, append(gunzip(t, rawSection(t, true, text("APKINDEX", entry))), make([]byte, 2<<20)...)), 0), ErrLimit, "1048576"},
		{"an entry without an end", rawSection(t, true, text("APKINDEX", "P:"+strings.Repeat("a", 1<<19))), ErrFormat, "version"},
		{"a list without an end", rawSection(t, true, text("APKINDEX", "P:a\nV:1\nD:"+strings.Repeat("a ", 1<<18)+"b=\n")), ErrFormat, "b="},
		{"a number that is too large", rawSection(t, true, text("APKINDEX", "P:a\nV:1\nS:99999999999999999999\n")), ErrFormat, "S:9999"},
	} {
		x, err := ReadIndex(bytes.NewReader(c.file), Verify{Insecure: true, Limits: limits})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, %v, want %v (%q)", c.name, x, err, c.want, c.text)
		}
	}
}

// rawHeader is a section that ends behind a header.
func rawHeader(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	h.PAXRecords = nil
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return gzipped(t, b.Bytes())
}

func TestOrderAndMerge(t *testing.T) {
	pkg := func(name string, version Version, size int64) *Package {
		return &Package{Name: name, Version: version, Size: size}
	}
	var x Index
	x.Merge(pkg("b", "1", 1), pkg("a", "1.10", 2), pkg("a", "1.9", 3), pkg("B", "1", 4), pkg("ab", "1", 5), pkg("a-b", "1", 6))
	x.Merge(pkg("a", "1.9", 7), pkg("c", "1", 8))
	var got []string
	for _, p := range x.Packages {
		got = append(got, fmt.Sprint(p.Name, "-", p.Version, ":", p.Size))
	}
	want := []string{"a-1.9:7", "a-1.10:2", "a-b-1:6", "ab-1:5", "B-1:4", "b-1:1", "c-1:8"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Texts that are read are brought to one form, which then stays.
func FuzzIndex(f *testing.F) {
	f.Add(indexText)
	f.Add("P:a\nV:1\nD:a\nD:b\nx:y\n\n\n\nP:b\nV:2")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseIndex(strings.NewReader(text))
		var errEach error
		var entries Entries
		for range 2 { // the room of the first time serves for the second
			errEach = entries.Read(text)
		}
		for n, e := range entries.List {
			rest := Package{
				Name: e.Name, Version: e.Version, Checksum: e.Checksum, ProviderPriority: e.ProviderPriority,
				Depends: e.Depends, Provides: e.Provides, InstallIf: e.InstallIf,
			}
			err := rest.SetFields(string(e.Common) + string(e.Own))
			if err != nil || rest.Arch != e.Arch || rest.InstalledSize != e.InstalledSize {
				t.Fatalf("entry %d: %v, from its parts %v, %v", n, e, rest, err)
			}
			if x != nil && !cmp.Equal(x.Packages[n], &rest, cmpopts.EquateEmpty()) {
				t.Fatalf("entry %d: %v, in an index %v", n, rest, x.Packages[n])
			}
		}
		if (err == nil) != (errEach == nil) || x != nil && len(entries.List) != len(x.Packages) {
			t.Fatalf("as an index: %v; %d entries: %v", err, len(entries.List), errEach)
		}
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := x.Write(&first); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		y, err := ParseIndex(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("reading what was written: %v\n%s", err, &first)
		}
		if diff := cmp.Diff(x.Packages, y.Packages); diff != "" {
			t.Errorf("(-written +read)\n%s", diff)
		}
		if err := y.Write(&second); err != nil || first.String() != second.String() {
			t.Errorf("written again (%v):\n%s\nbefore:\n%s", err, &second, &first)
		}
	})
}

func FuzzSignedIndex(f *testing.F) {
	x, _ := ParseIndex(strings.NewReader(indexText))
	var b bytes.Buffer
	if err := WriteIndex(&b, x, testSigner(f, "test.rsa.pub")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		y, err := ReadIndex(bytes.NewReader(data), Verify{Keyring: testRing()})
		if err == nil && !cmp.Equal(x.Packages, y.Packages) {
			t.Error("an index that was never signed is accepted")
		}
		ReadIndex(bytes.NewReader(data), Verify{Insecure: true, Limits: Limits{Index: 1 << 20}})
	})
}

// FuzzPieces reads an index by pieces of any size: they are whole entries, and together all of the text.
func FuzzPieces(f *testing.F) {
	f.Add([]byte(indexText), 20)
	f.Add([]byte("P:a\nV:1"), 0)
	pack := packer(f)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var section bytes.Buffer
		tw := tar.NewWriter(&section)
		tw.WriteHeader(&tar.Header{Name: "APKINDEX", Typeflag: tar.TypeReg, Size: int64(len(text))})
		tw.Write(text)
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := OpenIndex(pack(section.Bytes()), Verify{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		piece := make([]byte, 0, max(0, min(size, 1<<12)))
		for {
			if piece, err = r.Next(piece); err != nil {
				break
			}
			all = append(all, piece...)
			if len(all) < len(text) && !bytes.HasSuffix(piece, []byte("\n\n")) {
				t.Errorf("a piece ends in the middle of an entry: %q", piece)
			}
		}
		if err != io.EOF || !bytes.Equal(all, text) {
			t.Errorf("%v: %q, want %q", err, all, text)
		}
	})
}

// bigIndex is as large as all of Wolfi's published packages and like them.
func bigIndex(n int) []byte {
	var b buffer
	x := Index{}
	for i := range n {
		name := fmt.Sprintf("package-%d", i)
		p := &Package{
			Name: name, Version: Version(fmt.Sprintf("%d.%d.%d-r%d", i%40, i%17, i%9, i%5)), Arch: "x86_64", Checksum: Checksum{byte(i), byte(i >> 8), byte(i >> 16)},
			Size: int64(i), InstalledSize: int64(2 * i), Description: "some words that say what this package is good for", URL: "https://example.test/" + name,
			License: "Apache-2.0", Origin: name, BuildDate: 1700000000, Commit: "0123456789abcdef0123456789abcdef01234567",
			Depends:  deps("so:libc.so.6", "so:libm.so.6", "merged-usrsbin", "wolfi-baselayout", fmt.Sprintf("package-%d", i/2)),
			Provides: deps(fmt.Sprintf("cmd:%s=%d.%d.%d-r%d", name, i%40, i%17, i%9, i%5), fmt.Sprintf("so:lib%s.so.1=1", name)),
		}
		x.Packages = append(x.Packages, p)
	}
	if err := x.Write(&b); err != nil {
		panic(err)
	}
	return b
}

func BenchmarkParseIndex(b *testing.B) {
	text := bigIndex(150_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseIndex(bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWriteIndexText(b *testing.B) {
	text := bigIndex(150_000)
	x, err := ParseIndex(bytes.NewReader(text))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Write(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadIndex(b *testing.B) {
	x, err := ParseIndex(bytes.NewReader(bigIndex(150_000)))
	if err != nil {
		b.Fatal(err)
	}
	var file bytes.Buffer
	if err := WriteIndex(&file, x, testSigner(b, "test.rsa.pub")); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadIndex(bytes.NewReader(file.Bytes()), Verify{Keyring: testRing()}); err != nil {
			b.Fatal(err)
		}
	}
}
