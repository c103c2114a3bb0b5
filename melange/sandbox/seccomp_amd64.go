package sandbox

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_X86_64

// nativeForbidden are calls that only this machine has.
var nativeForbidden = []uintptr{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS__SYSCTL, unix.SYS_CREATE_MODULE}

var chownCalls = []chownCall{
	{unix.SYS_FCHOWNAT, 0, 1, 2, 4, 0},
	{unix.SYS_FCHOWN, 0, -1, 1, -1, unix.AT_EMPTY_PATH},
	{unix.SYS_CHOWN, -1, 0, 1, -1, 0},
	{unix.SYS_LCHOWN, -1, 0, 1, -1, unix.AT_SYMLINK_NOFOLLOW},
}
