package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/rootfs"
)

// searchPath is the PATH of every step.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"

// defaultEpoch is the SOURCE_DATE_EPOCH of a build without sources: the first
// moment that every archive format can express, 1980-01-01.
const defaultEpoch = 315532800

// A workspace is what a build has of its own on the host.
type workspace struct {
	dir    string        // everything below it goes when the build ends
	home   string        // /home/build inside
	caches string        // of language package managers, as long as the build
	layout source.Layout // of what lock files name
	epoch  int64
}

// homeFolder is the folder of a workspace that steps start in.
const homeFolder = "home"

// furnish fills the workspace.
func (b *Builder) furnish(ctx context.Context, job Job, ws *workspace) error {
	ws.home, ws.caches = filepath.Join(ws.dir, homeFolder), filepath.Join(ws.dir, "caches")
	for _, dir := range []string{ws.home, ws.caches} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	for _, o := range job.outputs() {
		if err := os.MkdirAll(filepath.Join(ws.home, "melange-out", o.Name), 0o755); err != nil {
			return err
		}
	}
	if err := copyLocal(job, ws.home); err != nil {
		return err
	}
	prepared, err := b.Sources.Prepare(ctx, job.sources(), ws.home, ws.caches)
	if err != nil {
		return err
	}
	ws.layout = prepared.Layout
	if ws.epoch == 0 {
		ws.epoch = defaultEpoch
		if !prepared.Newest.IsZero() {
			ws.epoch = prepared.Newest.Unix()
		}
	}
	return nil
}

