package sbom

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// encode writes the document, twice, and has SPDX's own tools read and validate it.
func encode(t *testing.T, d *Document, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := d.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("two encodings differ")
	}
	read, err := spdxjson.Read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatalf("SPDX's reader: %v\n%s", err, first.String())
	}
	if err := spdxlib.ValidateDocument(read); err != nil {
		t.Errorf("SPDX's validator: %v\n%s", err, first.String())
	}
	return first.String()
}

func zlib() Package {
	return Package{
		Name: "zlib-dev", Version: "1.3.1-r4", Arch: "x86_64", Origin: "zlib", Namespace: "Example", License: "Zlib and more",
		Homepage: "https://zlib.net", Supplier: "Example  Distro", CPE: "cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*",
		Sources: []Source{
			{Name: "zlib", Version: "1.3.1", URI: "https://me:secret@zlib.net/zlib-1.3.1.tar.gz", SHA256: strings.Repeat("ab", 32)},
			{URI: "https://github.com/Madler/zlib.git", Commit: strings.Repeat("c", 40)},
		},
		Recipe:  &Source{URI: "https://me:secret@github.com/Example/os", Commit: strings.Repeat("d", 40), File: "zlib.yaml", License: "Apache-2.0"},
		Creator: "melange-1", Created: when,
	}
}

