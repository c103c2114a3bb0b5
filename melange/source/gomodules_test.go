package source

import (
	"archive/zip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"

	"distro.internal/melange/recipe"
)

// moduleProxy makes a GOPROXY of files with one module.
func moduleProxy(t *testing.T) (dir, sum, modSum string) {
	t.Helper()
	dir = t.TempDir()
	at := filepath.Join(dir, "example.org", "m", "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	const mod = "module example.org/m\n\ngo 1.21\n"
	f, err := os.Create(filepath.Join(at, "v1.2.3.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(f)
	for name, body := range map[string]string{"go.mod": mod, "m.go": "package m\n", "sub/x.go": "package sub\n"} {
		e, err := w.Create("example.org/m@v1.2.3/" + name)
		if err != nil {
			t.Fatal(err)
		}
		e.Write([]byte(body))
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"v1.2.3.mod": mod, "v1.2.3.info": `{"Version":"v1.2.3","Time":"2024-05-06T07:08:09Z"}`, "list": "v1.2.3\n",
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err = dirhash.HashZip(f.Name(), dirhash.Hash1); err != nil {
		t.Fatal(err)
	}
	goMod := filepath.Join(t.TempDir(), "go.mod")
	if err := os.WriteFile(goMod, []byte(mod), 0o644); err != nil {
		t.Fatal(err)
	}
	modSum, err = dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return os.Open(goMod) })
	if err != nil {
		t.Fatal(err)
	}
	return dir, sum, modSum
}

func moduleStore(t *testing.T, proxy string) *Store {
	s := testStore(t)
	s.Environ = append(os.Environ(), "GOPROXY=file://"+proxy, "GOSUMDB=off", "GONOSUMDB=", "GOPRIVATE=", "GONOPROXY=")
	return s
}

func TestModulesOfProgram(t *testing.T) {
	proxy, sum, modSum := moduleProxy(t)
	s := moduleStore(t, proxy)
	program := func(sum string) string {
		workspace := t.TempDir()
		for name, body := range map[string]string{
			"go.mod": "module p\n\ngo 1.21\n\nrequire example.org/m v1.2.3\n",
			"go.sum": "example.org/m v1.2.3 " + sum + "\nexample.org/m v1.2.3/go.mod " + modSum + "\n",
		} {
			if err := os.WriteFile(filepath.Join(workspace, name), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return workspace
	}
	src := []recipe.Source{{Kind: recipe.SourceGoMod, Directory: "."}}
	p, err := s.Prepare(t.Context(), src, program(sum), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(p.Layout.Folders[goProxy], "example.org", "m", "@v", "v1.2.3.zip")); err != nil {
		t.Errorf("the module is not in the proxy: %v", err)
	}
	wantPackages(t, p, ModulePackage("example.org/m", "v1.2.3", sum))
	s.Offline = true
	if p, err = s.Prepare(t.Context(), src, program(sum), ""); err != nil {
		t.Errorf("the same program again, offline: %v", err)
	}
	wantPackages(t, p, ModulePackage("example.org/m", "v1.2.3", sum))
	// A store from before modules were remembered has an empty file for each program.
	memories, err := filepath.Glob(filepath.Join(s.Dir, "go", "complete", "*"))
	if err != nil || len(memories) != 1 {
		t.Fatalf("%d programs are remembered: %v", len(memories), err)
	}
	writeFile(t, memories[0], "")
	if p, err = s.Prepare(t.Context(), src, program(sum), ""); err != nil {
		t.Errorf("the same program, offline, with all in the store: %v", err)
	}
	wantPackages(t, p, ModulePackage("example.org/m", "v1.2.3", sum))

	fresh := moduleStore(t, proxy)
	_, err = fresh.Prepare(t.Context(), src, program("h1:"+strings.Repeat("A", 43)+"="), "")
	if err == nil || !strings.Contains(err.Error(), "SECURITY ERROR") {
		t.Errorf("a module that go.sum does not confirm: error %v", err)
	}
}

// TestProgramWithoutModules: there is a proxy for it all the same, though nothing is in it.
func TestProgramWithoutModules(t *testing.T) {
	proxy, _, _ := moduleProxy(t)
	s := moduleStore(t, proxy)
	workspace := t.TempDir()
	if err := os.WriteFile(filepath.Join(workspace, "go.mod"), []byte("module p\n\ngo 1.21\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := s.Prepare(t.Context(), []recipe.Source{{Kind: recipe.SourceGoMod, Directory: "."}}, workspace, "")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p.Layout.Folders[goProxy]); err != nil || !info.IsDir() {
		t.Errorf("%s: %v", p.Layout.Folders[goProxy], err)
	}
}

func TestSingleModule(t *testing.T) {
	proxy, sum, _ := moduleProxy(t)
	s := moduleStore(t, proxy)
	src := recipe.Source{Kind: recipe.SourceModule, Module: "example.org/m", Version: "v1.2.3", Sum: sum, Directory: "x"}
	for _, offline := range []bool{false, true} {
		s.Offline = offline
		workspace := t.TempDir()
		if _, err := s.Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		wantFile(t, filepath.Join(workspace, "x", "sub", "x.go"), []byte("package sub\n"))
	}
	src.Sum = "h1:" + strings.Repeat("A", 43) + "="
	_, err := s.Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), "")
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || mismatch.Got != sum {
		t.Errorf("a module of another sum: error %v", err)
	}
}

// TestChangedModules: what a step will take in place of what go.sum names is in the proxy, and the program is as it was.
func TestChangedModules(t *testing.T) {
	proxy, sum, _ := moduleProxy(t)
	s := moduleStore(t, proxy)
	const mod = "module p\n\ngo 1.21\n"
	program := func(made string) string {
		workspace := t.TempDir()
		for name, body := range map[string]string{"go.mod": mod, "p.go": "package p\n\nimport _ \"example.org/m/sub\"\n", "made.go": made} {
			if err := os.WriteFile(filepath.Join(workspace, name), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return workspace
	}
	for _, src := range []recipe.Source{
		{Kind: recipe.SourceGoMod, Directory: ".", Deps: []string{"example.org/m@v1.2.3"}},
		{Kind: recipe.SourceGoMod, Directory: ".", Replaces: []string{"example.org/m=example.org/m@v1.2.3"}, Tidy: true},
		{Kind: recipe.SourceGoMod, Directory: ".", Tidy: true, Found: true},
	} {
		fresh := moduleStore(t, proxy)
		fresh.Offline = true
		if _, err := fresh.Prepare(t.Context(), []recipe.Source{src}, program("package p\n"), ""); !errors.Is(err, errOffline) {
			t.Errorf("%+v: offline, from an empty store: error %v", src, err)
		}
		fresh.Offline = false
		for range 2 {
			workspace := program("package p\n")
			p, err := fresh.Prepare(t.Context(), []recipe.Source{src, {Kind: recipe.SourceGoMod, Directory: "."}}, workspace, "")
			if err != nil {
				t.Fatalf("%+v: %v", src, err)
			}
			if _, err := os.Stat(filepath.Join(p.Layout.Folders[goProxy], "example.org", "m", "@v", "v1.2.3.zip")); err != nil {
				t.Errorf("%+v: the module is not in the proxy: %v", src, err)
			}
			wantFile(t, filepath.Join(workspace, "go.mod"), []byte(mod))
			wantPackages(t, p, ModulePackage("example.org/m", "v1.2.3", sum))
			fresh.Offline = true
		}
	}
	generated := program("package p\n\nimport _ \"p/internal/made\"\nimport _ \"example.org/absent\"\n")
	if _, err := s.Prepare(t.Context(), []recipe.Source{{Kind: recipe.SourceGoMod, Directory: ".", Tidy: true}}, generated, ""); err != nil {
		t.Errorf("a program that lacks what a step makes: %v", err)
	}
	_, err := s.Prepare(t.Context(), []recipe.Source{{Kind: recipe.SourceGoMod, Directory: ".", Deps: []string{"example.org/m@v9.9.9"}}}, program("package p\n"), "")
	if err == nil || !strings.Contains(err.Error(), "example.org/m@v9.9.9: ") {
		t.Errorf("a version that is not there: error %v", err)
	}
}

// TestFoundModules: what commands ask for is fetched only where there is a program, and where its modules are not in the
// sources; and go is never led out of the workspace.
func TestFoundModules(t *testing.T) {
	proxy, _, _ := moduleProxy(t)
	s := moduleStore(t, proxy)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret words"), 0o644); err != nil {
		t.Fatal(err)
	}
	found := recipe.Source{Kind: recipe.SourceGoMod, Directory: "sub", Found: true}
	for _, c := range []struct {
		name  string
		files map[string]string // -> TARGET is a link
		want  string            // of the error
		there bool
	}{
		{"nothing", nil, "", false},
		{"no program", map[string]string{"sub/x.go": ""}, "", false},
		{"a program", map[string]string{"sub/go.mod": "module p\n"}, "", true},
		{"vendored", map[string]string{"sub/go.mod": "module p\n", "sub/vendor/modules.txt": ""}, "", false},
		{"go.mod outside", map[string]string{"sub/go.mod": "-> " + outside}, "path escapes from parent", false},
		{"go.sum outside", map[string]string{"sub/go.mod": "module p\n", "sub/go.sum": "-> " + outside}, "path escapes from parent", false},
		{"go.work outside", map[string]string{"sub/go.mod": "module p\n", "go.work": "-> " + outside}, "path escapes from parent", false},
		{"go.work.sum outside", map[string]string{"sub/go.mod": "module p\n", "go.work": "use ./sub\n", "go.work.sum": "-> " + outside}, "path escapes from parent", false},
		{"folder outside", map[string]string{"sub": "-> " + filepath.Dir(outside)}, "path escapes from parent", false},
	} {
		workspace := t.TempDir()
		for name, body := range c.files {
			file := filepath.Join(workspace, name)
			err := os.MkdirAll(filepath.Dir(file), 0o755)
			if target, ok := strings.CutPrefix(body, "-> "); ok {
				err = errors.Join(err, os.Symlink(target, file))
			} else {
				err = errors.Join(err, os.WriteFile(file, []byte(body), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		p, err := s.Prepare(t.Context(), []recipe.Source{found}, workspace, "")
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		case err != nil && strings.Contains(err.Error(), "secret words"):
			t.Errorf("%s: the error tells what is outside: %v", c.name, err)
		case (p.Layout.Env["GOPROXY"] != "") != c.there:
			t.Errorf("%s: steps have %v", c.name, p.Layout.Env)
		}
	}
}
