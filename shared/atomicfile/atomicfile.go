// Package atomicfile replaces files as a whole: others see the old one or the new one, never half of it.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes the file under another name beside it, and renames it when write has returned no error.
// A failure leaves what was there. Its folder must be there.
func Write(name string, perm fs.FileMode, write func(io.Writer) error) error {
	return replace(name, perm, write, func(*os.File) error { return nil })
}

// WriteSynced is Write that waits for the disk before it renames: the file is whole even when the machine
// dies.
func WriteSynced(name string, perm fs.FileMode, write func(io.Writer) error) error {
	return replace(name, perm, write, (*os.File).Sync)
}

// Bytes writes what is in memory already.
func Bytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func replace(name string, perm fs.FileMode, write func(io.Writer) error, settle func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	defer f.Close()
	if err := errors.Join(write(f), f.Chmod(perm)); err != nil {
		return err
	}
	if err := errors.Join(settle(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
