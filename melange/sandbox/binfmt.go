package sandbox

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// emulator runs the programs of one architecture.
type emulator struct{ Arch, Program string }

// machines says how the programs of an architecture begin.
var machines = map[string]struct {
	class   elf.Class
	order   elf.Data
	machine elf.Machine
}{
	"aarch64":     {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64},
	"armhf":       {elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_ARM},
	"armv7":       {elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_ARM},
	"loongarch64": {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_LOONGARCH},
	"ppc64le":     {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_PPC64},
	"riscv64":     {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_RISCV},
	"s390x":       {elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390},
	"x86":         {elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_386},
	"x86_64":      {elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64},
}

// header returns the first bytes of an architecture's programs, and which of their bits count. The ABI byte
// does not (GNU/Linux and none are in use), nor does the last bit of the type: executable is 2, and 3 is also
// what a position-independent one calls itself.
func header(arch string) (magic, mask []byte) {
	m := machines[arch]
	magic = []byte{0x7f, 'E', 'L', 'F', byte(m.class), byte(m.order), byte(elf.EV_CURRENT), 0, 15: 0}
	mask = slices.Repeat([]byte{0xff}, 20)
	mask[7] = 0
	if m.order == elf.ELFDATA2MSB {
		magic = binary.BigEndian.AppendUint16(magic, uint16(elf.ET_EXEC))
		magic = binary.BigEndian.AppendUint16(magic, uint16(m.machine))
		mask[17] = 0xfe
		return magic, mask
	}
	magic = binary.LittleEndian.AppendUint16(magic, uint16(elf.ET_EXEC))
	magic = binary.LittleEndian.AppendUint16(magic, uint16(m.machine))
	mask[16] = 0xfe
	return magic, mask
}

// registration is the line that binfmt_misc takes. F opens the program now, by its name on the host, so that the
// root needs none; P lets it tell a program the name it was called by; O lets it run what may be executed but not read.
func registration(arch, program string) string {
	magic, mask := header(arch)
	return fmt.Sprintf(":qemu-%s:M::%s:%s:%s:FPO", arch, escape(magic), escape(mask), program)
}

func escape(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

// openBinfmt makes this namespace's own instance of binfmt_misc and registers the emulators there. Before Linux 6.7
// there is only the host's; when that has what is wanted, no mount is needed.
func (o operation) openBinfmt() (int, error) {
	fd, err := newFilesystem("binfmt_misc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		return -1, hostEmulators(o.Emulators, "/proc/sys/fs/binfmt_misc")
	}
	if err != nil {
		return -1, err
	}
	for _, e := range o.Emulators {
		if err := e.register(fd); err != nil {
			return -1, fmt.Errorf("registering %s for %s: %w", e.Program, e.Arch, err)
		}
	}
	return fd, setAttributes(fd, unix.MOUNT_ATTR_RDONLY)
}

// register has the kernel open the emulator through a read-only mount of its own: what runs under it can find
// it at /proc/PID/exe, and must not be able to write to the host's file.
func (e emulator) register(binfmt int) error {
	tree, err := cloneTree(e.Program)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := setAttributes(tree, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID); err != nil {
		return err
	}
	fd, err := unix.Openat(binfmt, "register", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(registration(e.Arch, fmt.Sprintf("/proc/self/fd/%d", tree))))
	return os.NewSyscallError("write", err)
}

// hostEmulators checks that the host itself has an emulator registered for each architecture, in a way that
// needs no file of it in the root.
func hostEmulators(wanted []emulator, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	registered := make(map[string]bool)
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil {
			if magic, ok := parseRegistered(string(data)); ok {
				registered[magic] = true
			}
		}
	}
	for _, e := range wanted {
		magic, _ := header(e.Arch)
		if !registered[fmt.Sprintf("%x", magic)] {
			return fmt.Errorf("programs of %s cannot be run: this kernel has no binfmt_misc for user namespaces (that is Linux 6.7), "+
				"and the host has no fixed (F) registration for them: update the kernel, or install qemu-user-static on the host", e.Arch)
		}
	}
	return nil
}

// parseRegistered returns the magic of an enabled registration that is fixed.
func parseRegistered(text string) (magic string, ok bool) {
	enabled, fixed := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "enabled":
			enabled = true
		case "flags:":
			fixed = strings.Contains(value, "F")
		case "magic":
			magic = value
		}
	}
	return magic, enabled && fixed && magic != ""
}
