package recipe

import (
	"cmp"
	"strconv"

	"distro.internal/shared/apk"
)

// machines defines the names of the architectures. "build" in build.arch is the package being built; in
// build.triplet.gnu it is autoconf's word for the machine that runs the compiler.
func (p *planner) machines(env EnvironmentSection) {
	libc := cmp.Or(p.options.Libc, "gnu")
	host := triplet(p.options.Arch, libc)
	if env.Sysroot != nil {
		libc = cmp.Or(env.Sysroot.Libc.Value, "musl")
		host = crossTriplet(p.options.Arch, libc)
	}
	build := host
	if env.Sysroot != nil {
		build = triplet(p.options.BuildArch, cmp.Or(p.options.Libc, "gnu"))
	}
	for _, m := range [...]struct{ name, value string }{
		{"host.triplet.gnu", host},
		{"host.triplet.rust", rustTriplet(p.options.Arch, libc)},
		{"build.triplet.gnu", build},
		{"cross.triplet.gnu.glibc", triplet(p.options.Arch, "gnu")},
		{"cross.triplet.gnu.musl", triplet(p.options.Arch, "musl")},
		{"cross.triplet.rust.glibc", rustTriplet(p.options.Arch, "gnu")},
		{"cross.triplet.rust.musl", rustTriplet(p.options.Arch, "musl")},
		{"build.arch", string(p.options.Arch)},
		{"build.goarch", p.options.Arch.Platform()},
		{"build.cross", strconv.FormatBool(env.Sysroot != nil)},
	} {
		p.root.set(m.name, m.value)
	}
}

// machine is how others call an architecture of apk.
type machine struct{ cpu, vendor, abi string }

var machines = map[apk.Arch]machine{
	"x86":         {"i486", "pc", ""},
	"x86_64":      {"x86_64", "pc", ""},
	"aarch64":     {"aarch64", "unknown", ""},
	"armhf":       {"arm", "unknown", "eabihf"},
	"armv7":       {"armv7l", "unknown", "eabihf"},
	"loongarch64": {"loongarch64", "unknown", ""},
	"ppc64le":     {"powerpc64le", "unknown", ""},
	"riscv64":     {"riscv64", "unknown", ""},
	"s390x":       {"s390x", "ibm", ""},
}

func machineOf(a apk.Arch) machine {
	if m, ok := machines[a]; ok {
		return m
	}
	return machine{cpu: string(a), vendor: "unknown"}
}

func triplet(a apk.Arch, libc string) string {
	m := machineOf(a)
	return m.cpu + "-" + m.vendor + "-linux-" + libc + m.abi
}

// crossTriplet never has a vendor, so that it differs from the build machine's even for the same CPU: that is how
// configure knows that it is cross compiling.
func crossTriplet(a apk.Arch, libc string) string {
	m := machineOf(a)
	return m.cpu + "-unknown-linux-" + libc + m.abi
}

func rustTriplet(a apk.Arch, libc string) string {
	m := machineOf(a)
	cpu := m.cpu
	switch a {
	case "x86":
		cpu = "i686"
	case "armv7":
		cpu = "armv7"
	case "riscv64":
		cpu = "riscv64gc"
	}
	return cpu + "-unknown-linux-" + libc + m.abi
}
