package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
)

// serve is the process that runs a module. It returns the exit code: the module's own, or 1 after a message.
func serve(text string) int {
	err := run(context.Background(), text)
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit):
		return int(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(ctx context.Context, text string) error {
	var r Run
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	module, err := r.module()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(r.Root)
	if err != nil {
		return err
	}
	gc := debug.SetGCPercent(-1) // until the module runs next to nothing becomes garbage
	runtime, program, err := load(ctx, filepath.Dir(moduleFile(r.Store, r.Digest)), module)
	debug.SetGCPercent(gc)
	if err != nil {
		return err
	}
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	if err := modes(ctx, runtime, workspace{root, r.Root, r.Dir}); err != nil {
		return err
	}
	if err := confine(r.Root); err != nil {
		return err
	}
	_, err = runtime.InstantiateModule(ctx, program, r.config())
	return trap(err)
}

// module reads the module, as what it was added to the store.
func (r Run) module() ([]byte, error) {
	module, err := os.ReadFile(moduleFile(r.Store, r.Digest))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(module); hex.EncodeToString(sum[:]) != r.Digest {
		return nil, fmt.Errorf("module %s is not what it was in the store", r.Digest)
	}
	return module, nil
}

// load gets the machine code from the store. The store cannot be written to in here: where it has none that is whole, this
// process makes its own.
func load(ctx context.Context, dir string, module []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, nil, err
	}
	runtime := wazero.NewRuntimeWithConfig(ctx, engine().WithCompilationCache(cache))
	if program, err := runtime.CompileModule(ctx, module); err == nil {
		return runtime, program, nil
	}
	runtime = wazero.NewRuntimeWithConfig(ctx, engine())
	program, err := runtime.CompileModule(ctx, module)
	return runtime, program, err
}

// config is all that the module gets to see. What is not said here (the finer clock, sleep, random numbers) has values
// that are always the same by default.
func (r Run) config() wazero.ModuleConfig {
	folder := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(files{sysfs.DirFS(r.Root), r.Root}, r.Root)
	c := wazero.NewModuleConfig().WithArgs(r.Args...).WithStdout(os.Stdout).WithStderr(os.Stderr).WithFSConfig(folder)
	for _, kv := range append(r.Env, "PWD="+r.Dir) {
		key, value, _ := strings.Cut(kv, "=")
		c = c.WithEnv(key, value)
	}
	return c.WithWalltime(func() (int64, int32) { return r.Epoch, 0 }, sys.ClockResolution(1))
}

// files is the workspace as WASI has it, less two of the engine's choices: that nobody but the owner reads what is new,
// and that no link is absolute. Packages are full of those.
type files struct {
	experimentalsys.FS
	dir string
}

func (f files) OpenFile(name string, flag experimentalsys.Oflag, _ fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	return f.FS.OpenFile(name, flag, 0o644)
}

func (f files) Mkdir(name string, _ fs.FileMode) experimentalsys.Errno {
	return f.FS.Mkdir(name, 0o755)
}

func (f files) Symlink(text, name string) experimentalsys.Errno {
	return experimentalsys.UnwrapOSError(os.Symlink(text, filepath.Join(f.dir, name)))
}

// trap leaves the first line of what a module did that it may not: the rest says where, in numbers.
func trap(err error) error {
	var exit *sys.ExitError
	if err == nil || errors.As(err, &exit) {
		if exit != nil && exit.ExitCode() == 0 {
			return nil
		}
		return err
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(text)
}
