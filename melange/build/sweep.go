package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/melange/sandbox"
)

// inUse is the file of a build's folder that its process holds locked. The
// kernel lets go of it however the process ends.
const inUse = ".in-use"

// hold marks a folder as in use until the file is closed.
func hold(dir string) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, inUse))
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// holdAnew makes a folder, if it is not there, and holds it.
func holdAnew(dir string) (*os.File, error) {
	moment, err := between(filepath.Dir(dir), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer moment.Close()
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return hold(dir)
}

// discard removes a build's folder, the mark last: a run that is killed meanwhile leaves what the next one knows to be
// abandoned.
func discard(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var content []string
	for _, e := range entries {
		if e.Name() != inUse {
			content = append(content, filepath.Join(dir, e.Name()))
		}
	}
	if err := sandbox.Remove(ctx, content...); err != nil {
		return err
	}
	moment, err := between(filepath.Dir(dir), unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), moment.Close())
}

// between locks a folder of builds for the moments at which one of them is there without its mark: its beginning and its
// end take it shared, who looks for abandoned ones takes it alone, and so sees none of them in between.
func between(folder string, how int) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: folder, Err: err}, f.Close())
	}
	return f, nil
}

// Sweep removes the folders of builds whose process was killed, and kept workspaces that nobody has worked in for an
// age; 0 is no age.
func (b *Builder) Sweep(ctx context.Context, age time.Duration) error {
	folders := []string{b.WorkDir}
	kept, err := filepath.Glob(b.keptDir("*"))
	if err != nil {
		return err
	}
	for _, folder := range append(folders, kept...) {
		if err := sweep(ctx, folder); err != nil {
			return err
		}
	}
	return b.dropKept(ctx, age, keptMost)
}

func sweep(ctx context.Context, folder string) error {
	dirs, err := abandoned(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := discard(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// abandoned lists the folders of builds that nobody holds and nobody wants to keep.
func abandoned(folder string) (dirs []string, err error) {
	moment, err := between(folder, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer moment.Close()
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		dir := filepath.Join(folder, e.Name())
		if e.IsDir() && e.Name() != keptFolder && !isHeld(dir) && !isKept(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, err
}

func isKept(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, keptFile))
	return err == nil
}

// isHeld says yes in doubt: what cannot be told from what is in use is left alone.
func isHeld(dir string) bool {
	f, err := os.Open(filepath.Join(dir, inUse))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
