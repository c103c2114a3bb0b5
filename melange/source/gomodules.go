package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"distro.internal/melange/recipe"
)

// modules is the folder that go reads as a GOPROXY. All programs share it: go
// believes nothing in it that the go.sum of a program does not confirm.
func (s *Store) modules() string { return filepath.Join(s.Dir, "go", "cache", "download") }

// goProxy is where steps see that folder.
const goProxy = recipe.CacheDir + "/goproxy"

// placeGoMod has the modules of a program in the proxy, and steps ask nothing else.
func (s *Store) placeGoMod(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	if err := workspace.MkdirAll(src.Directory, 0o755); err != nil {
		return err
	}
	if err := s.download(ctx, filepath.Join(workspace.Name(), src.Directory), workspace.Name()); err != nil {
		return err
	}
	if err := os.MkdirAll(s.modules(), 0o755); err != nil { // a program may have no modules but itself
		return err
	}
	l.show(goProxy, s.modules())
	l.set("GOPROXY", "file://"+goProxy)
	l.set("GOSUMDB", "off")
	l.set("GOTOOLCHAIN", "local")
	l.set("GOFLAGS", "-mod=mod")
	return nil
}

// download brings the modules that the program in dir is made of into the
// store. What go.mod and go.sum ask for is fetched once.
func (s *Store) download(ctx context.Context, dir, workspace string) error {
	key, err := moduleKey(dir)
	if err != nil {
		return fmt.Errorf("reading the modules of %s: %w", dir, err)
	}
	mark := filepath.Join(s.Dir, "go", "complete", key)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if s.Offline {
		return fmt.Errorf("fetching the modules of %s: %w", dir, errOffline)
	}
	if _, err := s.goTool(ctx, dir, workspace, "mod", "download"); err != nil {
		return fmt.Errorf("fetching the modules of %s: %w", dir, err)
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

// moduleKey names what go mod download would fetch for the program in dir.
func moduleKey(dir string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && (name == "go.mod" || !errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// goTool runs the go command of this machine on the host: it fetches and
// verifies, and compiles nothing.
func (s *Store) goTool(ctx context.Context, dir, workspace string, args ...string) ([]byte, error) {
	cache, err := filepath.Abs(filepath.Join(s.Dir, "go"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = s.Environ
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "GOMODCACHE="+cache, "GOFLAGS=-mod=mod -modcacherw", "GO111MODULE=on",
		"GOTOOLCHAIN=local", "GOWORK="+goWork(dir, workspace))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, lastLines(stderr.String(), 10))
	}
	return out, nil
}

// goWork finds the go.work that is in force in dir. One above the workspace is
// not the program's.
func goWork(dir, workspace string) string {
	for isBelow(dir, workspace) {
		name := filepath.Join(dir, "go.work")
		if _, err := os.Stat(name); err == nil {
			return name
		}
		dir = filepath.Dir(dir)
	}
	return "off"
}

// lastLines puts the last lines of what a program said into one.
func lastLines(s string, n int) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// module returns the zip of a single module in the store, which has the sum
// that the source says.
func (s *Store) module(ctx context.Context, src recipe.Source) (string, error) {
	name, err := s.findModule(ctx, src)
	if err != nil {
		return "", fmt.Errorf("fetching module %s@%s: %w", src.Module, src.Version, err)
	}
	return name, nil
}

func (s *Store) findModule(ctx context.Context, src recipe.Source) (string, error) {
	escaped, err := module.EscapePath(src.Module)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(src.Version)
	if err != nil {
		return "", err
	}
	zip := filepath.Join(s.modules(), filepath.FromSlash(escaped), "@v", version+".zip")
	if _, err := os.Stat(zip); err != nil || src.Sum == "" {
		if s.Offline {
			return "", errOffline
		}
		if zip, err = s.downloadModule(ctx, src); err != nil {
			return "", err
		}
	}
	sum, err := dirhash.HashZip(zip, dirhash.Hash1)
	if err != nil {
		return "", err
	}
	if src.Sum != "" && sum != src.Sum {
		return "", &MismatchError{From: "the module", Algorithm: "sum", Want: src.Sum, Got: sum}
	}
	return zip, nil
}

// downloadModule has go fetch one module, away from any go.mod.
func (s *Store) downloadModule(ctx context.Context, src recipe.Source) (string, error) {
	dir, err := os.MkdirTemp("", "module-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	out, err := s.goTool(ctx, dir, dir, "mod", "download", "-json", src.Module+"@"+src.Version)
	var found struct{ Zip, Error string }
	if jsonErr := json.Unmarshal(out, &found); jsonErr == nil && found.Error != "" {
		return "", errors.New(found.Error)
	} else if err == nil {
		err = jsonErr
	}
	return found.Zip, err
}

// placeModule writes the files of a module, whose names in the zip all begin
// with module@version/.
func (s *Store) placeModule(ctx context.Context, src recipe.Source, dir *os.Root) (time.Time, error) {
	name, err := s.module(ctx, src)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := unpack(ctx, name, dir, strings.Count(src.Module, "/")+1); err != nil {
		return time.Time{}, fmt.Errorf("unpacking module %s@%s: %w", src.Module, src.Version, err)
	}
	return time.Time{}, nil // a module's zip has no times
}
