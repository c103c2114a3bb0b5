package build

import (
	"fmt"
	"strconv"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/rootfs"
)

// accounts adds users and groups to those that the packages bring.
func (r *root) accounts(a image.Accounts) error {
	accounts := rootfs.Accounts{Strict: true, Shadow: true, HomeMode: 0o700}
	for _, u := range a.Users {
		accounts.Users = append(accounts.Users, rootfs.User{Name: u.Name, UID: int(u.UID), GID: int(u.GID), Home: u.Home, Shell: u.Shell})
	}
	for _, g := range a.Groups {
		accounts.Groups = append(accounts.Groups, rootfs.Group{Name: g.Name, GID: int(g.GID), Members: g.Members})
	}
	return r.generate(accounts.Entries)
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
		if field := strings.SplitN(line, ":", 4); len(field) > 2 && field[0] == name {
			return field[2], nil
		}
	}
	return "", fmt.Errorf("run-as: the image has no %s %s", kind, name)
}
