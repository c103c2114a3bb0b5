package plugin

import (
	"context"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// workspace is the folder as the functions beside WASI use it.
type workspace struct {
	root *os.Root
	name string // of the root, an absolute path
	dir  string // where relative paths begin
}

// local is a path of a module, relative to the root. Where it leads outside, the root refuses it.
func (w workspace) local(name string) string {
	if !path.IsAbs(name) {
		name = path.Join(w.dir, name)
	}
	name = path.Clean(name)
	if name == w.name {
		return "."
	}
	if rest, inside := strings.CutPrefix(name, w.name+"/"); inside {
		return rest
	}
	return ".." + name
}

// specialBits are where Go and Unix do not have the same number.
var specialBits = []struct {
	mode fs.FileMode
	unix uint32
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

func (w workspace) mode(name string) int32 {
	info, err := w.root.Lstat(w.local(name))
	if err != nil {
		return -1
	}
	bits := uint32(info.Mode().Perm())
	for _, b := range specialBits {
		if info.Mode()&b.mode != 0 {
			bits |= b.unix
		}
	}
	return int32(bits)
}

func (w workspace) setMode(name string, bits uint32) int32 {
	mode := fs.FileMode(bits & 0o777)
	for _, b := range specialBits {
		if bits&b.unix != 0 {
			mode |= b.mode
		}
	}
	if w.root.Chmod(w.local(name), mode) != nil {
		return -1
	}
	return 0
}

// modes makes the interface "distro".
func modes(ctx context.Context, runtime wazero.Runtime, w workspace) error {
	_, err := runtime.NewHostModuleBuilder("distro").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, name, length uint32) int32 {
		text, ok := m.Memory().Read(name, length)
		if !ok {
			return -1
		}
		return w.mode(string(text))
	}).Export("file_mode").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, name, length, bits uint32) int32 {
		text, ok := m.Memory().Read(name, length)
		if !ok {
			return -1
		}
		return w.setMode(string(text), bits)
	}).Export("set_file_mode").
		Instantiate(ctx)
	return err
}
