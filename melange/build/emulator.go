package build

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
)

// emulatorNames are qemu's words for architectures whose name it does not share with apk.
var emulatorNames = map[apk.Arch]string{"x86": "i386", "armhf": "arm", "armv7": "arm", "loongarch64": "loongarch64"}

// EmulatorName is what qemu calls its user-mode emulator of an architecture.
func EmulatorName(arch apk.Arch) string {
	if other, ok := emulatorNames[arch]; ok {
		return "qemu-" + other
	}
	return "qemu-" + string(arch)
}

// FindEmulator looks in PATH for a static user-mode emulator of an architecture.
func FindEmulator(arch apk.Arch) (string, error) {
	name := EmulatorName(arch)
	for _, program := range []string{name + "-static", name} {
		if file, err := exec.LookPath(program); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("neither %s-static nor %s is in PATH: install qemu-user-static", name, name)
}

// ParseSize reads a number of bytes as recipes write it: 512Mi, 4Gi, 1G, 1000.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "KMGTi")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no size: write 512Mi or 4Gi", text)
	}
	factors := map[string]int64{
		"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}
	factor, ok := factors[text[len(digits):]]
	if !ok {
		return 0, fmt.Errorf("%q is no size: write 512Mi or 4Gi", text)
	}
	return n * factor, nil
}
