package sandbox

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_AARCH64

// nativeForbidden are calls that only this machine has.
var nativeForbidden []uintptr
