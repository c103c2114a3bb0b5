package main

import (
	"fmt"
)

// WASI has no permissions of files; melange has these beside it.

//go:wasmimport distro file_mode
func fileMode(name string) int32

//go:wasmimport distro set_file_mode
func setFileMode(name string, bits uint32) int32

// copyMode gives a file or folder the permissions of another.
func copyMode(from, to string) error {
	bits := fileMode(from)
	if bits < 0 {
		return fmt.Errorf("the permissions of %s cannot be read", from)
	}
	return setMode(to, uint32(bits))
}

// setMode sets permissions, as Unix has them.
func setMode(name string, bits uint32) error {
	if setFileMode(name, bits) < 0 {
		return fmt.Errorf("the permissions of %s cannot be set", name)
	}
	return nil
}
