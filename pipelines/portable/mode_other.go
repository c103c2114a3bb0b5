//go:build !wasip1

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// copyMode gives a file or folder the permissions of another.
func copyMode(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	return os.Chmod(to, info.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}

// setMode sets permissions, as Unix has them.
func setMode(name string, bits uint32) error {
	return os.NewSyscallError("chmod", syscall.Chmod(name, bits))
}
