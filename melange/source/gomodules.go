package source

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"distro.internal/melange/recipe"
	"distro.internal/shared/atomicfile"
)

// modules is the folder that go reads as a GOPROXY. All programs share it: go
// believes nothing in it that the go.sum of a program does not confirm.
func (s *Store) modules() string { return filepath.Join(s.Dir, "go", "cache", "download") }

// goProxy is where steps see that folder.
const goProxy = recipe.CacheDir + "/goproxy"

// placeGoMod has the modules of a program in the proxy, and steps ask nothing else.
func (s *Store) placeGoMod(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	if !src.Found {
		if err := workspace.MkdirAll(src.Directory, 0o755); err != nil {
			return err
		}
	}
	p, err := readProgram(workspace, src)
	switch {
	case src.Found && errors.Is(err, fs.ErrNotExist):
		return nil // no program of Go
	case err != nil:
		return err
	case src.Found && p.vendored && !src.Changes():
		return nil // its modules are in the sources
	}
	if known, ok := l.modules[src.Directory]; ok {
		p.moduleFiles = known
	} else if p.packages, err = s.download(ctx, p); err != nil {
		return err
	}
	if src.Changes() {
		if p.moduleFiles, err = s.change(ctx, p, src); err != nil {
			return err
		}
	}
	if l.modules == nil {
		l.modules = map[string]moduleFiles{}
	}
	l.modules[src.Directory] = p.moduleFiles
	if err := os.MkdirAll(s.modules(), 0o755); err != nil { // a program may have no modules but itself
		return err
	}
	l.show(goProxy, s.modules())
	l.set("GOPROXY", "file://"+goProxy)
	l.set("GOSUMDB", "off")
	l.set("GOTOOLCHAIN", "local")
	if !p.vendored {
		l.set("GOFLAGS", "-mod=mod")
	}
	return nil
}

// A program is a folder with a go.mod.
type program struct {
	moduleFiles
	dir, work string // on this machine; go.work, or "off"
	vendored  bool
}

// moduleFiles are go.mod and go.sum, and the modules that they make go download.
type moduleFiles struct {
	mod, sum []byte
	packages []Package
}

// readProgram reads what go will read. A source may have links in it: none may lead out of the workspace, for go reads
// and writes where they lead.
func readProgram(workspace *os.Root, src recipe.Source) (p program, err error) {
	file := path.Join(src.Directory, "go.mod")
	if p.mod, err = readLock(workspace, file); err != nil {
		return p, err
	}
	if p.sum, err = workspace.ReadFile(path.Join(src.Directory, "go.sum")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("reading %s: %w", path.Join(src.Directory, "go.sum"), err)
	}
	p.dir, p.work = filepath.Join(workspace.Name(), src.Directory), "off"
	for dir := src.Directory; ; dir = path.Dir(dir) {
		_, err := workspace.ReadFile(path.Join(dir, "go.work"))
		_, sumErr := workspace.ReadFile(path.Join(dir, "go.work.sum"))
		if err == nil && (sumErr == nil || errors.Is(sumErr, fs.ErrNotExist)) {
			p.work = filepath.Join(workspace.Name(), dir, "go.work")
			break
		}
		if err = cmp.Or(err, sumErr); !errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("reading %s: %w", path.Join(dir, "go.work"), err)
		}
		if dir == "." {
			break
		}
	}
	_, err = workspace.Stat(path.Join(src.Directory, "vendor", "modules.txt"))
	p.vendored = err == nil
	return p, nil
}

// download brings the modules that a program is made of into the store. What go.mod and go.sum ask for is fetched once,
// and then is remembered: a file says which modules those were.
func (s *Store) download(ctx context.Context, p program) (modules []Package, err error) {
	memory := filepath.Join(s.Dir, "go", "complete", p.key())
	if data, err := os.ReadFile(memory); err == nil && json.Unmarshal(data, &modules) == nil {
		return modules, nil
	}
	var environ []string
	if s.Offline {
		environ = s.onlyStored()
	}
	modules, err = s.goDownload(ctx, p.dir, p.work, environ)
	if err != nil && s.Offline {
		err = errOffline
	}
	if err != nil {
		return nil, fmt.Errorf("fetching the modules of %s: %w", p.dir, err)
	}
	data, err := json.Marshal(modules)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(memory), 0o755); err != nil {
		return nil, err
	}
	return modules, atomicfile.Write(memory, 0o644, atomicfile.Bytes(data))
}

// onlyStored has go ask for nothing that is not in the store.
func (s *Store) onlyStored() []string {
	return []string{"GOPROXY=file://" + s.modules(), "GOSUMDB=off", "GONOSUMDB=", "GONOPROXY=", "GOPRIVATE="}
}