// copyLocal puts the recipe's own files into the workspace.
func copyLocal(job Job, home string) error {
	for _, name := range job.Plan.LocalFiles {
		if err := copyFile(job.Local, name, filepath.Join(home, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("copying %s: %w", name, err)
		}
	}
	return nil
}

func copyFile(from fs.FS, name, to string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	// Only whether it can be executed counts: other bits are the checkout's umask.
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644|info.Mode().Perm()&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// box composes the environment: the packages as layers, the workspace, and for
// a cross build the target's packages at /sysroot.
func (b *Builder) box(ctx context.Context, job Job, ws *workspace) (*sandbox.Sandbox, error) {
	e := job.environment()
	root, err := b.compose(ctx, job.Environment.Root, rootfs.Compose{
		Arch: job.rootArch(), World: e.Packages, Accounts: accounts(e.Accounts),
	})
	if err != nil {
		return nil, err
	}
	add, drop := job.Plan.Capabilities.Numbers()
	box := &sandbox.Sandbox{
		Layers:  root.Layers,
		Copies:  filepath.Join(ws.dir, "copies"),
		Mounts:  []sandbox.Mount{{Source: ws.home, Target: recipe.Workspace}, {Source: ws.caches, Target: recipe.CacheDir}},
		Network: job.Network || slices.ContainsFunc(job.steps(), func(s recipe.Step) bool { return s.Network }),
		Limits:  b.limits(job),
		UID:     int(e.Accounts.UID), GID: int(e.Accounts.GID),
		Capabilities: sandbox.Capabilities{Add: add, Drop: drop},
		Env:          variables(job.variables(ws)),
	}
	if job.Keep != KeepNever { // what is written beside the workspace is to be found again
		box.Upper = filepath.Join(ws.dir, "root")
	}
	if box.Emulators, err = b.emulators(ctx, job.Plan.Arch); err != nil {
		return nil, err
	}
	for _, inside := range slices.Sorted(maps.Keys(ws.layout.Folders)) {
		box.Mounts = append(box.Mounts, sandbox.Mount{Source: ws.layout.Folders[inside], Target: inside, ReadOnly: true})
	}
	if portable(job) {
		box.Mounts = append(box.Mounts, sandbox.Mount{Source: b.Modules.Dir, Target: storeDir, ReadOnly: true})
	}
	if !e.Cross {
		return box, nil
	}
	target, err := b.compose(ctx, job.Environment.Sysroot, rootfs.Compose{Arch: job.Plan.Arch, Bare: true})
	if err != nil {
		return nil, err
	}
	box.Mounts = append(box.Mounts, sandbox.Mount{Kind: sandbox.Overlay, Target: recipe.SysrootDir, Layers: target.Layers, ReadOnly: true})
	loader, err := loaderLayer(ws.dir, job.Plan.Arch, root.Layers)
	if err != nil {
		return nil, err
	}
	box.Layers = append(slices.Clone(box.Layers), loader)
	return box, nil
}

// emulators is what it takes to run an architecture here.
func (b *Builder) emulators(ctx context.Context, arch apk.Arch) (map[string]string, error) {
	if arch == apk.HostArch() || arch == "noarch" || b.Emulator == nil {
		return nil, nil
	}
	file, err := b.Emulator(ctx, arch)
	if err != nil {
		return nil, fmt.Errorf("finding an emulator of %s: %w", arch, err)
	}
	return map[string]string{string(arch): file}, nil
}

// compose unpacks packages into the store, and puts them above each other.
func (b *Builder) compose(ctx context.Context, packages []Installed, o rootfs.Compose) (rootfs.Root, error) {
	if root, ok := b.composed(packages, o); ok {
		return root, nil
	}
	layers := make([]rootfs.Layer, len(packages))
	for i, p := range packages {
		file, verify, err := p.File(ctx)
		if err == nil {
			layers[i], err = b.Roots.Unpack(ctx, file, verify)
		}
		if err != nil {
			return rootfs.Root{}, fmt.Errorf("installing %s: %w", p.Name, err)
		}
	}
	return b.Roots.Compose(ctx, layers, o)
}

// composed finds the root as it was composed before. It goes by the checksums that a signed index has for the packages.
func (b *Builder) composed(packages []Installed, o rootfs.Compose) (rootfs.Root, bool) {
	sums := make([]apk.Checksum, len(packages))
	for i, p := range packages {
		if sums[i] = p.Checksum; sums[i].IsZero() {
			return rootfs.Root{}, false
		}
	}
	return b.Roots.Composed(sums, o)
}

// accounts are those that the recipe adds to the root's own.
func accounts(a recipe.Accounts) rootfs.Accounts {
	var out rootfs.Accounts
	for _, u := range a.Users {
		out.Users = append(out.Users, rootfs.User{Name: u.Name, UID: int(u.UID), GID: int(u.GID), Shell: u.Shell, Home: u.Home})
	}
	for _, g := range a.Groups {
		out.Groups = append(out.Groups, rootfs.Group{Name: g.Name, GID: int(g.GID), Members: g.Members})
	}
	return out
}

// loaderLayer lets programs of the target run where they are built: they name
// musl's loader by its place in the target's root, which is below /sysroot
// here. The folder is lib or usr/lib, whichever the root has as a real one.
func loaderLayer(dir string, arch apk.Arch, layers []string) (string, error) {
	lib := "lib"
	for _, l := range layers {
		if info, err := os.Lstat(filepath.Join(l, "lib")); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			lib = "usr/lib"
		}
	}
	layer := filepath.Join(dir, "loader")
	name := "ld-musl-" + string(arch)
	for _, d := range []string{lib, "etc"} {
		if err := os.MkdirAll(filepath.Join(layer, d), 0o755); err != nil {
			return "", err
		}
	}
	err := os.Symlink(path.Join(recipe.SysrootDir, "lib", name+".so.1"), filepath.Join(layer, lib, name+".so.1"))
	if err != nil {
		return "", err
	}
	paths := recipe.SysrootDir + "/lib:" + recipe.SysrootDir + "/usr/lib:/lib:/usr/local/lib:/usr/lib\n"
	return layer, os.WriteFile(filepath.Join(layer, "etc", name+".path"), []byte(paths), 0o644)
}

// variables are those of every step: the plan's, and what makes equal builds
// equal. A test makes nothing, and needs no time to make it at.
func (j Job) variables(ws *workspace) map[string]string {
	env := map[string]string{
		"PATH":   searchPath,
		"HOME":   recipe.Workspace,
		"LC_ALL": "C",
		"TZ":     "UTC",
	}
	if j.Test == nil {
		env["SOURCE_DATE_EPOCH"] = strconv.FormatInt(ws.epoch, 10)
	}
	maps.Copy(env, ws.layout.Env)
	maps.Copy(env, j.environment().Env)
	return env
}

func variables(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
