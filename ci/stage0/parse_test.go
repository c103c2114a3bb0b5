package stage0

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

func TestVersions(t *testing.T) {
	for debian, want := range map[string]string{
		"5.2.37-2+b10":              "5.2.37_p2_p10",
		"1:19.1.7-3+b1":             "19.1.7_p3_p1",
		"1:10.0.13+ds-0+deb13u1":    "10.0.13_p0_p13_p1",
		"20250419":                  "20250419",
		"1.3.dfsg+really1.3.1-1+b1": "1.3_p1_p3_p1_p1_p1",
		"3.5.7-1~deb13u2":           "3.5.7_p1_pre13_pre2",
		"9.0~rc1-1":                 "9.0_pre1_p1",
		"2.9.9a-1":                  "2.9.9a_p1",
		"1.0git20240101-1":          "1.0_p20240101_p1",
		"0.20.1+20240101deadbeef-3": "0.20.1_p20240101_p3",
		"r1234-1":                   "0_p1234_p1",
		"1.-2":                      "1_p2",
	} {
		got := apkVersion(debian)
		if string(got) != want || !got.Valid() {
			t.Errorf("%s is %s (valid: %v), want %s", debian, got, got.Valid(), want)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	ordered := []string{"1.9-1", "1.10~rc1-1", "1.10-1~deb13u1", "1.10-1", "1.10-1+b1", "1.10-1+deb13u1", "1.10-2", "1.10a-1", "1.10.1-1"}
	for i := 1; i < len(ordered); i++ {
		a, b := apkVersion(ordered[i-1]), apkVersion(ordered[i])
		if apk.Compare(a, b) >= 0 {
			t.Errorf("%s (%s) does not come before %s (%s)", ordered[i-1], a, ordered[i], b)
		}
	}
}

func FuzzVersion(f *testing.F) {
	for _, s := range []string{"1:2.3-4~a5", "9a", "~", "1.2.", "00.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v := apkVersion(s); !v.Valid() {
			t.Errorf("%q becomes %q, which is no version", s, v)
		}
	})
}

func TestMirrors(t *testing.T) {
	const deb822 = `# a comment
Types: deb deb-src
URIs: http://one.example/debian/
 http://two.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: trixie
Components: main

Types: deb
URIs: https://vendor.example/node_20.x
Suites: nodistro
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://vendor.example/products
Suites: bookworm
Components: main
`
	const oneLine = `deb https://packages.vendor.example/apt vendor-bookworm main
# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://three.example/mirror trixie main # why
deb [ trusted=yes http://broken.example/debian trixie main
deb http://four.example/debian stable main contrib
deb http://docker.example/linux/debian bookworm stable
deb http://four.example/debian stable main
deb
`
	got := debianMirrors(append(parseDeb822([]byte(deb822)), parseOneLine([]byte(oneLine))...))
	const key = "/usr/share/keyrings/debian-archive-keyring.gpg"
	want := []mirror{
		{"http://one.example/debian", key}, {"http://two.example/debian", key},
		{"http://three.example/mirror", key}, {"http://four.example/debian", ""},
		{"https://vendor.example/products", ""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found\n%v\nwant\n%v", got, want)
	}
}

func TestRelations(t *testing.T) {
	for text, want := range map[string]string{
		"": "[]",
		"libc6 (>= 2.41), perl:any | perl5 (<< 6) [amd64] <!nocheck>,\n zlib1g": "[[libc6] [perl perl5] [zlib1g]]",
		" , a,|b|": "[[a] [b]]",
	} {
		if got := fmt.Sprint(relations(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestPin(t *testing.T) {
	r := &root{uri: "http://mirror.example/debian"}
	sum := strings.Repeat("ab", 32)
	const path = "pool/main/l/llvm-toolchain-19/clang-19_19.1.7-3+b1_amd64.deb"
	line := "'http://mirror.example/debian/pool/main/l/llvm-toolchain-19/clang-19_19.1.7-3%2bb1_amd64.deb' clang-19_1%3a19.1.7-3+b1_amd64.deb 116584 SHA256:" + sum + "\n"
	p, err := r.parsePin(line)
	if want := (Pin{"clang-19", "1:19.1.7-3+b1", "amd64", 116584, sum, path}); err != nil || p != want {
		t.Errorf("%+v, %v; want %+v", p, err, want)
	}
	for _, bad := range []string{
		"", "'http://mirror.example/debian/pool/a.deb'",
		strings.Replace(line, "SHA256", "MD5Sum", 1),
		strings.Replace(line, "mirror.example", "other.example", 1),
		strings.Replace(line, "pool/main", "../main", 1),
		strings.Replace(line, "_amd64.deb 1", ".deb 1", 1),
		strings.Replace(line, "116584", "many", 1),
	} {
		if p, err := r.parsePin(bad); err == nil {
			t.Errorf("%q is taken for %+v", bad, p)
		}
	}
}

func TestLock(t *testing.T) {
	l := &Lock{Suite: "trixie", Pins: []Pin{
		{"a", "1-1", "all", 5, strings.Repeat("0", 64), "pool/main/a/a/a_1-1_all.deb"},
		{"b", "1:2~x", "amd64", 7, strings.Repeat("f", 64), "pool/main/b/b/b_2~x_amd64.deb"},
	}}
	text := string(l.Text())
	got, err := ParseLock("lock", []byte(text))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(l) || got.Size() != 12 {
		t.Errorf("read back %+v, %v", got, err)
	}
	for change, want := range map[string]string{
		"suite trixie\n=>":     "no suite",
		"a 1-1=>c 1-1":         "lock:4: b does not come after c",
		"b 1:2=>a 1:2":         "lock:4: a does not come after a",
		" 5 => five ":          `lock:3: size "five"`,
		"0000 => ":             "is no SHA-256",
		"ffff pool=>FFFF pool": "is no SHA-256",
		"pool/main/a=>/etc":    "no path in the archive",
		"main/b/b=>../../b":    "no path in the archive",
		" all => ":             "lock:3: not name",
	} {
		from, to, _ := strings.Cut(change, "=>")
		_, err := ParseLock("lock", []byte(strings.Replace(text, from, to, 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", change, err, want)
		}
	}
}

func TestSpecMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"seeds: [a]\n":                     "s.yaml:1:1: suite is missing",
		"suite: x\n":                       "seeds are missing",
		"suite: x\nseeds: [a]\nlink: {}\n": "s.yaml:3:1",
		"suite: x\nseeds: [a]\npackages: {p: {join: {f: '[a'}}}\n": "s.yaml:3:23: pattern",
	} {
		_, err := ParseSpec("s.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", text, err, want)
		}
	}
}

func FuzzFindMember(f *testing.F) {
	deb := makeDeb(f, "Package: a\nVersion: 1\n", file{"usr/bin/a", "a"})
	f.Add(deb)
	f.Add(deb[:len(deb)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := findMember(bytes.NewReader(data), "data.tar")
		if err != nil {
			return
		}
		if n, _ := io.Copy(io.Discard, r); n > int64(len(data)) {
			t.Errorf("a member of %d bytes in a file of %d", n, len(data))
		}
	})
}

func FuzzParagraphs(f *testing.F) {
	f.Add("Package: a\nDepends: b,\n c\n\nX: y\n")
	f.Add(" continued\n:\nA:")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range paragraphs(text) {
			relations(p["depends"])
		}
	})
}