// goDownload has go download all modules that a program needs, and returns them.
func (s *Store) goDownload(ctx context.Context, dir, work string, environ []string, flags ...string) ([]Package, error) {
	out, failed := s.goTool(ctx, dir, work, environ, append([]string{"mod", "download", "-json"}, flags...)...)
	var modules []Package
	var errs []error
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var m struct{ Path, Version, Sum, Error string }
		if err := d.Decode(&m); err != nil {
			return nil, cmp.Or(failed, fmt.Errorf("reading what go mod download says: %w", err))
		}
		if m.Error != "" {
			errs = append(errs, errors.New(lastLines(m.Error, 10)))
		}
		modules = append(modules, ModulePackage(m.Path, m.Version, m.Sum))
	}
	if len(errs) > 0 { // go says on its standard error only what is wrong with all
		failed = fmt.Errorf("go mod download: %w", errors.Join(errs...))
	}
	return modules, failed
}

// key names what go mod download would fetch for a program.
func (p moduleFiles) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "go.mod %d\n%sgo.sum %d\n%s", len(p.mod), p.mod, len(p.sum), p.sum)
	return hex.EncodeToString(h.Sum(nil))
}

// Steps may have other modules than go.sum names: "go get" of a version with a mended fault, "go mod tidy" after it. The
// versions are said by the recipe, and what a version is by the checksum database, which the go command of this machine
// asks. So the same commands are done here before, on files of their own beside the program's, and what they wanted is in
// the proxy when a step does them. They are tried with what is in the store first: what was built once needs no network.

// change does what a step will do to a program's modules, and returns what go.mod and go.sum are then.
func (s *Store) change(ctx context.Context, p program, src recipe.Source) (moduleFiles, error) {
	changed, err := s.changeWith(ctx, p, src, s.onlyStored(), "tidy")
	if err == nil {
		return changed, nil
	}
	if s.Offline {
		return changed, fmt.Errorf("changing the modules of %s: %w", p.dir, errOffline)
	}
	changed, err = s.changeWith(ctx, p, src, nil, "tidy")
	if err != nil && src.Tidy { // what cannot be found may be what a step will make; whether that is well is for it to say
		changed, err = s.changeWith(ctx, p, src, nil, "tidy", "-e")
	}
	if err != nil {
		err = fmt.Errorf("changing the modules of %s: %w", p.dir, err)
	}
	return changed, err
}

func (s *Store) changeWith(ctx context.Context, p program, src recipe.Source, environ []string, tidy ...string) (changed moduleFiles, err error) {
	dir, err := os.MkdirTemp("", "modules-")
	if err != nil {
		return changed, err
	}
	defer os.RemoveAll(dir)
	mod, sum := filepath.Join(dir, "go.mod"), filepath.Join(dir, "go.sum")
	if err := errors.Join(os.WriteFile(mod, p.mod, 0o600), os.WriteFile(sum, p.sum, 0o600)); err != nil {
		return changed, err
	}
	var commands [][]string
	for _, r := range src.Replaces {
		commands = append(commands, []string{"mod", "edit", "-replace=" + r, mod})
	}
	if len(src.Deps) > 0 {
		commands = append(commands, append([]string{"get", "-modfile=" + mod, "--"}, src.Deps...))
	}
	if src.Tidy {
		commands = append(commands, slices.Concat([]string{"mod"}, tidy, []string{"-modfile=" + mod}))
	}
	for _, command := range commands {
		if _, err := s.goTool(ctx, p.dir, "off", environ, command...); err != nil {
			return changed, err
		}
	}
	if changed.packages, err = s.goDownload(ctx, p.dir, "off", environ, "-modfile="+mod); err != nil {
		return changed, err
	}
	if changed.mod, err = os.ReadFile(mod); err != nil {
		return changed, err
	}
	if changed.sum, err = os.ReadFile(sum); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return changed, err
}

// goTool runs the go command of this machine on the host: it fetches and
// verifies, and compiles nothing.
func (s *Store) goTool(ctx context.Context, dir, work string, environ []string, args ...string) ([]byte, error) {
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
		"GOTOOLCHAIN=local", "GOWORK="+work)
	cmd.Env = append(cmd.Env, environ...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, lastLines(stderr.String(), 10))
	}
	return out, nil
}

// lastLines puts the last lines of what a program said into one. Where in itself it said so is of no use to anybody here.
func lastLines(s string, n int) string {
	s, _, _ = strings.Cut(s, "Stack backtrace:")
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
	out, err := s.goTool(ctx, dir, "off", nil, "mod", "download", "-json", src.Module+"@"+src.Version)
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
