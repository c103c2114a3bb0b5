package image

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/cas"
)

// Lock says which packages, to the byte, an image is made of. It is the file that apko lock writes, and the image's key.
type Lock struct {
	Version  string       `json:"version"`
	Config   LockConfig   `json:"config"`
	Contents LockContents `json:"contents"`
}

// LockVersion is the version of the format.
const LockVersion = "v1"

// LockConfig names the configuration that was locked.
type LockConfig struct {
	Name   string `json:"name,omitempty"`
	Files  string `json:"checksum,omitempty"` // Config.Files, which other apkos compare
	Digest string `json:"digest,omitempty"`   // Config.Digest, which covers flags too, and no comments
}

// LockContents is what the image takes, and from where. Packages are in install order, one architecture after another.
type LockContents struct {
	Keyring             []LockKey     `json:"keyring"`
	BuildRepositories   []LockSource  `json:"build_repositories"`
	RuntimeRepositories []LockSource  `json:"runtime_repositories"`
	Repositories        []LockSource  `json:"repositories"`
	Packages            []LockPackage `json:"packages"`
	BaseImages          []LockBase    `json:"baseimages,omitempty"` // one of each architecture
}

// LockBase is the image that others are put on. Its packages are not in the lock.
type LockBase struct {
	Image        string   `json:"image"` // as the image file names it
	Architecture apk.Arch `json:"architecture"`
	Digest       string   `json:"digest"` // of its manifest
}

// LockKey is a trusted public key.
type LockKey struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Content string `json:"content,omitempty"`
}

// LockSource is a repository's index for one architecture. URLs hold no credentials.
type LockSource struct {
	Name         string   `json:"name"`
	URL          string   `json:"url"`
	Architecture apk.Arch `json:"architecture"`
}

// LockPackage is one package file. What is known of its sections is enforced when it is read; a lock that was made
// from indexes alone knows only the checksum.
type LockPackage struct {
	Name         string      `json:"name"`
	URL          string      `json:"url"`
	Version      apk.Version `json:"version"`
	Architecture apk.Arch    `json:"architecture"`
	Signature    LockSection `json:"signature,omitzero"`
	Control      LockSection `json:"control,omitzero"`
	Data         LockSection `json:"data,omitzero"`
	Checksum     string      `json:"checksum"` // of the control section, as indexes have it
}

// LockSection is a part of a package file: "bytes=0-646", "sha1-<base64>".
type LockSection struct {
	Range    string `json:"range"`
	Checksum string `json:"checksum"`
}

// Archs lists the architectures that the lock has packages for, in its order.
func (l *Lock) Archs() []apk.Arch {
	var list []apk.Arch
	for _, p := range l.Contents.Packages {
		if !slices.Contains(list, p.Architecture) {
			list = append(list, p.Architecture)
		}
	}
	for _, b := range l.Contents.BaseImages {
		if !slices.Contains(list, b.Architecture) {
			list = append(list, b.Architecture)
		}
	}
	return list
}

// Base is the digest of the base image of an architecture, empty when the lock names none.
func (l *Lock) Base(arch apk.Arch) string {
	for _, b := range l.Contents.BaseImages {
		if b.Architecture == arch {
			return b.Digest
		}
	}
	return ""
}

// Packages lists the packages of one architecture in install order.
func (l *Lock) Packages(arch apk.Arch) []LockPackage {
	var list []LockPackage
	for _, p := range l.Contents.Packages {
		if p.Architecture == arch {
			list = append(list, p)
		}
	}
	return list
}

// keyFormat changes when images made from the same lock change.
const keyFormat = "6"

// Key is the image's key: two locks with the same key make the same image. It covers the configuration, the packages and
// the keys, not the addresses they come from.
func (l *Lock) Key() *cas.Key {
	k := cas.NewKey("apko image")
	k.Add("format", keyFormat)
	k.Add("config", l.Config.Digest)
	for _, key := range l.Contents.Keyring {
		k.Add("key "+key.Name, key.Content)
	}
	for _, p := range l.Contents.Packages {
		k.Add("package "+string(p.Architecture)+"/"+p.Name, string(p.Version)+" "+p.Checksum)
	}
	for _, b := range l.Contents.BaseImages {
		k.Add("base image "+string(b.Architecture), b.Digest)
	}
	return k
}

// Digest is the digest of the key.
func (l *Lock) Digest() cas.Digest { return l.Key().Digest() }

// ReadLock reads a lock file.
func ReadLock(file string) (*Lock, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading lock: %w", err)
	}
	l, err := parseLock(data)
	if err != nil {
		return nil, fmt.Errorf("reading lock %s: %w", file, err)
	}
	return l, nil
}

