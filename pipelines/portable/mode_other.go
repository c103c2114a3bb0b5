//go:build !wasip1

package main

import (
	"os"
	"syscall"
)

// modeOf reads the permissions of a file or folder, as Unix has them. Links are not followed.
func modeOf(name string) (uint32, error) {
	var s syscall.Stat_t
	err := syscall.Lstat(name, &s)
	return uint32(s.Mode) & 0o7777, os.NewSyscallError("lstat", err)
}

// setMode sets permissions.
func setMode(name string, bits uint32) error {
	return os.NewSyscallError("chmod", syscall.Chmod(name, bits))
}
