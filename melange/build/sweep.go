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

// Sweep removes the folders of builds whose process was killed.
func (b *Builder) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(b.WorkDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		dir := filepath.Join(b.WorkDir, e.Name())
		if !e.IsDir() || !abandoned(dir, e) {
			continue
		}
		if err := sandbox.Remove(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func abandoned(dir string, e fs.DirEntry) bool {
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
