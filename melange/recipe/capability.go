package recipe

import (
	"slices"
	"strings"

	"distro.internal/shared/document"
)

// capabilities are the kernel's names, at their numbers in linux/capability.h.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// CapabilitySet is names of Linux capabilities, such as CAP_NET_ADMIN, beyond and without the usual ones.
type CapabilitySet struct{ Add, Drop []string }

// Numbers are the kernel's numbers of the names in a set.
func (c CapabilitySet) Numbers() (add, drop []int) {
	numbers := func(names []string) (list []int) {
		for _, name := range names {
			list = append(list, slices.Index(capabilities, name))
		}
		return list
	}
	return numbers(c.Add), numbers(c.Drop)
}

// capabilities reads names, which may also be written as docker does: net_admin.
func (p *planner) capabilities(texts []document.String) []string {
	var names []string
	for _, t := range texts {
		written, ok := p.try(t, p.base)
		if !ok {
			continue
		}
		name := "CAP_" + strings.TrimPrefix(strings.ToUpper(written), "CAP_")
		if !slices.Contains(capabilities, name) {
			p.errs.Add(t.Pos, document.DidYouMean(name, capabilities), "unknown capability %q", written)
			continue
		}
		names = append(names, name)
	}
	return names
}
