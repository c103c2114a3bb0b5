package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/ci/stage0"
	"distro.internal/melange/build"
	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/console"
)

// lock keeps other runs out of the workspace's output until unlock is called;
// the kernel lets go of it however a run ends.
func (w *world) lock() (unlock func(), err error) {
	if err := os.MkdirAll(w.out(), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(w.out(".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	// A process that was just being started when a run was killed holds its lock
	// for a moment longer.
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	for wait := time.Millisecond; errors.Is(err, unix.EWOULDBLOCK) && wait < 2*time.Second; wait *= 2 {
		time.Sleep(wait)
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another run is making %s", w.out())
		}
		return nil, fmt.Errorf("locking %s: %w", w.out(), err)
	}
	return func() { f.Close() }, nil
}

// prepare brings about what every run needs: a key, the first tools, the graph.
func (w *world) prepare(ctx context.Context, o *workspaceFlags, progress io.Writer) error {
	if err := w.openKey(o.key); err != nil {
		return err
	}
	if err := w.makeStage0(ctx, progress); err != nil {
		return err
	}
	if err := w.load(ctx); err != nil {
		return err
	}
	return w.readReleases(ctx)
}

// openKey reads the signing key, or makes one on the first run of all, and puts
// its public part where the workspace packages it.
func (w *world) openKey(file string) error {
	signer, err := apk.LoadSigner(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(file); err == nil {
			signer, err = apk.LoadSigner(file)
		}
	}
	if err != nil {
		return fmt.Errorf("opening the signing key: %w", err)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		return fmt.Errorf("opening the signing key: %w", err)
	}
	if w.keyring, err = apk.LoadKeyring(file + ".pub"); err != nil {
		return err
	}
	if w.seal, err = build.NewSeal(signer); err != nil {
		return err
	}
	if w.config.Keys == "" {
		return nil
	}
	return writeIfOther(filepath.Join(w.path(w.config.Keys), filepath.Base(file)+".pub"), public, 0o644)
}

func makeKey(file string) error {
	key, err := apk.GenerateKey(0)
	if err != nil {
		return err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// The private key comes last: when it is there, so is the public one.
	if err := writeIfOther(file+".pub", public, 0o644); err != nil {
		return err
	}
	return writeIfOther(file, apk.EncodePrivateKey(key), 0o600)
}

// writeIfOther writes a file whole, unless it has that content already.
func writeIfOther(file string, data []byte, mode fs.FileMode) error {
	if was, err := os.ReadFile(file); err == nil && bytes.Equal(was, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteSynced(file, mode, atomicfile.Bytes(data))
}

// The files of the folder that describes stage0.
const (
	stage0Spec = "spec.yaml"
	stage0Lock = "lock"
	mirrorList = "mirrors.yaml"
)

func (w *world) stage0Config() (stage0.Config, error) {
	c := stage0.Config{Dir: w.out("stage0"), Cache: filepath.Join(w.cache, "stage0")}
	file := func(name string) (string, []byte, error) {
		short := filepath.Join(w.config.Stage0, name)
		data, err := os.ReadFile(filepath.Join(w.dir, short))
		return short, data, err
	}
	name, data, err := file(stage0Spec)
	if err != nil {
		return c, err
	}
	if c.Spec, err = stage0.ParseSpec(name, data); err != nil {
		return c, err
	}
	if name, data, err = file(stage0Lock); err != nil {
		return c, err
	}
	c.Lock, err = stage0.ParseLock(name, data)
	return c, err
}

// stage0Files are those that decide whether there is anything to make of it.
func (w *world) stage0Files() []string {
	dir := w.path(w.config.Stage0)
	return append(stage0.Files(w.out("stage0")), filepath.Join(dir, stage0Spec), filepath.Join(dir, stage0Lock), filepath.Join(dir, mirrorList))
}

// awaitsStage0 tells whether the workspace has first tools that are not made of what is pinned now.
func (w *world) awaitsStage0() (bool, error) {
	if w.config.Stage0 == "" {
		return false, nil
	}
	c, err := w.stage0Config()
	return err == nil && !c.Stands(), err
}

// makeStage0 makes the repository of the first tools, telling how far it is:
// on a new machine this is the longest wait.
func (w *world) makeStage0(ctx context.Context, progress io.Writer) error {
	if w.config.Stage0 == "" {
		return nil
	}
	c, err := w.stage0Config()
	if err != nil {
		return err
	}
	meter := newMeter(progress)
	defer meter.Close()
	c.Progress = func(stage string, done, total int64) {
		if stage == stage0.StageDownload {
			meter.Show("stage0: fetched %s of %s", console.Bytes(done), console.Bytes(total))
			return
		}
		meter.Show("stage0: converted %d of %d packages", done, total)
	}
	made, err := stage0.Make(ctx, c)
	if made {
		meter.Say("stage0: %d packages in %s", len(c.Lock.Pins), w.short(c.Dir))
	}
	return err
}
