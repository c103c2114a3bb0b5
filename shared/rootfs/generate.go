package rootfs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// generator makes entries from what a tree holds.
type generator func(t *filetree.Tree, at time.Time) ([]filetree.Entry, error)

// Database says what apk finds in a root besides the list of installed packages.
type Database struct {
	World        []apk.Dependency
	Repositories []apk.RepositoryLine
	Arch         apk.Arch
	Keys         map[string][]byte // public keys, by the name of their file in etc/apk/keys
}

// of makes the files of the database.
func (d Database) of(db *apk.Installed) generator {
	return func(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
		es, err := d.keys(t, at)
		if err != nil {
			return nil, err
		}
		for _, f := range []struct {
			name  string
			write func(io.Writer) error
		}{
			{apk.ArchFile, func(w io.Writer) error { _, err := fmt.Fprintln(w, d.Arch); return err }},
			{apk.WorldFile, func(w io.Writer) error { return apk.WriteWorld(w, d.World) }},
			{apk.RepositoriesFile, func(w io.Writer) error { return apk.WriteRepositories(w, d.Repositories) }},
			{apk.InstalledFile, db.Write}, {apk.ScriptsFile, db.WriteScripts}, {apk.TriggersFile, db.WriteTriggers},
		} {
			var b bytes.Buffer
			if err := f.write(&b); err != nil {
				return nil, err
			}
			es = append(es, fileEntry(f.name, b.Bytes(), at))
		}
		lock := fileEntry(apk.LockFile, nil, at)
		lock.Mode = 0o600
		return append(es, lock), nil
	}
}

// keys are the trusted keys that no package brings. Another key of the same name is a mistake: apk would
// trust only one of them.
func (d Database) keys(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	var es []filetree.Entry
	for _, name := range slices.Sorted(maps.Keys(d.Keys)) {
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("key %q: not the name of a file", name)
		}
		file, key := "etc/apk/keys/"+name, d.Keys[name]
		have, err := readIfThere(t, file)
		switch {
		case err != nil:
			return nil, err
		case have == nil:
			es = append(es, fileEntry(file, key, at))
		case !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(key)):
			return nil, fmt.Errorf("key %s: a package brings another key of that name", name)
		}
	}
	return es, nil
}

func fileEntry(name string, content []byte, at time.Time) filetree.Entry {
	return filetree.Entry{Path: name, Mode: 0o644, ModTime: at, Size: int64(len(content)), Open: filetree.Bytes(content)}
}

// Rewrite is a file with new content that keeps the owner and mode of the one that the name leads to, if
// there is one.
func Rewrite(t *filetree.Tree, name string, mode fs.FileMode, content []byte, at time.Time) filetree.Entry {
	e := fileEntry(name, content, at)
	e.Mode = mode
	if have, ok := t.Resolve(name); ok {
		e.Path, e.Mode, e.UID, e.GID, e.Xattrs = have.Path, have.Mode, have.UID, have.GID, have.Xattrs
	}
	return e
}

func readIfThere(t *filetree.Tree, name string) ([]byte, error) {
	b, err := t.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// skeleton is the directories that apk and a container's runtime count on.
func skeleton(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	return missing(t, at, []filetree.Entry{
		{Path: "dev", Mode: 0o755}, {Path: "etc", Mode: 0o755}, {Path: "etc/apk", Mode: 0o755}, {Path: "etc/apk/keys", Mode: 0o755},
		{Path: "lib/apk/db", Mode: 0o755}, {Path: "proc", Mode: 0o555}, {Path: "sys", Mode: 0o555},
		{Path: "tmp", Mode: fs.ModeSticky | 0o777}, {Path: "var", Mode: 0o755},
		{Path: "var/cache/apk", Mode: 0o755}, {Path: "var/cache/misc", Mode: 0o755},
	}), nil
}

// workplace is the directories that builds count on.
func workplace(t *filetree.Tree, at time.Time) ([]filetree.Entry, error) {
	return missing(t, at, []filetree.Entry{
		{Path: "opt", Mode: 0o755}, {Path: "root", Mode: 0o700}, {Path: "run", Mode: 0o755}, {Path: "usr", Mode: 0o755},
		{Path: "var/tmp", Mode: fs.ModeSticky | 0o777},
	}), nil
}

func missing(t *filetree.Tree, at time.Time, dirs []filetree.Entry) []filetree.Entry {
	for i := range dirs {
		dirs[i].Mode |= fs.ModeDir
		dirs[i].ModTime = at
	}
	return slices.DeleteFunc(dirs, func(d filetree.Entry) bool { _, ok := t.Resolve(d.Path); return ok })
}

// BusyboxLinks are the symbolic links to busybox that the packages list in etc/busybox-paths.d, one path a
// line, as far as nothing else is there, be it a link that leads nowhere. apk would let busybox itself make
// them.
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
			name := strings.TrimPrefix(path.Clean("/"+strings.TrimSpace(line)), "/")
			if name == "" {
				continue
			}
			name, err := Locate(t, name)
			if _, taken := t.Lookup(name); err != nil || taken || made[name] {
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
