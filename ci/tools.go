package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"distro.internal/ci/stage0"
	"distro.internal/melange/build"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
)

// sources keeps upstream's files by digest. Before the place that a recipe names
// the workspace's mirrors are asked, and for what the list beside stage0 has the
// machine's own package archive.
func (w *world) sources() (*source.Store, error) {
	s := &source.Store{Dir: filepath.Join(w.cache, "sources")}
	for _, address := range w.config.Mirrors {
		s.Mirrors = append(s.Mirrors, source.DigestMirror{Address: w.path(address)})
	}
	if w.config.Stage0 == "" {
		return s, nil
	}
	mirrors, err := w.mirrorList()
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	s.Mirrors = append(s.Mirrors, stage0.DebianMirror{Mirrors: mirrors})
	return s, nil
}

// emulatorPackage is what brings the emulators into stage0.
const emulatorPackage = "qemu-user"

// emulator is a static program that runs other architectures' programs: the one
// of the first tools, else one of the host's.
func (w *world) emulator(ctx context.Context, arch apk.Arch) (string, error) {
	if w.config.Stage0 == "" {
		return build.FindEmulator(arch)
	}
	keyring, err := apk.LoadKeyring(w.out("stage0", "stage0.rsa.pub"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the emulator of %s is one of the first tools, which are not made yet: world stage0 makes them", arch)
	} else if err != nil {
		return "", err
	}
	s := repository.Source{URL: w.out("stage0"), Keyring: keyring}
	index, err := w.client.Index(ctx, s, apk.Arch(w.config.BuildArch))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(index.Packages, func(p *apk.Package) bool { return p.Name == emulatorPackage })
	if i < 0 {
		return build.FindEmulator(arch)
	}
	file, verify, err := build.Fetched(w.client, s, index.Packages[i]).File(ctx)
	if err != nil {
		return "", err
	}
	layer, err := w.builder.Roots.Unpack(ctx, file, verify)
	if err != nil {
		return "", err
	}
	program := filepath.Join(layer.Dir, "usr/bin", build.EmulatorName(arch))
	if _, err := os.Stat(program); err != nil {
		return "", fmt.Errorf("package %s of stage0: %w", emulatorPackage, err)
	}
	return program, nil
}
