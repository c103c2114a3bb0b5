package main

import "fmt"

// WASI has no permissions of files; melange has these beside it.

//go:wasmimport distro file_mode
func fileMode(name string) int32

//go:wasmimport distro set_file_mode
func setFileMode(name string, bits uint32) int32

// modeOf reads the permissions of a file or folder, as Unix has them. Links are not followed.
func modeOf(name string) (uint32, error) {
	bits := fileMode(name)
	if bits < 0 {
		return 0, fmt.Errorf("the permissions of %s cannot be read", name)
	}
	return uint32(bits), nil
}

// setMode sets permissions.
func setMode(name string, bits uint32) error {
	if setFileMode(name, bits) < 0 {
		return fmt.Errorf("the permissions of %s cannot be set", name)
	}
	return nil
}
