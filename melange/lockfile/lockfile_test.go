package lockfile

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

var sri = "sha512-" + strings.Repeat("A", 86) + "=="

// TestMistakes: what is wrong with a lock file, with its place in it.
func TestMistakes(t *testing.T) {
	hash := strings.Repeat("0", 64)
	for _, c := range []struct{ kind, text, want string }{
		{"npm", "{\n  \"packages\": {\n    \"node_modules/a\": {\"version\": \"1.0.0\"}\n  }\n}", "package-lock.json:3:5: a has no integrity"},
		{"npm", "{\n  \"packages\": {\n    \"node_modules/a\": {\"version\": \"1\", \"integrity\": \"md5-x\"}\n  }\n}", `package-lock.json:3:5: a has the integrity "md5-x"`},
		{"npm", "{\n  \"packages\": {\n    \"node_modules/../b\": {\"version\": \"1\", \"integrity\": \"" + sri + "\"}}}", `package-lock.json:3:5: "../b" is no name of a package`},
		{"npm", "{\"packages\": {\"node_modules/g\": {\"version\": \"1\", \"resolved\": \"git+ssh://x/y#z\"}}}", "package-lock.json:1:31: g is a git commit"},
		{"npm", "{\n  \"packages\": [\n", "package-lock.json:2:16: no lock file of npm: want an object, found ["},
		{"npm", "{\n  \"lockfileVersion\": 3\n}", "package-lock.json:1:1: no lock file of npm: it has neither packages nor dependencies"},
		{"npm", "{\n  \"packages\": {},\n  oops\n}", "package-lock.json:3:3: no lock file of npm: invalid character 'o'"},
		{"npm", "", "package-lock.json:1:1: no lock file of npm: EOF"},

		{"yarn", "a@1:\n  version \"1.0.0\"\n  resolved \"https://r.example/a/-/a-1.0.0.tgz\"\n", "yarn.lock:1:1: a has no digest"},
		{"yarn", "a@1:\n  resolved \"https://r.example/a/-/a-1.0.0.tgz#00\"\n  integrity md5-x\n", "yarn.lock:1:1: a has no digest"},
		{"yarn", "# yarn lockfile v1\n\na@1:\n  version \"1.0.0\"\n  integrity " + sri + "\n", "yarn.lock:3:1: a has no address"},
		{"yarn", "a@1:\n  resolved \"https://r.example/a/-/..#" + hash[:40] + "\"\n", `yarn.lock:1:1: a has the address "https://r.example/a/-/..", which names no file`},
		{"yarn", "a@1:\n  resolved \"https://r.example/a/-/x%s/../..\\\\b.tgz#" + hash[:40] + "\"\n", `yarn.lock:1:1: a has the address "https://r.example/a/-/x%s/../..\\b.tgz"`},
		{"yarn", "\"../a@1\":\n  version \"1\"\n  resolved a-1.tgz#" + hash[:40] + "\n", `yarn.lock:1:1: "../a" is no name of a package`},
		{"yarn", "a@1:\n  version \"../1\"\n  resolved a-1.tgz#" + hash[:40] + "\n", `yarn.lock:1:1: a has the version "../1"`},
		{"yarn", "a@1:\n  resolved \"git+ssh://git@x.example/y#" + hash[:40] + "\"\n", "yarn.lock:1:1: a is a git commit"},
		{"yarn", "a@1:\n  resolved https://r.example/x.git#" + hash[:40] + "\n", "yarn.lock:1:1: a is a git commit"},
		{"yarn", "a@1:\n  resolved \"https://r.example/a/-/a-1.tgz#" + hash[:40] + "\"\n\nb@1:\n  resolved \"https://s.example/a/-/a-1.tgz\"\n  integrity " + sri + "\n",
			"yarn.lock:4:1: yarn finds b by the same name of a file, a-1.tgz, as a of line 1"},
		{"yarn", "a@1:\n<<<<<<< HEAD\n  version \"1\"\n", "yarn.lock:2:1: no lock file of yarn: <<<<<<< HEAD was not expected here"},
		{"yarn", "a@1:\n  version \"1\n", `yarn.lock:2:3: no lock file of yarn: "1 is no text in quotes`},
		{"yarn", "  version \"1\"\n", "yarn.lock:1:3: no lock file of yarn: want NAME@RANGE, at the beginning of a line"},
		{"yarn", "a@1:\n  integrity " + sri + " " + sri + "\n", "yarn.lock:2:3: no lock file of yarn: want a name and what it is"},
		{"yarn", "{\"packages\": {}}", "yarn.lock:1:1: no lock file of yarn: want NAME@RANGE and a colon"},
		{"yarn", "__metadata:\n  version: 8\n  cacheKey: 10\n", "yarn.lock:1:1: it is of yarn 2 or later"},

		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0:\n    resolution: {tarball: https://x.example/a.tgz}\n", "pnpm-lock.yaml:3:3: a has no integrity"},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0:\n    resolution: {integrity: md5-x}\n", `pnpm-lock.yaml:3:3: a has the integrity "md5-x"`},
		{"pnpm", "lockfileVersion: '6.0'\npackages:\n  /../b@1.0.0:\n    resolution: {integrity: " + sri + "}\n", `pnpm-lock.yaml:3:3: "../b" is no name of a package`},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0:\n    resolution: {integrity: " + sri + "}\n    name: ..\n", `pnpm-lock.yaml:3:3: ".." is no name of a package`},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@../1:\n    resolution: {integrity: " + sri + "}\n", `pnpm-lock.yaml:3:3: a has the version "../1"`},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0:\n    resolution: {integrity: " + sri + ", tarball: ../../x}\n", `pnpm-lock.yaml:3:3: a has the address "../../x"`},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0:\n    resolution: {commit: 00, repo: https://x.example/a, type: git}\n", "pnpm-lock.yaml:3:3: a is a git commit"},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@runtime:1.0.0:\n    resolution: {type: variations}\n", "pnpm-lock.yaml:3:3: a is a variations, and no package"},
		{"pnpm", "lockfileVersion: '9.0'\npackages:\n  a@1.0.0: {resolution: {integrity: " + sri + "}}\n  a@1.0.0+x: {resolution: {integrity: sha1-" + strings.Repeat("A", 27) + "=}}\n",
			"pnpm-lock.yaml:4:3: a of version 1.0.0+x is another than that of line 3"},
		{"pnpm", "lockfileVersion: '9.0'\npackages: [x]\n", "pnpm-lock.yaml:2:11: packages"},
		{"pnpm", "lockfileVersion: 5.4\npackages: {}\n", "pnpm-lock.yaml:1:1: no lock file of pnpm 8 or later"},
		{"pnpm", "a: [\n", "pnpm-lock.yaml:"},

		{"cargo", "version = 3\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+https://example.org/i\"\n", "Cargo.lock:3:1: a has no checksum"},
		{"cargo", "[[package]]\nname = \"../a\"\nversion = \"1\"\nsource = \"registry+https://example.org/i\"\n", `Cargo.lock:1:1: "../a" is no name or version of a crate`},
		{"cargo", "[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"git+https://example.org/i\"\n", "Cargo.lock:1:1: a has no commit"},
		{"cargo", "[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"ftp://example.org/i\"\n", "Cargo.lock:1:1: a has the source"},
		{"cargo", "[[package]]\nname = \n", "Cargo.lock:2:8: "},

		{"pip", "a==1\n", "requirements.txt:1:1: a==1 has no --hash=sha256:..."},
		{"pip", "# first\na==1 --hash=sha256:" + hash + "\nb==2\n", "requirements.txt:3:1: b==2 has no --hash"},
		{"pip", "a==1 \\\n  --hash=md5:00\n", `requirements.txt:1:1: "md5:00" is no hash`},
		{"pip", "\na>=1 --hash=sha256:" + hash + "\n", `requirements.txt:2:1: "a>=1" names no version`},
		{"pip", "-r more.txt\n", "reading more.txt: "},
	} {
		var err error
		switch c.kind {
		case "npm":
			_, err = NPM("package-lock.json", []byte(c.text))
		case "yarn":
			_, err = Yarn("yarn.lock", []byte(c.text), true)
		case "pnpm":
			_, err = PNPM("pnpm-lock.yaml", []byte(c.text), true)
		case "cargo":
			_, err = Cargo("Cargo.lock", []byte(c.text))
		case "pip":
			_, err = Requirements("requirements.txt", true, func(name string) ([]byte, error) {
				if name != "requirements.txt" {
					return nil, fmt.Errorf("reading %s: %w", name, fs.ErrNotExist)
				}
				return []byte(c.text), nil
			})
		}
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %q: error %v, want %s", c.kind, c.text, err, c.want)
		}
	}
}

