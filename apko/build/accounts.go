package build

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/filetree"
)

// accounts adds users and groups to those that the packages bring.
func (r *root) accounts(a image.Accounts) error {
	if err := r.groups(a.Groups); err != nil {
		return err
	}
	if len(a.Users) == 0 {
		return nil
	}
	passwd, err := r.readLines("etc/passwd")
	if err != nil {
		return err
	}
	shadow, err := r.readLines("etc/shadow")
	if err != nil {
		return err
	}
	for _, u := range a.Users {
		line := fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Name, u.Home, u.Shell)
		if passwd, err = addAccount(passwd, "user", line); err != nil {
			return err
		}
		if !slices.ContainsFunc(shadow, func(l string) bool { return strings.HasPrefix(l, u.Name+":") }) {
			shadow = append(shadow, u.Name+":!:::::::")
		}
	}
	if err := r.rewrite("etc/passwd", 0o644, joinLines(passwd)); err != nil {
		return err
	}
	if err := r.rewrite("etc/shadow", 0o640, joinLines(shadow)); err != nil {
		return err
	}
	return r.homes(a.Users)
}

func (r *root) homes(users []image.User) error {
	for _, u := range users {
		home := strings.TrimPrefix(path.Clean(u.Home), "/")
		if home == "" || home == "dev/null" {
			continue
		}
		if err := r.directory(home, 0o700, int(u.UID), int(u.GID)); err != nil {
			return fmt.Errorf("home of user %s: %w", u.Name, err)
		}
	}
	return nil
}

func (r *root) groups(groups []image.Group) error {
	if len(groups) == 0 {
		return nil
	}
	lines, err := r.readLines("etc/group")
	if err != nil {
		return err
	}
	for _, g := range groups {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, g.Name+":") })
		if i >= 0 && field(lines[i], 2) == strconv.Itoa(int(g.GID)) {
			lines[i] = withMembers(lines[i], g.Members)
			continue
		}
		line := fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, strings.Join(g.Members, ","))
		if lines, err = addAccount(lines, "group", line); err != nil {
			return err
		}
	}
	return r.rewrite("etc/group", 0o644, joinLines(lines))
}

// withMembers adds members to the line of a group that a package brings.
func withMembers(line string, members []string) string {
	have := strings.Split(field(line, 3), ",")
	if have[0] == "" {
		have = nil
	}
	for _, m := range members {
		if !slices.Contains(have, m) {
			have = append(have, m)
		}
	}
	return strings.Join(strings.SplitN(line, ":", 4)[:3], ":") + ":" + strings.Join(have, ",")
}

// addAccount adds a line to those of /etc/passwd or /etc/group. A name or number that is there already is a mistake,
// unless it is the very same account.
func addAccount(lines []string, kind, line string) ([]string, error) {
	for _, have := range lines {
		sameName, sameID := field(have, 0) == field(line, 0), field(have, 2) == field(line, 2)
		switch {
		case sameName && sameID && field(have, 3) == field(line, 3):
			return lines, nil
		case sameName:
			return nil, fmt.Errorf("%s %s: a package brings one of that name with the number %s", kind, field(line, 0), field(have, 2))
		case sameID:
			return nil, fmt.Errorf("%s %s: its number %s is that of %s", kind, field(line, 0), field(line, 2), field(have, 0))
		}
	}
	return append(lines, line), nil
}

func field(line string, i int) string {
	if f := strings.Split(line, ":"); i < len(f) {
		return f[i]
	}
	return ""
}

func (r *root) readLines(name string) ([]string, error) {
	b, err := r.read(name)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

func joinLines(lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// rewrite replaces the content of a file and keeps its mode and owner; a file that is missing gets the mode given.
func (r *root) rewrite(name string, mode fs.FileMode, content []byte) error {
	e := filetree.Entry{Path: name, Mode: mode}
	if have, ok := r.tree.Resolve(name); ok {
		e = filetree.Entry{Path: have.Path, Mode: have.Mode, UID: have.UID, GID: have.GID, Xattrs: have.Xattrs}
	}
	e.Size, e.Open = int64(len(content)), filetree.Bytes(content)
	return r.put(e)
}

// runAs is the user of the image's configuration, in numbers: user, user:group or numbers of either.
func (r *root) runAs(name string) (string, error) {
	user, group, both := strings.Cut(name, ":")
	uid, err := r.number("etc/passwd", "user", user)
	if err != nil || !both {
		return uid, err
	}
	gid, err := r.number("etc/group", "group", group)
	return uid + ":" + gid, err
}

func (r *root) number(file, kind, name string) (string, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil || name == "" {
		return name, nil
	}
	lines, err := r.readLines(file)
	if err != nil {
		return "", err
	}
	for _, line := range lines {
		if field(line, 0) == name {
			return field(line, 2), nil
		}
	}
	return "", fmt.Errorf("run-as: the image has no %s %s", kind, name)
}
