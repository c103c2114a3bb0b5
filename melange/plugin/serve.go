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
	"github.com/tetratelabs/wazero/experimental"
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
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(r.Root)
	if err != nil {
		return err
	}
	debug.SetGCPercent(-1) // next to nothing becomes garbage; the module's memory is not the runtime's
	debug.SetMemoryLimit(ownMemory)
	runtime, program, err := r.load(ctx)
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
	ctx = experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(reserve))
	_, err = runtime.InstantiateModule(ctx, program, r.config())
	return trap(err)
}

// ownMemory is what this process uses beside the module, until it looks for garbage.
const ownMemory = 64 << 20

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

// load gets the husk and the machine code from the store. The store cannot be written to in here: where it has none that is
// whole, this process makes its own.
func (r Run) load(ctx context.Context) (wazero.Runtime, wazero.CompiledModule, error) {
	if runtime, program, err := r.loadHusk(ctx); err == nil {
		return runtime, program, nil
	}
	module, err := r.module()
	if err != nil {
		return nil, nil, err
	}
	runtime := wazero.NewRuntimeWithConfig(ctx, engine())
	program, err := runtime.CompileModule(allProcessors(ctx), module)
	return runtime, program, err
}

// loadHusk must not come to compile the husk, whose functions do nothing: the engine is to find machine code, or to give up.
// Several workers give up when their context is done before they have begun.
func (r Run) loadHusk(ctx context.Context) (wazero.Runtime, wazero.CompiledModule, error) {
	folder := filepath.Dir(moduleFile(r.Store, r.Digest))
	husk, err := os.ReadFile(filepath.Join(folder, huskName))
	if err != nil {
		return nil, nil, err
	}
	cache, err := wazero.NewCompilationCacheWithDir(folder)
	if err != nil {
		return nil, nil, err
	}
	runtime := wazero.NewRuntimeWithConfig(ctx, engine().WithCompilationCache(cache))
	done, cancel := context.WithCancel(experimental.WithCompilationWorkers(ctx, 2))
	cancel()
	program, err := runtime.CompileModule(done, husk)
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