func parseLock(data []byte) (*Lock, error) {
	var l Lock
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&l); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the lock")
	}
	if l.Version != LockVersion {
		return nil, fmt.Errorf("version %q is not known, %s is", l.Version, LockVersion)
	}
	if l.Config.Digest == "" && !strings.HasPrefix(l.Config.Files, "sha256-") {
		l.Config.Digest, l.Config.Files = l.Config.Files, "" // as this apko wrote it at first
	}
	for i := range l.Contents.Keyring {
		key := &l.Contents.Keyring[i]
		key.Name = KeyName(key.Name) // other tools write how the image file names it
	}
	for i := range l.Contents.Packages {
		p := &l.Contents.Packages[i]
		arch, err := ParseArch(string(p.Architecture))
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
		p.Architecture = arch
		if p.Checksum == "" {
			return nil, fmt.Errorf("package %s has no checksum: lock the image again", p.Name)
		}
		if _, err := apk.ParseChecksum(p.Checksum); err != nil {
			return nil, fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	return &l, nil
}

// Encode writes the lock as JSON.
func (l *Lock) Encode(w io.Writer) error {
	whole := *l
	c := &whole.Contents
	for _, list := range []*[]LockSource{&c.BuildRepositories, &c.RuntimeRepositories, &c.Repositories} {
		if *list == nil {
			*list = []LockSource{}
		}
	}
	if c.Keyring == nil {
		c.Keyring = []LockKey{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(&whole)
}

// WriteFile writes the lock file, whole or not at all.
func (l *Lock) WriteFile(file string) error {
	if err := atomicfile.Write(file, 0o644, l.Encode); err != nil {
		return fmt.Errorf("writing lock %s: %w", file, err)
	}
	return nil
}

// Only is the lock with the packages of the given architectures. All must be in it.
func (l *Lock) Only(archs []apk.Arch) (*Lock, error) {
	less := *l
	less.Contents.Packages, less.Contents.BaseImages = nil, nil
	for _, arch := range archs {
		packages := l.Packages(arch)
		if len(packages) == 0 && l.Base(arch) == "" {
			return nil, fmt.Errorf("the lock has no packages for %s", arch)
		}
		less.Contents.Packages = append(less.Contents.Packages, packages...)
	}
	for _, b := range l.Contents.BaseImages {
		if slices.Contains(archs, b.Architecture) {
			less.Contents.BaseImages = append(less.Contents.BaseImages, b)
		}
	}
	return &less, nil
}

// Difference is a package, or a base image, that two locks have in different states.
type Difference struct {
	Arch     apk.Arch
	Name     string
	Old, New apk.Version // "" where it is not in the lock
}

// String is "x86_64 zlib: 1.3-r0 -> 1.3-r1".
func (d Difference) String() string {
	what := fmt.Sprintf("%s -> %s", d.Old, d.New)
	switch {
	case d.Old == "":
		what = string(d.New) + " comes"
	case d.New == "":
		what = string(d.Old) + " goes"
	case d.Old == d.New:
		what = string(d.Old) + " is built anew"
	}
	return fmt.Sprintf("%s %s: %s", d.Arch, d.Name, what)
}

// Diff lists in what the packages of another lock differ: those of each architecture in the order of their names.
func (l *Lock) Diff(other *Lock) []Difference {
	type key struct {
		arch apk.Arch
		name string
	}
	var list []Difference
	olds, news := make(map[key]LockPackage), make(map[key]LockPackage)
	for _, p := range l.Contents.Packages {
		olds[key{p.Architecture, p.Name}] = p
	}
	for _, p := range other.Contents.Packages {
		k := key{p.Architecture, p.Name}
		news[k] = p
		if old := olds[k]; old.Checksum != p.Checksum {
			list = append(list, Difference{p.Architecture, p.Name, old.Version, p.Version})
		}
	}
	for _, b := range other.Contents.BaseImages {
		if old := l.Base(b.Architecture); old != b.Digest {
			list = append(list, Difference{b.Architecture, "base image " + b.Image, apk.Version(old), apk.Version(b.Digest)})
		}
	}
	for _, p := range l.Contents.Packages {
		if _, ok := news[key{p.Architecture, p.Name}]; !ok {
			list = append(list, Difference{p.Architecture, p.Name, p.Version, ""})
		}
	}
	slices.SortFunc(list, func(a, b Difference) int {
		return cmp.Or(strings.Compare(string(a.Arch), string(b.Arch)), strings.Compare(a.Name, b.Name))
	})
	return list
}
