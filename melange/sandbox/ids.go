package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// idRange is what a user namespace maps at most: the 16-bit ids.
const idRange = 65536

// strangerID is the last of them, which is mapped wherever several are: it stands for those which are not.
const strangerID = idRange - 1

// mapping says which ids exist inside. There are three, by what the caller may do:
//
//   - root maps 0..65535 to themselves (or as many as its own namespace has), so files keep their owners on disk;
//   - a user with a range in /etc/subuid and /etc/subgid is root inside, and has that range as 1 and up; the
//     setuid helpers newuidmap and newgidmap write the maps;
//   - any other user is root inside, and the only one: commands that are to be somebody else are the same one under
//     another number.
//
// Files may belong to ids that do not exist all the same: see owners.go.
type mapping struct {
	uids, gids []syscall.SysProcIDMap
	helpers    bool // newuidmap and newgidmap have to write it
	setgroups  bool // commands may change their groups
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
	m.uids, m.gids, m.helpers = withStranger(append(m.uids, *uids)), withStranger(append(m.gids, *gids)), true
	return m, nil
}

// withStranger makes the last of several ids the stranger, when there is none.
func withStranger(ids []syscall.SysProcIDMap) []syscall.SysProcIDMap {
	if len(ids) < 2 || exists(ids, strangerID) {
		return ids
	}
	all, last := slices.Clone(ids[:len(ids)-1]), ids[len(ids)-1]
	if last.Size--; last.Size > 0 {
		all = append(all, last)
	}
	return append(all, syscall.SysProcIDMap{ContainerID: strangerID, HostID: last.HostID + last.Size, Size: 1})
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

// check says whether a command can have the ids.
func (m mapping) check(uid, gid int) error {
	if exists(m.uids, uid) && exists(m.gids, gid) {
		return nil
	}
	return fmt.Errorf("the sandbox has no id %d:%d; for more than root, give this user ranges in /etc/subuid and /etc/subgid, "+
		"and install newuidmap and newgidmap (package uidmap or shadow)", uid, gid)
}

// single says that there is only one id.
func (m mapping) single() bool {
	return len(m.uids) == 1 && m.uids[0].Size == 1 && len(m.gids) == 1 && m.gids[0].Size == 1
}

func exists(ids []syscall.SysProcIDMap, id int) bool {
	return slices.ContainsFunc(ids, func(r syscall.SysProcIDMap) bool { return r.ContainerID <= id && id-r.ContainerID < r.Size })
}

// rootMapping maps what the caller's own namespace has, extent by extent: one that spans two is refused.
func rootMapping() (m mapping, err error) {
	uids, err := ownExtents("/proc/self/uid_map")
	if err != nil {
		return m, err
	}
	gids, err := ownExtents("/proc/self/gid_map")
	if err != nil {
		return m, err
	}
	return mapping{uids: withStranger(uids), gids: withStranger(gids), setgroups: maySetGroups()}, nil
}

// maySetGroups: a namespace that an ordinary user made with a single id must keep that user's groups.
func maySetGroups() bool {
	data, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(data)) == "allow"
}

func ownExtents(file string) ([]syscall.SysProcIDMap, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ids, err := parseExtents(string(data))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return ids, nil
}

// parseExtents reads an id map as a mapping of the same ids to themselves.
func parseExtents(text string) ([]syscall.SysProcIDMap, error) {
	var ids []syscall.SysProcIDMap
	for line := range strings.Lines(text) {
		var inside, outside, count int
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			return nil, err
		}
		if inside < idRange {
			ids = append(ids, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: min(count, idRange-inside)})
		}
	}
	return ids, nil
}

// apply lets the new namespace be made with the map already in place, when the caller may write it itself.
func (m mapping) apply(attr *syscall.SysProcAttr) {
	if m.helpers {
		return
	}
	attr.UidMappings, attr.GidMappings = m.uids, m.gids
	attr.GidMappingsEnableSetgroups = m.setgroups
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
