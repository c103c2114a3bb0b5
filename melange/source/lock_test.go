package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"distro.internal/melange/recipe"
)

// What npm, cargo and pip make of what is laid out here is proven by TestClients of ci, with those of Debian.

var sri = "sha512-" + strings.Repeat("A", 86) + "=="

// TestLockMistakes: what is wrong with a lock file, with its place in it.
func TestLockMistakes(t *testing.T) {
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
		workspace := t.TempDir()
		name := map[string]string{"npm": "package-lock.json", "cargo": "Cargo.lock", "pip": "requirements.txt"}[c.kind]
		writeFile(t, filepath.Join(workspace, name), c.text)
		_, err := testStore(t).Prepare(t.Context(), []recipe.Source{{Kind: c.kind, Directory: ".", Arch: "x86_64"}}, workspace, t.TempDir())
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %q: error %v, want %s", c.kind, c.text, err, c.want)
		}
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestLockAbsent: a lock file is looked for upwards, must be there when the recipe asks, and need not when a command does.
func TestLockAbsent(t *testing.T) {
	workspace := t.TempDir()
	writeFile(t, filepath.Join(workspace, "member", "x"), "")
	src := recipe.Source{Kind: recipe.SourceCargo, Directory: "member"}
	_, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "there is no Cargo.lock in /home/build/member") {
		t.Errorf("no lock file: error %v", err)
	}
	found := src
	found.Found = true
	if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{found}, workspace, t.TempDir()); err != nil {
		t.Errorf("a command that asks: error %v", err)
	}
	writeFile(t, filepath.Join(workspace, "Cargo.lock"), "version = 4\n")
	p, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, t.TempDir())
	if err != nil || p.Layout.Folders[cargoConfig] == "" {
		t.Errorf("a lock file above: %v, %v", p.Layout, err)
	}
	found.Kind, found.Directory = recipe.SourcePip, "."
	writeFile(t, filepath.Join(workspace, "requirements.txt"), "requests\n")
	if p, err := testStore(t).Prepare(t.Context(), []recipe.Source{found}, workspace, t.TempDir()); err != nil || len(p.Layout.Env) > 0 {
		t.Errorf("requirements without hashes: %v, %v", p.Layout, err)
	}
}

// TestLockedFiles: what is fetched is what the lock file says, whoever has it, and is fetched once.
func TestLockedFiles(t *testing.T) {
	body := "a crate"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	var asked atomic.Int64
	served := body
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, served)
	}))
	defer server.Close()
	wheel := "w-1-py3-none-any.whl"
	prepare := func(s *Store) error {
		workspace := t.TempDir()
		writeFile(t, filepath.Join(workspace, "requirements.txt"), "w @ "+server.URL+"/"+wheel+" --hash=sha256:"+sum+"\n")
		caches := t.TempDir()
		_, err := s.Prepare(t.Context(), []recipe.Source{{Kind: recipe.SourcePip, Directory: ".", Arch: "x86_64"}}, workspace, caches)
		if err == nil {
			wantFile(t, filepath.Join(caches, wheelFolder, wheel), []byte(body))
			wantFile(t, filepath.Join(workspace, "requirements.txt"),
				[]byte("w @ file:///var/cache/melange/wheels/"+wheel+" --hash=sha256:"+sum+"\n"))
		}
		return err
	}
	s := testStore(t)
	for range 2 {
		if err := prepare(s); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	s.Offline = true
	if err := prepare(s); err != nil {
		t.Errorf("offline, with all in the store: %v", err)
	}

	// A mirror that has the digest is asked before the address; an empty store that is offline fails at once.
	mirrored := testStore(t)
	mirrored.Mirrors = []Mirror{DigestMirror{Address: s.Dir}}
	if err := prepare(mirrored); err != nil || asked.Load() != 1 {
		t.Errorf("from a mirror: %v, asked %d times", err, asked.Load())
	}
	empty := testStore(t)
	empty.Offline = true
	if err := prepare(empty); !errors.Is(err, errOffline) || !strings.HasPrefix(err.Error(), "requirements.txt:1:1: fetching "+wheel) {
		t.Errorf("offline, with an empty store: %v", err)
	}

	served = "another"
	var mismatch *MismatchError
	if err := prepare(testStore(t)); !errors.As(err, &mismatch) {
		t.Errorf("another file at the address: %v", err)
	}
}

