package rootfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// Database says what apk finds in a root besides the list of installed packages.
type Database struct {
	World        []apk.Dependency
	Repositories []apk.RepositoryLine
	Arch         apk.Arch
	Keys         map[string][]byte // public keys, by the name of their file in etc/apk/keys
}

// entries are the files of the database, in a fixed order.
func (d Database) entries(db *apk.Installed, at time.Time) ([]filetree.Entry, error) {
	var es []filetree.Entry
	var b bytes.Buffer
	add := func(name string, err error) error {
		content := bytes.Clone(b.Bytes())
		b.Reset()
		es = append(es, fileEntry(name, content, at))
		return err
	}
	for name, key := range d.Keys {
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("key %q: not the name of a file", name)
		}
		es = append(es, fileEntry("etc/apk/keys/"+name, key, at))
	}
	fmt.Fprintf(&b, "%s\n", d.Arch)
	err := errors.Join(
		add(apk.ArchFile, nil),
		add(apk.WorldFile, apk.WriteWorld(&b, d.World)),
		add(apk.RepositoriesFile, apk.WriteRepositories(&b, d.Repositories)),
		add(apk.InstalledFile, db.Write(&b)),
		add(apk.ScriptsFile, db.WriteScripts(&b)),
		add(apk.TriggersFile, db.WriteTriggers(&b)),
	)
	lock := fileEntry(apk.LockFile, nil, at)
	lock.Mode = 0o600
	return append(es, lock), err
}

func fileEntry(name string, content []byte, at time.Time) filetree.Entry {
	return filetree.Entry{Path: name, Mode: 0o644, ModTime: at, Size: int64(len(content)), Open: filetree.Bytes(content)}
}

// skeleton is what a root has even if no package brings it.
func skeleton(t *filetree.Tree, at time.Time) []filetree.Entry {
	var missing []filetree.Entry
	for _, d := range []filetree.Entry{
		{Path: "dev", Mode: 0o755}, {Path: "etc", Mode: 0o755}, {Path: "etc/apk", Mode: 0o755}, {Path: "etc/apk/keys", Mode: 0o755},
		{Path: "lib/apk/db", Mode: 0o755}, {Path: "opt", Mode: 0o755}, {Path: "proc", Mode: 0o555}, {Path: "root", Mode: 0o700},
		{Path: "run", Mode: 0o755}, {Path: "sys", Mode: 0o555}, {Path: "tmp", Mode: fs.ModeSticky | 0o777}, {Path: "usr", Mode: 0o755},
		{Path: "var", Mode: 0o755}, {Path: "var/cache/apk", Mode: 0o755}, {Path: "var/cache/misc", Mode: 0o755},
		{Path: "var/tmp", Mode: fs.ModeSticky | 0o777},
	} {
		if _, ok := t.Resolve(d.Path); !ok {
			d.Mode |= fs.ModeDir
			d.ModTime = at
			missing = append(missing, d)
		}
	}
	return missing
}

// Accounts are lines of etc/passwd and etc/group.
type Accounts struct {
	Users  []User
	Groups []Group
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

// lines are those of etc/passwd and etc/group.
func (a Accounts) lines() (passwd, group []string, err error) {
	check := func(name string, fields ...string) {
		if name == "" || strings.ContainsAny(name+strings.Join(fields, ""), ":\n") {
			err = errors.Join(err, fmt.Errorf("account %q: not a line of etc/passwd or etc/group", name))
		}
	}
	for _, u := range a.Users {
		u.Home, u.Shell = cmp.Or(u.Home, "/"), cmp.Or(u.Shell, "/bin/sh")
		check(u.Name, u.Home, u.Shell)
		passwd = append(passwd, fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, u.UID, u.GID, u.Name, u.Home, u.Shell))
	}
	for _, g := range a.Groups {
		check(g.Name, g.Members...)
		group = append(group, fmt.Sprintf("%s:x:%d:%s", g.Name, g.GID, strings.Join(g.Members, ",")))
	}
	return passwd, group, err
}

