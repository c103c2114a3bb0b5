package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"distro.internal/shared/atomicfile"
)

// Store keeps modules, and the machine code that they were compiled to. It may be used by many goroutines and processes
// at once. The machine code is trusted: nobody but the user may write to the folder.
type Store struct {
	Dir string

	mu sync.Mutex // compiling takes all processors: one after the other, and what is asked for twice once
}

// Add puts a module into the store and compiles it, unless it is there. What it returns names the module in a [Run].
func (s *Store) Add(ctx context.Context, module []byte) (digest string, err error) {
	sum := sha256.Sum256(module)
	digest = hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	file := moduleFile(s.Dir, digest)
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		now := time.Now()
		_ = os.Chtimes(file, now, now) // for GC; a store of somebody else is not ours to clean up
		return digest, err
	}
	if err := s.compile(ctx, filepath.Dir(file), module); err != nil {
		return "", err
	}
	if err := share(s.Dir); err != nil {
		return "", err
	}
	return digest, atomicfile.Write(file, 0o644, atomicfile.Bytes(module))
}

// moduleFile is where a module lies, beside its machine code. That it is there says that it was compiled, by the engine that
// this program has.
func moduleFile(dir, digest string) string {
	return filepath.Join(dir, engineVersion(), digest, moduleName)
}

const (
	moduleName = "module.wasm"
	huskName   = "husk.wasm"
)

// GC removes modules that were not used for so long, of whatever engine, and tells how many bytes that were. Zero removes
// nothing.
func (s *Store) GC(age time.Duration) (freed int64, err error) {
	folders, err := filepath.Glob(filepath.Join(s.Dir, "*", "*"))
	if err != nil || age <= 0 {
		return 0, err
	}
	for _, folder := range folders {
		info, err := os.Stat(filepath.Join(folder, moduleName))
		if errors.Is(err, fs.ErrNotExist) { // being compiled, or never finished
			info, err = os.Stat(folder)
		}
		if err != nil {
			return freed, err
		}
		if time.Since(info.ModTime()) < age {
			continue
		}
		freed += size(folder)
		if err := os.RemoveAll(folder); err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// size is what the files in a folder have.
func size(folder string) (sum int64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it may vanish meanwhile
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// storeFormat names the engine and how its machine code is filed: 2 is as that of a husk.
const storeFormat = "wazero-2"

const engineModule = "github.com/tetratelabs/wazero"

func engineVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == engineModule {
				return storeFormat + "-" + m.Version
			}
		}
	}
	return storeFormat
}

// compile leaves a module's husk in the folder, and its machine code as that of the husk.
func (s *Store) compile(ctx context.Context, folder string, module []byte) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(folder), "compiling-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	code, err := translate(ctx, filepath.Join(temp, "module"), module)
	if err != nil {
		return err
	}
	empty, err := husk(module)
	if err != nil {
		return err
	}
	none, err := translate(ctx, filepath.Join(temp, "husk"), empty) // the engine alone knows how it calls it
	if err != nil {
		return err
	}
	place := filepath.Join(folder, strings.TrimPrefix(none, filepath.Join(temp, "husk")))
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return err
	}
	if err := os.Rename(code, place); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(folder, huskName), 0o644, atomicfile.Bytes(empty))
}

// translate has the engine make machine code in an empty folder, and tells the file that it made.
func translate(ctx context.Context, dir string, module []byte) (file string, err error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return "", err
	}
	defer cache.Close(ctx)
	runtime := wazero.NewRuntimeWithConfig(ctx, engine().WithCompilationCache(cache))
	defer runtime.Close(ctx)
	if _, err := runtime.CompileModule(allProcessors(ctx), module); err != nil {
		return "", fmt.Errorf("compiling: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("compiling: the engine left %d files, not one", len(files))
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

// allProcessors has the engine use them to compile.
func allProcessors(ctx context.Context) context.Context {
	return experimental.WithCompilationWorkers(ctx, goruntime.GOMAXPROCS(0))
}

// share lets every id in a sandbox read the machine code: steps need not be who put it there.
func share(dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // somebody else's temporary file
			return nil
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(file, 0o755)
		}
		if err := os.Chmod(file, 0o644); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// engine is the interpretation of modules that everybody has to agree on: it is a part of what the machine code is
// found by.
func engine() wazero.RuntimeConfig { return wazero.NewRuntimeConfig() }