// TestNPMLayout: which packages are fetched for which machine, and where npm's registry has them.
func TestNPMLayout(t *testing.T) {
	list, err := parseNPM("package-lock.json", []byte(`{"lockfileVersion": 1, "dependencies": {
  "a": {"version": "1.0.0", "resolved": "https://registry.example/a/-/a-1.0.0.tgz", "integrity": "`+sri+`", "requires": {"b": "^2.0.0"},
    "dependencies": {"b": {"version": "2.0.0", "integrity": "sha1-`+strings.Repeat("A", 27)+`="}}},
  "f": {"version": "file:../f"}, "c": {"version": "1.0.0", "bundled": true, "integrity": "`+sri+`"},
  "alias": {"version": "npm:@real/name@3.0.0", "integrity": "`+sri+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range list {
		got = append(got, p.what+" "+p.algorithm+" "+registryPath(p.want.URI))
	}
	if is := strings.Join(got, ", "); is != "b@2.0.0 sha1 , a@1.0.0 sha512 a/-/a-1.0.0.tgz, @real/name@3.0.0 sha512 " {
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
		p := npmPackage{}
		if err := json.Unmarshal([]byte(c.about), &p.about); err != nil {
			t.Fatal(err)
		}
		if p.needed(c.arch) != c.want {
			t.Errorf("%s on %s: want %v", c.about, c.arch, c.want)
		}
	}
}

// TestIndex: both forms of an index say the same, and the files for the machine are taken.
func TestIndex(t *testing.T) {
	sums := []string{strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64), strings.Repeat("d", 64)}
	files := []string{"n-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "n-1-cp312-cp312-musllinux_1_2_aarch64.whl", "n-1.tar.gz", "n-1-cp312-cp312-macosx_11_0_arm64.whl"}
	var object struct {
		Files []map[string]any `json:"files"`
	}
	page := "<html><body>"
	for i, name := range files {
		object.Files = append(object.Files, map[string]any{"filename": name, "url": "../files/" + name, "hashes": map[string]string{"sha256": sums[i]}})
		page += fmt.Sprintf("<a href=\"../files/%s#sha256=%s\">%s</a>", name, sums[i], name)
	}
	for _, form := range []string{"application/vnd.pypi.simple.v1+json", "text/html"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", form)
			switch {
			case r.URL.Path != "/simple/some-name/":
				http.NotFound(w, r)
			case form == "text/html":
				fmt.Fprint(w, page)
			default:
				json.NewEncoder(w).Encode(object)
			}
		}))
		r := requirement{name: "Some.Name", version: "1", indexes: []string{server.URL + "/simple"}}
		for _, sum := range sums {
			r.hashes = append(r.hashes, "sha256:"+sum)
		}
		s := testStore(t)
		found, err := s.distributions(t.Context(), r, "x86_64")
		if err != nil || len(found) != 2 || found[0].File != files[0] || found[1].URL != server.URL+"/simple/files/"+files[2] {
			t.Errorf("%s: %v, %v", form, found, err)
		}
		server.Close()
		if again, err := s.distributions(t.Context(), r, "x86_64"); err != nil || len(again) != 2 {
			t.Errorf("%s: what was said is not remembered: %v, %v", form, again, err)
		}
		if _, err := s.distributions(t.Context(), r, "aarch64"); err == nil {
			t.Errorf("%s: another architecture has the same files", form)
		}
	}
}

