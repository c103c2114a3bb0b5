package apk

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
)

// An Arch is an architecture as apk spells it: x86_64, aarch64, noarch.
type Arch string

// platforms is how Go and OCI spell the architectures that packages are made for.
var platforms = map[Arch]string{
	"x86": "386", "x86_64": "amd64", "aarch64": "arm64", "armhf": "arm/v6", "armv7": "arm/v7",
	"loongarch64": "loong64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
}

// Archs are the architectures that packages are made for, sorted.
func Archs() []Arch { return slices.Sorted(maps.Keys(platforms)) }

// Platform is how Go and OCI spell the architecture: amd64, arm/v7.
func (a Arch) Platform() string { return cmp.Or(platforms[a], string(a)) }

// ParseArch reads an architecture in apk's spelling, or in that of Go and OCI.
func ParseArch(word string) (Arch, error) {
	for _, a := range Archs() {
		if word == string(a) || word == a.Platform() {
			return a, nil
		}
	}
	return "", fmt.Errorf("unknown architecture %q", word)
}

// HostArch is the architecture of this program, and so one that the machine runs.
func HostArch() Arch {
	if runtime.GOARCH == "arm" {
		return "armv7" // Go does not tell which
	}
	a, err := ParseArch(runtime.GOARCH)
	if err != nil {
		return Arch(runtime.GOARCH)
	}
	return a
}