// entries are etc/passwd and etc/group as the packages have them, with the accounts added of which neither
// the name nor the number is there, and the users' homes.
func (a Accounts) entries(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	passwd, group, err := a.lines()
	if err != nil {
		return nil, err
	}
	var es []filetree.Entry
	for _, u := range a.Users {
		home := strings.TrimPrefix(path.Clean("/"+u.Home), "/")
		if _, ok := t.Resolve(home); !ok && home != "" {
			es = append(es, filetree.Entry{Path: home, Mode: fs.ModeDir | 0o755, UID: u.UID, GID: u.GID, ModTime: at})
		}
	}
	for _, f := range []struct {
		name  string
		lines []string
	}{{"etc/passwd", passwd}, {"etc/group", group}} {
		content, err := readIfThere(t, f.name)
		if err != nil {
			return nil, err
		}
		if added := addAccounts(content, f.lines); !bytes.Equal(added, content) {
			es = append(es, fileEntry(f.name, added, at))
		}
	}
	return es, nil
}

// addAccounts appends the lines that are new by name and by number.
func addAccounts(content []byte, lines []string) []byte {
	taken := make(map[string]bool)
	for line := range strings.Lines(string(content)) {
		if field := strings.SplitN(strings.TrimSpace(line), ":", 4); len(field) >= 3 {
			taken["name "+field[0]], taken["id "+field[2]] = true, true
		}
	}
	out := bytes.Clone(content)
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	for _, line := range lines {
		field := strings.SplitN(line, ":", 4)
		if !taken["name "+field[0]] && !taken["id "+field[2]] {
			out = append(append(out, line...), '\n')
		}
	}
	return out
}

func readIfThere(t *filetree.Tree, name string) ([]byte, error) {
	b, err := t.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// BusyboxLinks are the symbolic links to busybox that the packages list in etc/busybox-paths.d, one path a
// line, as far as nothing else is there. apk would let busybox itself make them.
func BusyboxLinks(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	busybox, ok := t.Resolve("bin/busybox")
	if !ok || !busybox.Mode.IsRegular() {
		return nil, nil
	}
	lists, ok := t.Resolve("etc/busybox-paths.d")
	if !ok {
		return nil, nil
	}
	var links []filetree.Entry
	made := make(map[string]bool)
	for list := range t.Children(lists.Path) {
		content, err := t.ReadFile(list.Path)
		if err != nil {
			return nil, fmt.Errorf("reading list of busybox links: %w", err)
		}
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSpace(line)
			name := strings.TrimPrefix(path.Clean("/"+line), "/")
			if _, taken := t.Resolve(name); line == "" || name == "" || taken || made[name] {
				continue
			}
			made[name] = true
			links = append(links, filetree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: "/bin/busybox", ModTime: at})
		}
	}
	return links, nil
}

const (
	bundleFile       = "etc/ssl/certs/ca-certificates.crt"
	certificatesConf = "etc/ca-certificates.conf"
)

// Certificates is the bundle of all certificates that packages and administrators put where
// update-ca-certificates looks for them, unless there is a bundle. A name with "!" before it in
// etc/ca-certificates.conf is left out.
func Certificates(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	if _, ok := t.Resolve(bundleFile); ok {
		return nil, nil
	}
	conf, err := readIfThere(t, certificatesConf)
	if err != nil {
		return nil, err
	}
	unwanted := make(map[string]bool)
	for line := range strings.Lines(string(conf)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			unwanted[name] = true
		}
	}
	var bundle []byte
	for _, dir := range []string{"usr/share/ca-certificates", "usr/local/share/ca-certificates"} {
		top, ok := t.Resolve(dir)
		if !ok {
			continue
		}
		for e := range t.Below(top.Path) {
			if path.Ext(e.Path) != ".crt" || unwanted[strings.TrimPrefix(e.Path, top.Path+"/")] {
				continue
			}
			pem, err := t.ReadFile(e.Path)
			if err != nil {
				return nil, fmt.Errorf("making bundle of certificates: %w", err)
			}
			bundle = append(bytes.TrimRight(append(bundle, pem...), "\n"), '\n')
		}
	}
	if len(bundle) == 0 {
		return nil, nil
	}
	return []filetree.Entry{fileEntry(bundleFile, bundle, at)}, nil
}

// byPath orders generated entries so that a directory comes before what is in it.
func byPath(a, b filetree.Entry) int { return cmp.Compare(a.Path, b.Path) }
