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
	s.Offline = true
	if _, err := s.Prepare(t.Context(), src, program(sum), ""); err != nil {
		t.Errorf("the same program again, offline: %v", err)
	}

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
