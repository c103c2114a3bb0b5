package stage0

import (
	"fmt"
	"io/fs"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// baseName is the package that all others depend on: what Debian's installer
// and its packages' scripts would have made.
const baseName = "stage0-base"

// baseVersion changes with what the package holds.
const baseVersion = "1-r0"

// baseTime is that of all its files: 1980, the earliest that every archive format can say.
var baseTime = time.Unix(315532800, 0)

var baseFiles = []struct {
	name, body string
}{
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n" +
		"build:x:1000:1000:build:/home/build:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"},
	{"etc/group", "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"},
	{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
	{"etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"},
	{"etc/protocols", "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n"},
	{"etc/services", "ssh 22/tcp\nsmtp 25/tcp\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n"},
	{"etc/ld.so.conf", "/usr/local/lib\n/usr/lib/x86_64-linux-gnu\n/usr/lib\n"},
}

var baseDirs = []struct {
	name string
	mode fs.FileMode
}{
	{"dev", 0o755}, {"home/build", 0o755}, {"proc", 0o555}, {"root", 0o700}, {"run", 0o755}, {"sys", 0o555},
	{"tmp", 0o777 | fs.ModeSticky}, {"usr/local/bin", 0o755}, {"usr/local/lib", 0o755},
	{"usr/bin", 0o755}, {"usr/lib", 0o755}, {"usr/lib64", 0o755}, {"usr/sbin", 0o755},
	{"var/cache", 0o755}, {"var/lib", 0o755}, {"var/log", 0o755}, {"var/tmp", 0o777 | fs.ModeSticky},
}

// base writes the base package. It depends on nothing.
func (x *converter) base() (*apk.Package, error) {
	t, err := x.baseTree()
	if err != nil {
		return nil, err
	}
	return x.write(&apk.Package{
		Name: baseName, Version: baseVersion, Arch: Arch, Origin: baseName, License: "Apache-2.0",
		Description: "folders, links and accounts of the first tools (Debian " + x.suite + ")",
	}, t)
}

func (x *converter) baseTree() (*filetree.Tree, error) {
	var entries []filetree.Entry
	for _, d := range baseDirs {
		entries = append(entries, filetree.Entry{Path: d.name, Mode: fs.ModeDir | d.mode})
	}
	for _, name := range top {
		entries = append(entries, filetree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: "usr/" + name})
	}
	for _, f := range baseFiles {
		entries = append(entries, filetree.Entry{
			Path: f.name, Mode: 0o644, Size: int64(len(f.body)), Open: filetree.Bytes([]byte(f.body)),
		})
	}
	for _, link := range x.spec.Links {
		entries = append(entries, filetree.Entry{Path: link.Key.Value, Mode: fs.ModeSymlink | 0o777, Link: link.Value})
	}
	t := filetree.New()
	for _, e := range entries {
		e.ModTime = baseTime
		if err := t.Put(e); err != nil {
			return nil, fmt.Errorf("adding %s: %w", e.Path, err)
		}
	}
	for e := range t.All() {
		e.ModTime = baseTime
	}
	return t, nil
}
