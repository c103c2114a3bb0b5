package rootfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/filetree"
)

// Accounts are users and groups to add to those that packages bring.
type Accounts struct {
	Users  []User
	Groups []Group

	// Strict makes it a mistake when the name or the number is that of another account. Otherwise that one
	// stays, alone.
	Strict   bool
	Shadow   bool        // users also get a line in etc/shadow, by which nobody can log in
	HomeMode fs.FileMode // of homes that are made; 0 is 0755
}

// A User is a line of etc/passwd.
type User struct {
	Name     string
	UID, GID int
	Home     string // "" is "/"
	Shell    string // "" is /bin/sh
}

// A Group is a line of etc/group.
type Group struct {
	Name    string
	GID     int
	Members []string
}

// standard are the accounts of every environment: builds run as root of their namespace, in the home of
// the user build.
var standard = Accounts{
	Users: []User{
		{Name: "root", Home: "/root"},
		{Name: "build", UID: 1000, GID: 1000, Home: "/home/build"},
	},
	Groups: []Group{{Name: "root"}, {Name: "build", GID: 1000}},
}

// Entries are etc/passwd, etc/group and etc/shadow with the accounts added, as far as that changes them, and
// the users' homes. A group that is there already gets the members that it lacks.
func (a Accounts) Entries(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	es, err := a.homes(t, at)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		mode fs.FileMode
		add  func([]string) ([]string, error)
	}{{"etc/passwd", 0o644, a.addUsers}, {"etc/group", 0o644, a.addGroups}, {"etc/shadow", 0o640, a.addShadow}} {
		content, err := readIfThere(t, f.name)
		if err != nil {
			return nil, err
		}
		have := splitLines(content)
		lines, err := f.add(slices.Clone(have))
		if err != nil {
			return nil, err
		}
		if !slices.Equal(have, lines) {
			es = append(es, Rewrite(t, f.name, f.mode, []byte(strings.Join(lines, "\n")+"\n"), at))
		}
	}
	return es, nil
}

func (a Accounts) check() (err error) {
	check := func(name string, fields ...string) {
		if name == "" || strings.ContainsAny(name+strings.Join(fields, ""), ":\n") {
			err = errors.Join(err, fmt.Errorf("account %q: not a line of etc/passwd or etc/group", name))
		}
	}
	for _, u := range a.Users {
		check(u.Name, u.Home, u.Shell)
	}
	for _, g := range a.Groups {
		check(g.Name, g.Members...)
	}
	return err
}

func (a Accounts) homes(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	var es []filetree.Entry
	for _, u := range a.Users {
		home := strings.TrimPrefix(path.Clean("/"+u.Home), "/")
		if home == "" || home == "dev/null" {
			continue
		}
		if have, ok := t.Resolve(home); !ok {
			mode := fs.ModeDir | cmp.Or(a.HomeMode, 0o755)
			es = append(es, filetree.Entry{Path: home, Mode: mode, UID: u.UID, GID: u.GID, ModTime: at})
		} else if a.Strict && !have.Mode.IsDir() {
			return nil, fmt.Errorf("home of user %s: %s is no directory", u.Name, home)
		}
	}
	return es, nil
}

func (a Accounts) addUsers(lines []string) ([]string, error) {
	for _, u := range a.Users {
		line := fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Name, cmp.Or(u.Home, "/"), cmp.Or(u.Shell, "/bin/sh"))
		var err error
		if lines, err = a.add(lines, "user", line); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func (a Accounts) addGroups(lines []string) ([]string, error) {
	for _, g := range a.Groups {
		line := fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, strings.Join(g.Members, ","))
		same := func(have string) bool {
			return field(have, 0) == g.Name && field(have, 2) == strconv.Itoa(g.GID)
		}
		if i := slices.IndexFunc(lines, same); i >= 0 {
			lines[i] = withMembers(lines[i], g.Members)
			continue
		}
		var err error
		if lines, err = a.add(lines, "group", line); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func (a Accounts) addShadow(lines []string) ([]string, error) {
	for _, u := range a.Users {
		if a.Shadow && !slices.ContainsFunc(lines, func(l string) bool { return field(l, 0) == u.Name }) {
			lines = append(lines, u.Name+":!:::::::")
		}
	}
	return lines, nil
}

// add appends a line of etc/passwd or etc/group unless its name or number is taken.
func (a Accounts) add(lines []string, kind, line string) ([]string, error) {
	for _, have := range lines {
		sameName, sameID := field(have, 0) == field(line, 0), field(have, 2) == field(line, 2)
		switch {
		case !sameName && !sameID:
			continue
		case !a.Strict, sameName && sameID && field(have, 3) == field(line, 3):
			return lines, nil
		case sameName:
			return nil, fmt.Errorf("%s %s: a package brings one of that name with the number %s", kind, field(line, 0), field(have, 2))
		}
		return nil, fmt.Errorf("%s %s: its number %s is that of %s", kind, field(line, 0), field(line, 2), field(have, 0))
	}
	return append(lines, line), nil
}

// withMembers adds the members that the line of a group lacks.
func withMembers(line string, members []string) string {
	have := strings.FieldsFunc(field(line, 3), func(c rune) bool { return c == ',' })
	for _, m := range members {
		if !slices.Contains(have, m) {
			have = append(have, m)
		}
	}
	return strings.Join(strings.SplitN(line, ":", 4)[:3], ":") + ":" + strings.Join(have, ",")
}

// field is one of the fields of an account's line; "" where it has fewer.
func field(line string, i int) string {
	if f := strings.Split(line, ":"); i < len(f) {
		return f[i]
	}
	return ""
}

// splitLines gives the lines that are not empty.
func splitLines(content []byte) []string {
	var lines []string
	for line := range bytes.Lines(content) {
		if line := strings.TrimSpace(string(line)); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