// TestNPM: which packages there are in the oldest form, and which are needed on which machine.
func TestNPM(t *testing.T) {
	list, err := NPM("package-lock.json", []byte(`{"lockfileVersion": 1, "dependencies": {
  "a": {"version": "1.0.0", "resolved": "https://registry.example/a/-/a-1.0.0.tgz", "integrity": "`+sri+`", "requires": {"b": "^2.0.0"},
    "dependencies": {"b": {"version": "2.0.0", "integrity": "sha1-`+strings.Repeat("A", 27)+`="}}},
  "f": {"version": "file:../f"}, "c": {"version": "1.0.0", "bundled": true, "integrity": "`+sri+`"},
  "alias": {"version": "npm:@real/name@3.0.0", "integrity": "`+sri+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, p.Name+"@"+p.Version+" "+p.Algorithm+" "+p.Resolved)
	}
	if is := strings.Join(got, ", "); is != "b@2.0.0 sha1 , a@1.0.0 sha512 https://registry.example/a/-/a-1.0.0.tgz, @real/name@3.0.0 sha512 " {
		t.Error(is)
	}

	for _, c := range []struct {
		about, arch string
		want        bool
	}{
		{`{}`, "x86_64", true},
		{`{"os": ["win32"]}`, "x86_64", true},
		{`{"optional": true, "os": ["win32"]}`, "x86_64", false},
		{`{"optional": true, "os": ["linux"], "cpu": ["x64"]}`, "x86_64", true},
		{`{"optional": true, "os": ["linux"], "cpu": ["x64"]}`, "aarch64", false},
		{`{"optional": true, "os": ["!win32"], "cpu": "arm64"}`, "aarch64", true},
		{`{"optional": true, "os": ["!linux"]}`, "aarch64", false},
	} {
		p := NPMPackage{}
		if err := json.Unmarshal([]byte(c.about), &p.About); err != nil {
			t.Fatal(err)
		}
		if p.Needed(c.arch) != c.want {
			t.Errorf("%s on %s: want %v", c.about, c.arch, c.want)
		}
	}
}

