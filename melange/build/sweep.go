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

// unheldAge is how old a folder must be to count as left behind although
// nobody has come to mark it as in use.
const unheldAge = time.Minute

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
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(folder, e.Name())
		if !e.IsDir() || e.Name() == keptFolder || !abandoned(dir, e) {
			continue
		}
		if err := sandbox.Remove(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func abandoned(dir string, e fs.DirEntry) bool {
	if _, err := os.Stat(filepath.Join(dir, keptFile)); err == nil {
		return false
	}
	f, err := os.Open(filepath.Join(dir, inUse))
	if errors.Is(err, fs.ErrNotExist) {
		info, err := e.Info()
		return err == nil && time.Since(info.ModTime()) > unheldAge
	} else if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