// TestCargoConfiguration: which registry is asked for what a Cargo.lock names, and where that has a crate.
func TestCargoConfiguration(t *testing.T) {
	home := t.TempDir()
	writeFile(t, filepath.Join(home, "config.toml"), `
[source.crates-io]
replace-with = "mirror"
[source.mirror]
registry = "sparse+https://mirror.example/index/"
[source.own]
registry = "https://own.example/git"
replace-with = "ours"
[registries.ours]
index = "sparse+https://ours.example/"
`)
	r := &cargoRegistries{store: &Store{Environ: []string{"CARGO_HOME=" + home}}}
	if r.readConfig(); r.err != nil {
		t.Fatal(r.err)
	}
	for source, want := range map[string]string{
		defaultIndex:                       "sparse+https://mirror.example/index/",
		"registry+https://own.example/git": "sparse+https://ours.example/",
		"sparse+https://third.example/":    "sparse+https://third.example/",
		"registry+https://fourth.example/": "registry+https://fourth.example/",
	} {
		if got := r.config.replaced(source); got != want {
			t.Errorf("%s is asked of %s, want %s", source, got, want)
		}
	}
	p := cargoPackage{Name: "Abcd", Version: "1.0.0", Checksum: "ff"}
	for template, want := range map[string]string{
		"https://x.example/api":                                      "https://x.example/api/Abcd/1.0.0/download",
		"https://x.example/{crate}/{version}.crate":                  "https://x.example/Abcd/1.0.0.crate",
		"https://x.example/{prefix}/{lowerprefix}/{sha256-checksum}": "https://x.example/Ab/cd/ab/cd/ff",
	} {
		if got := crateAddress(template, p); got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
}

// TestCargoOfThisMachine: a registry that only cargo knows of is asked by cargo, and what it fetched is taken by digest.
func TestCargoOfThisMachine(t *testing.T) {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("cargo is what is asked")
	}
	var crate bytes.Buffer
	z := gzip.NewWriter(&crate)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{
		"greet-1.2.3/Cargo.toml": "[package]\nname = \"greet\"\nversion = \"1.2.3\"\n", "greet-1.2.3/src/lib.rs": "",
	} {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
		w.Write([]byte(text))
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(crate.Bytes()))
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/index/config.json", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"dl": "%s/{crate}-{version}.crate"}`, server.URL)
	})
	mux.HandleFunc("/index/gr/ee/greet", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"name": "greet", "vers": "1.2.3", "deps": [], "cksum": "%s", "features": {}, "yanked": false}`, sum)
	})
	mux.HandleFunc("/greet-1.2.3.crate", func(w http.ResponseWriter, r *http.Request) { w.Write(crate.Bytes()) })

	workspace, home := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(home, "config.toml"), "[source.crates-io]\nreplace-with = \"here\"\n")
	writeFile(t, filepath.Join(workspace, "Cargo.toml"), "[package]\nname = \"app\"\nversion = \"1.0.0\"\n[dependencies]\ngreet = \"1\"\n")
	writeFile(t, filepath.Join(workspace, "src", "lib.rs"), "")
	writeFile(t, filepath.Join(workspace, "Cargo.lock"), "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"1.0.0\"\ndependencies = [\n \"greet\",\n]\n\n"+
		"[[package]]\nname = \"greet\"\nversion = \"1.2.3\"\nsource = \""+defaultIndex+"\"\nchecksum = \""+sum+"\"\n")
	// What came with the program is not listened to.
	writeFile(t, filepath.Join(workspace, ".cargo", "config.toml"), "[source.crates-io]\nreplace-with = \"nothing\"\n")
	s := testStore(t)
	s.Environ = append(os.Environ(), "CARGO_HOME="+home, "CARGO_REGISTRIES_HERE_INDEX=sparse+"+server.URL+"/index/")
	caches := t.TempDir()
	if _, err := s.Prepare(t.Context(), []recipe.Source{{Kind: recipe.SourceCargo, Directory: "."}}, workspace, caches); err != nil {
		t.Fatal(err)
	}
	wantFile(t, s.path("sha256", sum), crate.Bytes())
	wantFile(t, filepath.Join(caches, cargoFolder, "0", "greet-1.2.3", "src", "lib.rs"), nil)
}

// TestCrateConfiguration: the sources of a Cargo.lock as cargo's configuration describes them.
func TestCrateConfiguration(t *testing.T) {
	for source, want := range map[string]string{
		defaultIndex:                    "[source.crates-io]\n",
		"sparse+https://third.example/": "[source.\"sparse+https://third.example/\"]\nregistry = \"sparse+https://third.example/\"\n",
		"registry+https://a.example/i":  "[source.\"registry+https://a.example/i\"]\nregistry = \"https://a.example/i\"\n",
		"git+https://a.example/r?branch=b%2Fc#0123": "[source.\"git+https://a.example/r?branch=b%2Fc#0123\"]\n" +
			"git = \"https://a.example/r\"\nbranch = \"b/c\"\n",
	} {
		if got := replacedSource(source); got != want {
			t.Errorf("%s is %s, want %s", source, got, want)
		}
	}
}

func FuzzNPM(f *testing.F) {
	f.Add([]byte(`{"packages": {"node_modules/a": {"version": "1.0.0", "integrity": "` + sri + `"}}}`))
	f.Add([]byte(`{"lockfileVersion": 1, "dependencies": {"a": {"version": "1", "dependencies": {"b": {}}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseNPM("package-lock.json", data)
		if err != nil {
			return
		}
		for _, p := range list {
			if !filepath.IsLocal(p.name) || len(p.want.digests()) != 1 || p.pos.Line < 1 {
				t.Fatalf("%q was accepted: %+v", p.what, p)
			}
		}
		if err := writePackuments(t.TempDir(), list, nil, nil); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzCargo(f *testing.F) {
	f.Add([]byte("[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry+https://example.org/i\"\nchecksum = \"" + strings.Repeat("0", 64) + "\"\n"))
	f.Add([]byte("[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"git+https://example.org/i#" + strings.Repeat("0", 40) + "\"\n"))
	f.Add([]byte("[metadata]\n\"checksum a 1 (registry+https://example.org/i)\" = \"00\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseCargo("Cargo.lock", data)
		if err != nil {
			return
		}
		for _, p := range list {
			if !filepath.IsLocal(p.Name + "-" + p.Version) {
				t.Fatalf("%+v was accepted", p)
			}
			if text := replacedSource(p.Source); strings.Count(text, "\n[") > 0 {
				t.Fatalf("%q makes %q", p.Source, text)
			}
		}
	})
}

func FuzzRequirements(f *testing.F) {
	hash := strings.Repeat("0", 64)
	f.Add("a==1 \\\n  --hash=sha256:"+hash+" # why\n-r more.txt\n", "b @ https://example.org/b.whl --hash=sha256:"+hash+"\n")
	f.Add("--index-url https://example.org/simple\nc[x]==2 ; python_version < '3' --hash=sha512:"+hash+hash+"\n", "")
	f.Fuzz(func(t *testing.T, text, more string) {
		list, err := readRequirements("requirements.txt", true, func(name string) ([]byte, error) {
			if name == "more.txt" {
				return []byte(more), nil
			}
			return []byte(text), nil
		})
		if err != nil {
			return
		}
		for _, r := range list {
			if len(r.hashes) == 0 || r.pos.Line < 1 || r.name == "" && r.address == "" {
				t.Fatalf("%+v was accepted", r)
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`<a href="../x-1.whl#sha256=00">x</a>`))
	f.Add([]byte(`{"files": [{"filename": "x-1.whl", "url": "x", "hashes": {"sha256": "00"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseIndexHTML(data)
		parseIndexJSON(data)
	})
}
