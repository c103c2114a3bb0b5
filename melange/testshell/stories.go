package testshell

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"distro.internal/shared/apk"
)

// Stories are tests that run a program as people do, and share what takes time to make: repositories of the shell, a
// signing key, and the emulator that "make test" brings, for the machine may have none of its own. It stands between a
// TestMain and its tests.
type Stories struct {
	Tests        interface{ Run() int } // a *testing.M
	Repositories []string               // names of folders in the shared one, of a repository each
	Furnish      func(dir string) error // adds to the shared folder; may be nil
}

// KeyFile is the signing key in the shared folder. Others may read it: some stories are told by another user.
const KeyFile = "distro.rsa"

const (
	sharedVariable   = "STORY_SHARED"
	emulatorVariable = "SANDBOX_TEST_QEMU_AARCH64"
)

// Shared is the folder that the stories share.
func Shared() string { return os.Getenv(sharedVariable) }

// Path is the PATH of stories: the emulator comes first.
func Path() string {
	return filepath.Join(Shared(), "emulators") + string(filepath.ListSeparator) + os.Getenv("PATH")
}

// Run makes the shared folder, runs the tests and returns their exit code.
func (s Stories) Run() int {
	code, err := s.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (s Stories) run() (int, error) {
	dir, err := os.MkdirTemp("", "stories-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Setenv(sharedVariable, dir)); err != nil {
		return 0, err
	}
	shell := filepath.Join(dir, "sh")
	if err := Compile(shell); err != nil {
		return 0, err
	}
	for _, name := range s.Repositories {
		if err := Write(filepath.Join(dir, name), shell, apk.HostArch()); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(writeKey(filepath.Join(dir, KeyFile)), lendEmulator(filepath.Join(dir, "emulators"))); err != nil {
		return 0, err
	}
	if s.Furnish != nil {
		if err := s.Furnish(dir); err != nil {
			return 0, err
		}
	}
	return s.Tests.Run(), nil
}

func writeKey(file string) error {
	key, err := apk.GenerateKey(2048)
	if err != nil {
		return err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(file, apk.EncodePrivateKey(key), 0o644),
		os.WriteFile(file+".pub", public, 0o644),
	)
}

// lendEmulator puts a copy of the emulator where programs look for one, and where all users may read it.
func lendEmulator(dir string) error {
	file := os.Getenv(emulatorVariable)
	if file == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "qemu-aarch64-static"), data, 0o755))
}
