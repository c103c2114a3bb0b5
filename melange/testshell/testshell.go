// Package testshell makes, for tests, a repository whose one package is all
// that a build needs: a shell with a few small tools in it, one static program
// of this machine's architecture. Tests that build with it run anywhere, ask no
// network, and start in milliseconds. Nothing else should use it.
package testshell

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// The names by which tests refer to what Write writes.
const (
	PackageName = "test-shell"
	KeyName     = "tools.rsa.pub"
	version     = "1.0-r0"
)

// Compile compiles the shell for this machine.
func Compile(file string) error {
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file,
		"distro.internal/melange/testshell/testdata/sh")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("compiling the test shell: %w\n%s", err, out)
	}
	return nil
}

// Write makes a repository of the shell in dir, signed by a key of its own
// whose public part lies beside the index's folder.
func Write(dir, shell string, arch apk.Arch) error {
	key, err := apk.GenerateKey(2048)
	if err != nil {
		return err
	}
	signer, err := apk.NewSigner(KeyName, key)
	if err != nil {
		return err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, string(arch)), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, KeyName), public, 0o644); err != nil {
		return err
	}
	p, file, err := pack(shell, arch, signer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, string(arch), p.FileName()), file, 0o644); err != nil {
		return err
	}
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, &apk.Index{Packages: []*apk.Package{p}}, signer); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, string(arch), "APKINDEX.tar.gz"), index.Bytes(), 0o644)
}

func pack(shell string, arch apk.Arch, signer apk.Signer) (*apk.Package, []byte, error) {
	program, err := os.ReadFile(shell)
	if err != nil {
		return nil, nil, err
	}
	when := time.Unix(315532800, 0)
	tree := filetree.New()
	if err := tree.Put(filetree.Entry{
		Path: "bin/sh", Mode: 0o755, ModTime: when, Size: int64(len(program)), Open: filetree.Bytes(program),
	}); err != nil {
		return nil, nil, err
	}
	var data, control, signature bytes.Buffer
	info, err := apk.WriteData(&data, tree)
	if err != nil {
		return nil, nil, err
	}
	p := &apk.Package{
		Name: PackageName, Version: version, Arch: arch, Origin: PackageName, Description: "A shell for tests",
		License: "Apache-2.0", BuildDate: when.Unix(), DataHash: info.Hash, InstalledSize: info.InstalledSize,
	}
	sum, sha256, err := apk.WriteControl(&control, p, nil, nil, when)
	if err != nil {
		return nil, nil, err
	}
	if err := apk.SignControl(&signature, signer, sha256[:], when); err != nil {
		return nil, nil, err
	}
	file := append(append(signature.Bytes(), control.Bytes()...), data.Bytes()...)
	p.Checksum, p.Size = sum, int64(len(file))
	return p, file, nil
}
