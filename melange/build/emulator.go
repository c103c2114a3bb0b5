package build

import (
	"fmt"
	"os/exec"

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