func TestPackage(t *testing.T) {
	d, err := zlib().Document()
	text := encode(t, d, err)
	if strings.Contains(text, "secret") {
		t.Error("a password is in the document")
	}
	for _, want := range []string{
		`"pkg:apk/example/zlib-dev@1.3.1-r4?arch=x86_64&origin=zlib"`,
		`"pkg:generic/zlib@1.3.1?checksum=sha256:` + strings.Repeat("ab", 32) + `&download_url=https:%2F%2Fzlib.net%2Fzlib-1.3.1.tar.gz"`,
		`"pkg:github/madler/zlib@` + strings.Repeat("c", 40) + `"`,
		`"pkg:github/example/os@` + strings.Repeat("d", 40) + `#zlib.yaml"`, `"licenseDeclared": "Apache-2.0"`,
		`"extractedText": "Zlib and more"`, `"supplier": "Organization: Example Distro"`, `"cpe23Type"`,
		`"created": "2026-01-02T03:04:05Z"`, `"GENERATED_FROM"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	other := zlib()
	other.Version = "1.3.1-r5"
	d2, err := other.Document()
	if err != nil || d.Namespace == d2.Namespace {
		t.Errorf("two documents share the namespace %s (%v)", d.Namespace, err)
	}
}

// TestLibraries: what package managers were given has the package URL that the reader of those who made the format
// understands, and is in the image of the package too.
func TestLibraries(t *testing.T) {
	commit, sum := strings.Repeat("c", 40), "sha512:"+strings.Repeat("ab", 64)
	p := zlib()
	p.Libraries = []Library{
		{Type: "npm", Name: "@some/shout", Version: "2.0.0", URI: "https://me:secret@registry.example/shout.tgz", Digests: []string{sum}},
		{Type: "npm", Name: "@some/shout", Version: "2.0.0", Digests: []string{"sha1:" + strings.Repeat("0", 40)}},
		{Type: "cargo", Name: "greet", Version: "1.2.3+x", Registry: "https://me:secret@crates.example/index", Digests: []string{"sha256:00"}},
		{Type: "cargo", Name: "whisper", Version: "0.7.0", URI: "https://git.example/whisper", Commit: commit},
		{Type: "pypi", Name: "Shout_it", Version: "2.0", Digests: []string{"sha256:" + strings.Repeat("1", 64), "sha256:" + strings.Repeat("2", 64)}},
		{Type: "pypi", Name: "unnamed"},
		{Type: "golang", Name: "github.com/BurntSushi/toml", Version: "v1.3.2+incompatible", Digests: []string{"sha256:" + strings.Repeat("3", 64)}},
	}
	d, err := p.Document()
	text := encode(t, d, err)
	if strings.Contains(text, "secret") {
		t.Error("a password is in the document")
	}
	want := []string{
		"cargo  greet 1.2.3+x repository_url=https://crates.example/index NOASSERTION SHA256",
		"cargo  whisper 0.7.0 vcs_url=git+https://git.example/whisper@" + commit + " git+https://git.example/whisper@" + commit,
		"golang github.com/burntsushi toml v1.3.2+incompatible NOASSERTION SHA256",
		"npm @some shout 2.0.0 NOASSERTION SHA1",
		"npm @some shout 2.0.0 https://registry.example/shout.tgz SHA512",
		"pypi  shout-it 2.0 NOASSERTION SHA256 SHA256",
		"pypi  unnamed  NOASSERTION",
	}
	if diff := cmp.Diff(want, libraries(t, d)); diff != "" {
		t.Errorf("libraries (-want +got):\n%s", diff)
	}
	image, err := Image{Digest: "sha256:00", Packages: []Content{{Package: p, Embedded: d}}}.Document()
	encode(t, image, err)
	if diff := cmp.Diff(want, libraries(t, image)); diff != "" {
		t.Errorf("libraries of the image (-want +got):\n%s", diff)
	}
}

// libraries are the elements that are libraries, each in a line: what its package URL says, its place, its checksums.
func libraries(t *testing.T, d *Document) []string {
	t.Helper()
	var lines []string
	for _, e := range d.Elements {
		if e.Purpose != "LIBRARY" {
			continue
		}
		u, err := packageurl.FromString(e.Refs[0].Locator)
		if err != nil {
			t.Fatal(err)
		}
		words := []string{u.Type, u.Namespace, u.Name, u.Version}
		for _, q := range u.Qualifiers {
			words = append(words, q.Key+"="+q.Value)
		}
		words = append(words, e.DownloadLocation)
		for _, c := range e.Checksums {
			words = append(words, c.Algorithm)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return lines
}

func TestImage(t *testing.T) {
	embedded, err := zlib().Document()
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("12", 32)
	image := Image{
		Name: "registry.example/team/app", Digest: digest, Arch: "amd64", MediaType: "m", Layers: []Layer{{Digest: digest, DiffID: digest}},
		Packages: []Content{
			{Package: zlib(), Embedded: embedded},
			{Package: Package{Name: "musl", Version: "1-r0", Arch: "x86_64", License: "MIT"}},
			{Package: Package{Name: "wrong", Version: "2-r0", Arch: "x86_64"}, Embedded: embedded},
		},
		OS: OS{"example", "Example", "1"}, SourceURL: "https://github.com/x/y", Revision: "abc", Creator: "apko-1", Created: when,
	}
	d, err := image.Document()
	text := encode(t, d, err)
	var names []string
	for _, e := range d.Elements {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	want := []string{"app", "example", "musl", digest, "wrong", "y", "zlib", "zlib", "zlib-dev", "zlib.yaml"}
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
	if !strings.Contains(text, `repository_url=registry.example%2Fteam%2Fapp`) {
		t.Error("the image's package URL does not name its repository")
	}
	index, err := Index{
		Name: "app", Digest: digest, MediaType: "m", Creator: "apko-1", Created: when,
		Images: []Variant{{Image: image, Namespace: d.Namespace, Encoded: []byte(text)}},
	}.Document()
	encode(t, index, err)
	if len(index.External) != 1 || index.External[0].Namespace != d.Namespace {
		t.Errorf("the index does not name the image's document: %+v", index.External)
	}
}

// Two packages may call different things by one identifier.
func TestClash(t *testing.T) {
	var contents []Content
	for _, name := range []string{"a", "b"} {
		p := Package{Name: name, Version: "1-r0", Arch: "x86_64"}
		d, err := p.Document()
		if err != nil {
			t.Fatal(err)
		}
		d.Elements = append(d.Elements, Element{ID: "SPDXRef-Source", Name: "source of " + name, DownloadLocation: "NOASSERTION"})
		d.relate(d.described()[0], generatedFrom, "SPDXRef-Source")
		contents = append(contents, Content{Package: p, Embedded: d})
	}
	d, err := Image{Digest: "sha256:00", Packages: contents}.Document()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if !slices.ContainsFunc(d.Elements, func(e Element) bool { return e.Name == "source of "+name }) {
			t.Errorf("the source of %s is gone", name)
		}
	}
}

func TestLicense(t *testing.T) {
	for _, test := range []struct{ written, expression, text string }{
		{"", "NOASSERTION", ""},
		{"MIT", "MIT", ""},
		{"GPL-2.0-or-later WITH GCC-exception-3.1 AND (MIT OR Apache-2.0)", "GPL-2.0-or-later WITH GCC-exception-3.1 AND ( MIT OR Apache-2.0 )", ""},
		{"GPL-2.0+", "GPL-2.0+", ""},
		{"LicenseRef-mine AND MIT", "LicenseRef-mine AND MIT", "NOASSERTION"},
		{"see COPYING", "LicenseRef-", "see COPYING"},
		{"MIT AND", "LicenseRef-", "MIT AND"},
		{"(MIT", "LicenseRef-", "(MIT"},
		{"MIT)", "LicenseRef-", "MIT)"},
	} {
		expression, texts := license(test.written)
		text := ""
		if len(texts) > 0 {
			text = texts[0].Text
		}
		if !strings.HasPrefix(expression, test.expression) || text != test.text {
			t.Errorf("license(%q) = %q with text %q, want %q with %q", test.written, expression, text, test.expression, test.text)
		}
	}
}

func TestElementID(t *testing.T) {
	if a, b := elementID("Package", "c++"), elementID("Package", "c__"); a == b {
		t.Errorf("two names, one identifier %s", a)
	}
}

func FuzzDecode(f *testing.F) {
	d, err := zlib().Document()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := d.Encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"spdxVersion":"SPDX-2.3","packages":[{"SPDXID":"SPDXRef-a","name":"zlib-dev","versionInfo":"1.3.1-r4"}],"documentDescribes":["SPDXRef-a"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Decode(bytes.NewReader(text))
		if err != nil {
			return
		}
		// Whatever a package carries, the image's document is one that can be read.
		image, err := Image{Digest: "sha256:00", Packages: []Content{{Package: zlib(), Embedded: d}}}.Document()
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := image.Encode(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(&b); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzLicense(f *testing.F) {
	f.Add("MIT AND (GPL-2.0+ WITH x OR LicenseRef-y)")
	f.Add("((")
	f.Fuzz(func(t *testing.T, written string) {
		once, _ := license(written)
		if again, _ := license(once); again != once {
			t.Errorf("%q becomes %q, that %q", written, once, again)
		}
	})
}
