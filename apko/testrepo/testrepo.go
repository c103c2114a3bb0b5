// Package testrepo writes small package repositories for tests from a text that shows them at a glance.
//
// A text is packages with an empty line between them. Lines with a colon are fields as an index has them; the others
// are what is in the package:
//
//	P:base
//	V:1.0-r0
//	D:so:libc.so
//	dir tmp 1777
//	file etc/motd 644 hello\n
//	file sbin/ping 4755 0:12 \x7fELF
//	link lib usr/lib
//	hard bin/b bin/a
//	library usr/lib/libz.so.1.3 libz.so.1
//	script .post-install #!/bin/sh
//
// Before the packages may be the generation of the repository: "generation 2".
package testrepo

import (
	"bytes"
	"crypto/rsa"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
	"distro.internal/shared/ldcache/sample"
)

// KeyName is what the key of a repository is called.
const KeyName = "test.rsa.pub"

// Write writes the packages for each architecture and a signed index below dir, and the keys into dir/keys. Those
// that are there already stay the same.
func Write(dir, text string, archs ...apk.Arch) error {
	private := filepath.Join(dir, "keys", strings.TrimSuffix(KeyName, ".pub"))
	key, err := keyIn(private)
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
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", KeyName), public, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(private, apk.EncodePrivateKey(key), 0o600); err != nil {
		return err
	}
	for _, arch := range archs {
		if err := writeArch(filepath.Join(dir, string(arch)), text, arch, signer); err != nil {
			return err
		}
	}
	return nil
}

// keyIn is the key in a file, or a new one.
func keyIn(file string) (*rsa.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return apk.GenerateKey(2048)
	} else if err != nil {
		return nil, err
	}
	return apk.DecodePrivateKey(b)
}

func writeArch(dir, text string, arch apk.Arch, signer apk.Signer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	index := &apk.Index{}
	if rest, ok := strings.CutPrefix(text, "generation "); ok {
		number, rest, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		index.Generation, text = n, rest
	}
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		p, err := writePackage(dir, block, arch, signer)
		if err != nil {
			return fmt.Errorf("package %.40q: %w", block, err)
		}
		index.Packages = append(index.Packages, p)
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, index, signer); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "APKINDEX.tar.gz"), b.Bytes(), 0o644)
}

func writePackage(dir, block string, arch apk.Arch, signer apk.Signer) (*apk.Package, error) {
	p, tree, scripts, err := parse(block, arch)
	if err != nil {
		return nil, err
	}
	var data, control, signature bytes.Buffer
	info, err := apk.WriteData(&data, tree)
	if err != nil {
		return nil, err
	}
	p.DataHash, p.InstalledSize = info.Hash, info.InstalledSize
	when := time.Unix(p.BuildDate, 0)
	sum, sha256, err := apk.WriteControl(&control, p, scripts, nil, when)
	if err != nil {
		return nil, err
	}
	if err := apk.SignControl(&signature, signer, sha256[:], when); err != nil {
		return nil, err
	}
	whole := append(append(signature.Bytes(), control.Bytes()...), data.Bytes()...)
	p.Checksum, p.Size = sum, int64(len(whole))
	return p, os.WriteFile(filepath.Join(dir, p.FileName()), whole, 0o644)
}

func parse(block string, arch apk.Arch) (*apk.Package, *filetree.Tree, apk.Scripts, error) {
	fields := fmt.Sprintf("C:Q1%s=\nA:%s\nS:1\nI:1\nt:1600000000\nL:MIT\n", strings.Repeat("A", 27), arch)
	tree, scripts := filetree.New(), apk.Scripts{}
	replaces := ""
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "r:"):
			replaces = line[2:]
		case len(line) > 1 && line[1] == ':':
			fields += line + "\n"
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "script "):
			name, body, _ := strings.Cut(strings.TrimPrefix(line, "script "), " ")
			scripts[name] = []byte(body + "\n")
		default:
			if err := entry(tree, line, arch); err != nil {
				return nil, nil, nil, fmt.Errorf("line %q: %w", line, err)
			}
		}
	}
	index, err := apk.ParseIndex(strings.NewReader(fields + "\n"))
	if err != nil {
		return nil, nil, nil, err
	}
	p := index.Packages[0]
	p.Replaces, err = apk.ParseDependencies(replaces)
	return p, tree, scripts, err
}

func entry(tree *filetree.Tree, line string, arch apk.Arch) error {
	kind, rest, _ := strings.Cut(line, " ")
	name, rest, _ := strings.Cut(rest, " ")
	e := filetree.Entry{Path: name, ModTime: time.Unix(1500000000, 0)}
	switch kind {
	case "link":
		e.Mode, e.Link = fs.ModeSymlink|0o777, rest
	case "hard":
		e.Mode, e.HardLink, e.Link = 0o644, true, rest
		if target, ok := tree.Lookup(rest); ok {
			e.Mode, e.UID, e.GID = target.Mode, target.UID, target.GID
		}
	case "library":
		content := sample.Library(machines[arch], rest)
		e.Mode, e.Size, e.Open = 0o755, int64(len(content)), filetree.Bytes(content)
	case "dir", "file":
		bits, rest, _ := strings.Cut(rest, " ")
		mode, err := strconv.ParseUint(bits, 8, 32)
		if err != nil {
			return err
		}
		e.Mode = unixMode(mode)
		if owner, more, _ := strings.Cut(rest, " "); strings.Contains(owner, ":") {
			if _, err := fmt.Sscanf(owner, "%d:%d", &e.UID, &e.GID); err == nil {
				rest = more
			}
		}
		if kind == "dir" {
			e.Mode |= fs.ModeDir
			break
		}
		content, err := strconv.Unquote(`"` + strings.ReplaceAll(rest, `"`, `\"`) + `"`)
		if err != nil {
			return err
		}
		e.Size, e.Open = int64(len(content)), filetree.Bytes([]byte(content))
	default:
		return fmt.Errorf("kind %q is not known", kind)
	}
	return tree.Put(e)
}

// machines are those that libraries are made for.
var machines = map[apk.Arch]sample.Machine{
	"x86_64":  {Machine: elf.EM_X86_64, Class: elf.ELFCLASS64},
	"aarch64": {Machine: elf.EM_AARCH64, Class: elf.ELFCLASS64},
	"ppc64le": {Machine: elf.EM_PPC64, Class: elf.ELFCLASS64, Flags: 2},
	"s390x":   {Machine: elf.EM_S390, Class: elf.ELFCLASS64, Big: true},
}

func unixMode(bits uint64) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