// TestYarn: what there is to fetch, and how yarn calls it.
func TestYarn(t *testing.T) {
	sha1 := strings.Repeat("0", 40)
	list, err := Yarn("yarn.lock", []byte(`# yarn lockfile v1


"@some/shout@^2.0.0", "@some/shout@~2.0.1":
  version "2.0.1"
  resolved "https://registry.example/@some/shout/-/shout-2.0.1.tgz#`+sha1+`"
  integrity "sha1-AAAA `+sri+`"
  dependencies:
    version "^1.0.0"
"@some%2fcry@1":
  version "1.0.0"
  resolved "https://registry.example/npm/@some%2fcry/-/cry-1.0.0.tgz?x=/y#`+sha1+`"
alias@npm:@real/name@3, alias@npm:@real/name@^3.0.0:
  version "3.0.0"
  resolved name-3.0.0.tgz#`+sha1+`
"hosted@https://host.example/x/y/tar.gz/`+sha1+`":
  version "0.1.0"
  resolved "https://host.example/x/y/tar.gz/`+sha1+"#"+sha1+`"
"linked@link:../linked":
  version "0.0.0"
"packed@file:./packed.tgz":
  version "1.0.0"
  resolved "file:./packed.tgz#`+sha1+`"
`), true)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%d: %s@%s %s %s %s", p.Pos.Line, p.Name, p.Version, p.Algorithm, p.File, p.Resolved), sha1, "ZERO"))
	}
	if is := strings.Join(got, "\n"); is != `4: @some/shout@2.0.1 sha512 @some-shout-2.0.1.tgz https://registry.example/@some/shout/-/shout-2.0.1.tgz
10: @some%2fcry@1.0.0 sha1 @some-cry-1.0.0.tgz https://registry.example/npm/@some%2fcry/-/cry-1.0.0.tgz?x=/y
13: @real/name@3.0.0 sha1 name-3.0.0.tgz `+`
16: hosted@0.1.0 sha1 ZERO https://host.example/x/y/tar.gz/ZERO` {
		t.Error(is)
	}
	if list, err := Yarn("yarn.lock", []byte("__metadata:\n  version: 8\n"), false); err != nil || list != nil {
		t.Errorf("a lock file of a later yarn: %v, %v", list, err)
	}
}

