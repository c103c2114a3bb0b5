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
	"runtime"
	"slices"
	"strconv"

	"github.com/chainguard-dev/clog"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/rootfs"
)

// searchPath is the PATH of every step.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin"

// defaultEpoch is the SOURCE_DATE_EPOCH of a build without sources: the first
// moment that every archive format can express, 1980-01-01.
const defaultEpoch = 315532800

// A StepError is a step that ended badly.
type StepError struct {
	Step recipe.Step
	Err  error // a *sandbox.ExitError, mostly
}

func (e *StepError) Error() string {
	name := e.Step.Name
	if name == "" {
		name = e.Step.Uses
	}
	if name != "" {
		name = fmt.Sprintf(" %q", name)
	}
	return fmt.Sprintf("%s: step%s of %s: %v", e.Step.Pos, name, e.Step.Output, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// run makes the trees of a job: it prepares a workspace, starts the
// environment, runs the steps, and takes out what they left for each package.
func (b *Builder) run(ctx context.Context, job Job) (t *trees, err error) {
	if err := os.MkdirAll(b.WorkDir, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(b.WorkDir, job.Plan.Name+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sandbox.Remove(context.WithoutCancel(ctx), work)) }()
	ws, err := b.workspace(ctx, job, work)
	if err != nil {
		return nil, fmt.Errorf("preparing the workspace of %s: %w", job.Plan.Name, err)
	}
	box, err := b.box(ctx, job, ws)
	if err != nil {
		return nil, fmt.Errorf("preparing the environment of %s: %w", job.Plan.Name, err)
	}
	agent, err := box.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, agent.Close()) }()
	clog.InfoContext(ctx, "environment ready", "recipe", job.Plan.Name, "arch", job.Plan.Arch, "layers", len(box.Layers))
	for i, step := range job.Plan.Steps {
		if job.OnStep != nil {
			job.OnStep(i+1, len(job.Plan.Steps), step)
		}
		if err := b.step(ctx, agent, job, step); err != nil {
			return nil, &StepError{step, err}
		}
	}
	return b.collect(ctx, job, agent, ws)
}

// A workspace is what a build has of its own on the host.
type workspace struct {
	dir     string // everything below it goes when the build ends
	home    string // /home/build inside
	modules string // a file tree proxy of Go modules; empty when none are used
	epoch   int64
}

func (b *Builder) workspace(ctx context.Context, job Job, dir string) (*workspace, error) {
	ws := &workspace{dir: dir, home: filepath.Join(dir, "home"), epoch: b.Epoch}
	for _, o := range job.Plan.Outputs {
		if err := os.MkdirAll(filepath.Join(ws.home, "melange-out", o.Name), 0o755); err != nil {
			return nil, err
		}
	}
	if err := copyLocal(job, ws.home); err != nil {
		return nil, err
	}
	prepared, err := b.Sources.Prepare(ctx, job.Plan.Sources, ws.home)
	if err != nil {
		return nil, err
	}
	ws.modules = prepared.Modules
	if ws.epoch == 0 {
		ws.epoch = defaultEpoch
		if !prepared.Newest.IsZero() {
			ws.epoch = prepared.Newest.Unix()
		}
	}
	return ws, nil
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
	e := job.Plan.Environment
	root, err := b.compose(ctx, job.Environment.Root, rootfs.Compose{
		Arch: rootArch(job.Plan), World: e.Packages, Accounts: accounts(e.Accounts),
	})
	if err != nil {
		return nil, err
	}
	box := &sandbox.Sandbox{
		Layers:  root.Layers,
		Mounts:  []sandbox.Mount{{Source: ws.home, Target: recipe.Workspace}},
		Network: slices.ContainsFunc(job.Plan.Steps, func(s recipe.Step) bool { return s.Network }),
		Limits:  b.Limits,
		Env:     b.environment(job.Plan, ws),
	}
	if box.Emulators, err = b.emulators(ctx, job.Plan.Arch); err != nil {
		return nil, err
	}
	if d := job.Plan.Timeout; d > 0 {
		box.Limits.Wall = d
	}
	if ws.modules != "" {
		box.Mounts = append(box.Mounts, sandbox.Mount{Source: ws.modules, Target: modulesDir, ReadOnly: true})
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
	if arch == hostArch() || arch == "noarch" || b.Emulator == nil {
		return nil, nil
	}
	file, err := b.Emulator(ctx, arch)
	if err != nil {
		return nil, fmt.Errorf("finding an emulator of %s: %w", arch, err)
	}
	return map[string]string{string(arch): file}, nil
}

func hostArch() apk.Arch {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return apk.Arch(runtime.GOARCH)
}

// compose unpacks packages into the store, and puts them above each other.
func (b *Builder) compose(ctx context.Context, packages []Installed, o rootfs.Compose) (rootfs.Root, error) {
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

// modulesDir is where a file tree proxy of Go modules is mounted.
const modulesDir = recipe.CacheDir + "/goproxy"

// environment is the variables of every step: the plan's, and what makes equal
// builds equal.
func (b *Builder) environment(p *recipe.Plan, ws *workspace) []string {
	env := map[string]string{
		"PATH":              searchPath,
		"HOME":              recipe.Workspace,
		"LC_ALL":            "C",
		"TZ":                "UTC",
		"SOURCE_DATE_EPOCH": strconv.FormatInt(ws.epoch, 10),
	}
	if ws.modules != "" {
		env["GOPROXY"] = "file://" + modulesDir
		env["GOSUMDB"] = "off"
		env["GOTOOLCHAIN"] = "local"
		env["GOFLAGS"] = "-mod=mod"
	}
	maps.Copy(env, p.Environment.Env)
	return variables(env)
}

func variables(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// step runs one step in its folder. The shell stops at the first failure, and
// its input is empty.
func (b *Builder) step(ctx context.Context, agent *sandbox.Agent, job Job, s recipe.Step) error {
	dir := s.Dir
	if !path.IsAbs(dir) {
		dir = path.Join(recipe.Workspace, dir)
	}
	log := job.Log
	if log == nil {
		log = io.Discard
	}
	return agent.Run(ctx, sandbox.Command{
		Args:    []string{"/bin/sh", "-c", `set -eo pipefail; mkdir -p "$0"; cd "$0"; ` + "\n" + s.Script + "\nexit 0\n", dir},
		Env:     variables(s.Env),
		Network: s.Network,
		Stdout:  log,
		Stderr:  log,
	})
}
