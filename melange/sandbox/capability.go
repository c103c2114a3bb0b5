package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Capabilities are by their numbers in linux/capability.h.
type Capabilities struct {
	Add  []int // beyond the usual ones
	Drop []int // of the usual ones; wins over Add
}

// keptCapabilities are the usual ones, all that is left to root inside: what it takes to act as the owner of files of any
// id, to become another of the mapped ids, and to end processes. What administrates the namespaces themselves (and so
// reaches large parts of the kernel) is gone: mounts, network, tracing, devices.
var keptCapabilities = []int{
	unix.CAP_CHOWN,            // install -o, tar as root
	unix.CAP_DAC_OVERRIDE,     // root writes where the mode says no
	unix.CAP_FOWNER,           // chmod, utimes and sticky folders of other owners
	unix.CAP_FSETID,           // setuid bits survive chown
	unix.CAP_KILL,             // test suites signal processes of other ids
	unix.CAP_NET_BIND_SERVICE, // servers under test, in the private network
	unix.CAP_SETFCAP,          // setcap on what is packaged
	unix.CAP_SETGID,           // su, daemons that drop root
	unix.CAP_SETUID,
	unix.CAP_SYS_CHROOT, // some test suites; a chroot inside leads nowhere else
}

// kept is the usual ones, with what is added and without what is dropped, sorted.
func (c Capabilities) kept() []int {
	set := map[int]bool{}
	for _, n := range slices.Concat(keptCapabilities, c.Add) {
		set[n] = true
	}
	for _, n := range c.Drop {
		delete(set, n)
	}
	return slices.Sorted(maps.Keys(set))
}

// ambient is what commands have that are not root: what was asked for. The usual ones are for being root.
func (c Capabilities) ambient() []int {
	return slices.DeleteFunc(slices.Sorted(slices.Values(c.Add)), func(n int) bool { return slices.Contains(c.Drop, n) })
}

// dropCapabilities bounds what root gets when it executes something to those that are kept.
func dropCapabilities(kept []int) error {
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := range last + 1 {
		if slices.Contains(kept, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
}

// lastCapability is the last one that the kernel knows.
func lastCapability() (int, error) {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