// TestPNPM: what both versions say of the same packages, where those are in a registry, and who needs them.
func TestPNPM(t *testing.T) {
	for version, text := range map[string]string{
		"6.0": `lockfileVersion: '6.0'
packages:
  /@a/b@1.0.0+build(c@2.0.0):
    resolution: {integrity: SRI}
  /c@2.0.0:
    resolution: {integrity: SRI}
    os: [win32]
  /d@3.0.0:
    resolution: {integrity: SRI}
    os: [win32]
    optional: true
  '@e.example/x/e.tgz':
    resolution: {integrity: SRI, tarball: https://e.example/x/e.tgz}
    name: e
    version: 4.0.0
  file:here:
    resolution: {directory: here, type: directory}
    name: here
`,
		"9.0": `lockfileVersion: '9.0'
packages:
  '@a/b@1.0.0+build':
    resolution: {integrity: SRI}
  c@2.0.0:
    resolution: {integrity: SRI}
    os: [win32]
  d@3.0.0:
    resolution: {integrity: SRI}
    os: [win32]
  e@https://e.example/x/e.tgz:
    resolution: {integrity: SRI, tarball: https://e.example/x/e.tgz}
    version: 4.0.0
  here@file:here.tgz:
    resolution: {integrity: SRI, tarball: file:here.tgz}
snapshots:
  '@a/b@1.0.0+build(c@2.0.0)': {}
  c@2.0.0(x@1): {optional: true}
  c@2.0.0(x@2): {}
  d@3.0.0: {optional: true}
  e@https://e.example/x/e.tgz: {}
`} {
		list, err := PNPM("pnpm-lock.yaml", []byte(strings.ReplaceAll(text, "SRI", sri)), true)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, fmt.Sprintf("%s %s %s %v", p.Version, p.File, p.Resolved, p.Needed("x86_64")))
		}
		if is := strings.Join(got, "\n"); is != `1.0.0+build @a/b/-/b-1.0.0.tgz  true
2.0.0 c/-/c-2.0.0.tgz  true
3.0.0 d/-/d-3.0.0.tgz  false
4.0.0 e/-/e-4.0.0.tgz https://e.example/x/e.tgz true` {
			t.Errorf("%s: %s", version, is)
		}
	}
	if list, err := PNPM("pnpm-lock.yaml", []byte("lockfileVersion: 5.4\n"), false); err != nil || list != nil {
		t.Errorf("a lock file of an earlier pnpm: %v, %v", list, err)
	}
}

// TestInstallable: which files of a Python project are of use on a machine.
func TestInstallable(t *testing.T) {
	for file, want := range map[string]bool{
		"n-1.tar.gz": true, "n-1-py3-none-any.whl": true, "n-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": true,
		"n-1-cp312-cp312-musllinux_1_2_aarch64.whl": false, "n-1-cp312-cp312-macosx_11_0_x86_64.whl": false, "n-1-cp312-cp312-win_amd64.whl": false,
	} {
		if Installable(file, "x86_64") != want {
			t.Errorf("%s: want %v", file, want)
		}
	}
}

