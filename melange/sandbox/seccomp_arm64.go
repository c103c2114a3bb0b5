package sandbox

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_AARCH64

// nativeForbidden are calls that only this machine has.
var nativeForbidden []uintptr

var chownCalls = []chownCall{
	{unix.SYS_FCHOWNAT, 0, 1, 2, 4, 0},
	{unix.SYS_FCHOWN, 0, -1, 1, -1, unix.AT_EMPTY_PATH},
}
