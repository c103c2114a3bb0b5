package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
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

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// What npm, yarn, pnpm, cargo and pip make of what is laid out here is proven by TestClients of ci, with those of Debian.

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
		src := recipe.Source{Kind: recipe.SourcePip, Directory: ".", Arch: "x86_64"}
		p, err := s.Prepare(t.Context(), []recipe.Source{src, src}, workspace, caches) // two steps want it
		if err == nil {
			wantPackages(t, p, Package{
				Kind: recipe.SourcePip, Name: "w", Version: "1", URI: server.URL + "/" + wheel, Digests: []string{"sha256:" + sum},
			})
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

// TestPNPMAndNPM: what has an address of its own is put where pnpm's registry has others; npm cannot have that registry too.
func TestPNPMAndNPM(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "a package") }))
	defer server.Close()
	sum := sha512.Sum512([]byte("a package"))
	integrity := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	lock := "lockfileVersion: '9.0'\npackages:\n  '@a/b@1.0.0':\n    resolution: {integrity: " + integrity + ", tarball: ADDRESS}\n"
	workspace, caches := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(workspace, "pnpm-lock.yaml"), strings.ReplaceAll(lock, "ADDRESS", server.URL+"/b"))
	writeFile(t, filepath.Join(workspace, "package-lock.json"),
		`{"packages": {"node_modules/b": {"version": "1.0.0", "resolved": "`+server.URL+`/b", "integrity": "`+integrity+`"}}}`)
	s := testStore(t)
	s.Environ = []string{"npm_config_registry=" + server.URL}
	pnpm := recipe.Source{Kind: recipe.SourcePNPM, Directory: ".", Arch: "x86_64"}
	p, err := s.Prepare(t.Context(), []recipe.Source{pnpm}, workspace, caches)
	if err != nil || p.Layout.Env["npm_config_registry"] != pnpmRegistry {
		t.Fatalf("%v, %v", p.Layout, err)
	}
	wantFile(t, filepath.Join(caches, "pnpm", "registry", "@a", "b", "-", "b-1.0.0.tgz"), []byte("a package"))
	wantFile(t, filepath.Join(workspace, "pnpm-lock.yaml"), []byte(strings.ReplaceAll(lock, "ADDRESS", "./@a/b/-/b-1.0.0.tgz")))

	writeFile(t, filepath.Join(workspace, "pnpm-lock.yaml"), strings.ReplaceAll(lock, "ADDRESS", server.URL+"/b"))
	npm := pnpm
	npm.Kind = recipe.SourceNPM
	_, err = s.Prepare(t.Context(), []recipe.Source{pnpm, npm}, workspace, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "package-lock.json: a recipe has steps for npm or for pnpm") {
		t.Errorf("npm and pnpm: error %v", err)
	}
}

// TestRegistryPath: what of an address is the same in every registry.
func TestRegistryPath(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.example/x/-/x-1.0.0.tgz":           "x/-/x-1.0.0.tgz",
		"https://a.example/npm/@s/x/-/x-1.0.0.tgz":    "@s/x/-/x-1.0.0.tgz",
		"https://codeload.example/x/y/tar.gz/0123456": "",
	} {
		if got := registryPath(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
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
		r := lockfile.Requirement{Name: "Some.Name", Version: "1", Indexes: []string{server.URL + "/simple"}}
		for _, sum := range sums {
			r.Hashes = append(r.Hashes, "sha256:"+sum)
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
	p := lockfile.Crate{Name: "Abcd", Version: "1.0.0", Checksum: "ff"}
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
	if err := exec.Command("cargo", "--version").Run(); err != nil {
		t.Skip("cargo is what is asked, and none runs here: ", err) // there may be one that has nothing to run
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

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`<a href="../x-1.whl#sha256=00">x</a>`))
	f.Add([]byte(`{"files": [{"filename": "x-1.whl", "url": "x", "hashes": {"sha256": "00"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parseIndexHTML(data)
		parseIndexJSON(data)
	})
}