func FuzzNPM(f *testing.F) {
	f.Add([]byte(`{"packages": {"node_modules/a": {"version": "1.0.0", "integrity": "` + sri + `"}}}`))
	f.Add([]byte(`{"lockfileVersion": 1, "dependencies": {"a": {"version": "1", "dependencies": {"b": {}}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := NPM("package-lock.json", data)
		if err != nil {
			return
		}
		for _, p := range list {
			if !filepath.IsLocal(p.Name) || len(p.Digest) == 0 || p.Pos.Line < 1 {
				t.Fatalf("%+v was accepted", p)
			}
		}
	})
}

func FuzzYarn(f *testing.F) {
	f.Add([]byte("\"@a/b@1\", c@2:\n  version \"1.0.0\"\n  resolved \"https://r.example/@a/b/-/b-1.0.0.tgz#" + strings.Repeat("0", 40) + "\"\n"))
	f.Add([]byte("a@npm:@b/c@1:\n  version \"1.0.0\"\n  resolved c-1.0.0.tgz\n  integrity " + sri + "\n  dependencies:\n    d 1\n"))
	f.Add([]byte("__metadata:\n  version: 8\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Yarn("yarn.lock", data, true)
		if err != nil {
			return
		}
		for _, p := range list {
			if p.File != filepath.Base(p.File) || !filepath.IsLocal(p.File) || p.File == "." || len(p.Digest) == 0 || p.Pos.Line < 1 {
				t.Fatalf("%+v was accepted", p)
			}
			if p.Resolved == "" && (!filepath.IsLocal(p.Name) || strings.Contains(p.Version, "/")) {
				t.Fatalf("%+v was accepted", p)
			}
		}
	})
}

func FuzzPNPM(f *testing.F) {
	f.Add([]byte("lockfileVersion: '9.0'\npackages:\n  '@a/b@1.0.0+x':\n    resolution: {integrity: " + sri + "}\n    os: [win32]\nsnapshots:\n  '@a/b@1.0.0+x(c@1)': {optional: true}\n"))
	f.Add([]byte("lockfileVersion: '6.0'\npackages:\n  /a@1:\n    resolution: {integrity: " + sri + ", tarball: https://x.example/a}\n    name: b\n    version: '2'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := PNPM("pnpm-lock.yaml", data, true)
		if err != nil {
			return
		}
		for _, p := range list {
			if !filepath.IsLocal(p.File) || filepath.Clean(p.File) != p.File || strings.ContainsAny(p.File, "\\%?# \"\n") || len(p.Digest) == 0 || p.Pos.Line < 1 {
				t.Fatalf("%+v was accepted", p)
			}
		}
	})
}

func FuzzCargo(f *testing.F) {
	f.Add([]byte("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+https://example.org/i\"\nchecksum = \"" + strings.Repeat("0", 64) + "\"\n"))
	f.Add([]byte("[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"git+https://example.org/i#" + strings.Repeat("0", 40) + "\"\n"))
	f.Add([]byte("[metadata]\n\"checksum a 1 (registry+https://example.org/i)\" = \"00\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Cargo("Cargo.lock", data)
		if err != nil {
			return
		}
		for _, p := range list {
			if !filepath.IsLocal(p.Name + "-" + p.Version) {
				t.Fatalf("%+v was accepted", p)
			}
			if strings.ContainsAny(p.Source, "\"\n") {
				t.Fatalf("%q was accepted", p.Source)
			}
		}
	})
}

func FuzzRequirements(f *testing.F) {
	hash := strings.Repeat("0", 64)
	f.Add("a==1 \\\n  --hash=sha256:"+hash+" # why\n-r more.txt\n", "b @ https://example.org/b.whl --hash=sha256:"+hash+"\n")
	f.Add("--index-url https://example.org/simple\nc[x]==2 ; python_version < '3' --hash=sha512:"+hash+hash+"\n", "")
	f.Fuzz(func(t *testing.T, text, more string) {
		list, err := Requirements("requirements.txt", true, func(name string) ([]byte, error) {
			if name == "more.txt" {
				return []byte(more), nil
			}
			return []byte(text), nil
		})
		if err != nil {
			return
		}
		for _, r := range list {
			if len(r.Hashes) == 0 || r.Pos.Line < 1 || r.Name == "" && r.Address == "" {
				t.Fatalf("%+v was accepted", r)
			}
		}
	})
}
