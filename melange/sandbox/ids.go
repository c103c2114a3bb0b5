package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// idRange is what a user namespace maps at most: the 16-bit ids, which is all that a package may own.
const idRange = 65536

// mapping says which ids exist inside. There are three, by what the caller may do:
//
//   - root maps 0..65535 to themselves (or as many as its own namespace has), so files keep their owners on disk;
//   - a user with a range in /etc/subuid and /etc/subgid is root inside, and has that range as 1 and up; the
//     setuid helpers newuidmap and newgidmap write the maps;
//   - any other user is root inside, and the only one: chown to anyone else is an error there.
type mapping struct {
	uids, gids []syscall.SysProcIDMap
	helpers    bool // newuidmap and newgidmap have to write it
	root       bool
}

func callerMapping() (mapping, error) {
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		return rootMapping()
	}
	m := mapping{
		uids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}},
		gids: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}},
	}
	if !helpersWork() {
		return m, nil
	}
	name := ""
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
	}
	uids, err := subordinate("/etc/subuid", name, uid)
	if err != nil {
		return m, err
	}
	gids, err := subordinate("/etc/subgid", name, uid)
	if err != nil || uids == nil || gids == nil {
		return m, err
	}
	m.uids, m.gids, m.helpers = append(m.uids, *uids), append(m.gids, *gids), true
	return m, nil
}

// helpersWork reports whether newuidmap and newgidmap exist and can gain anything from their setuid bits.
func helpersWork() bool {
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || n != 0 {
		return false
	}
	_, errU := exec.LookPath("newuidmap")
	_, errG := exec.LookPath("newgidmap")
	return errU == nil && errG == nil
}

// subordinate finds a user's range in the manner of subuid(5): the first line for the name or the number.
func subordinate(file, name string, uid int) (*syscall.SysProcIDMap, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseSubordinate(data, name, uid), nil
}

func parseSubordinate(data []byte, name string, uid int) *syscall.SysProcIDMap {
	for line := range strings.Lines(string(data)) {
		field := strings.Split(strings.TrimSpace(line), ":")
		if len(field) != 3 || field[0] == "" || (field[0] != name && field[0] != strconv.Itoa(uid)) {
			continue
		}
		start, err := strconv.ParseUint(field[1], 10, 31)
		if err != nil {
			continue
		}
		count, err := strconv.ParseUint(field[2], 10, 31)
		if err != nil || count == 0 {
			continue
		}
		return &syscall.SysProcIDMap{ContainerID: 1, HostID: int(start), Size: int(min(count, idRange-1))}
	}
	return nil
}

func rootMapping() (mapping, error) {
	uids, err := ownRange("/proc/self/uid_map")
	if err != nil {
		return mapping{}, err
	}
	gids, err := ownRange("/proc/self/gid_map")
	if err != nil {
		return mapping{}, err
	}
	return mapping{
		uids: []syscall.SysProcIDMap{{Size: uids}},
		gids: []syscall.SysProcIDMap{{Size: gids}},
		root: true,
	}, nil
}

// ownRange is how many ids from 0 on exist in the caller's own namespace.
func ownRange(file string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	end := 0
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var inside, outside, count int
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err != nil {
			return 0, fmt.Errorf("reading %s: %w", file, err)
		}
		if inside == end {
			end += count
		}
	}
	return min(end, idRange), nil
}

// apply lets the new namespace be made with the map already in place, when the caller may write it itself.
func (m mapping) apply(attr *syscall.SysProcAttr) {
	if m.helpers {
		return
	}
	attr.UidMappings, attr.GidMappings = m.uids, m.gids
	attr.GidMappingsEnableSetgroups = m.root
}

// write has the helpers write the maps of a process that waits for them.
func (m mapping) write(pid int) error {
	if err := runHelper("newuidmap", pid, m.uids); err != nil {
		return err
	}
	return runHelper("newgidmap", pid, m.gids)
}

func runHelper(name string, pid int, ids []syscall.SysProcIDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, r := range ids {
		args = append(args, strconv.Itoa(r.ContainerID), strconv.Itoa(r.HostID), strconv.Itoa(r.Size))
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mapping ids: %s: %s (%w); repair or remove this user's lines in /etc/subuid and /etc/subgid",
			name, bytes.TrimSpace(out), err)
	}
	return nil
}
