package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// What packages' scripts would do on a disk is done here, from data that the packages bring: nothing is run.

// skeleton makes the directories that a container's runtime mounts on, and those that every program counts on.
func (r *root) skeleton() error {
	for _, d := range []struct {
		name string
		mode fs.FileMode
	}{
		{"dev", 0o755}, {"etc", 0o755}, {"proc", 0o555}, {"sys", 0o555}, {"tmp", 0o777 | fs.ModeSticky}, {"var", 0o755},
	} {
		if err := r.directory(d.name, d.mode, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// packageDatabase writes what apk knows of the system, so that it can go on from there.
func (r *root) packageDatabase(c *image.Config, lock *image.Lock, arch apk.Arch) error {
	world, err := c.World()
	if err != nil {
		return err
	}
	var repositories []apk.RepositoryLine
	for _, s := range c.RuntimeRepositories() {
		// A folder of the machine that builds means nothing in the image.
		if tag, url := image.SplitTag(s); strings.Contains(url, "://") && !strings.HasPrefix(url, "file:") {
			repositories = append(repositories, apk.RepositoryLine{Tag: tag, URL: url})
		}
	}
	for _, f := range []struct {
		name  string
		mode  fs.FileMode
		write func(*bytes.Buffer) error
	}{
		{apk.InstalledFile, 0o644, func(b *bytes.Buffer) error { return r.db.Write(b) }},
		{apk.ScriptsFile, 0o644, func(b *bytes.Buffer) error { return r.db.WriteScripts(b) }},
		{apk.TriggersFile, 0o644, func(b *bytes.Buffer) error { return r.db.WriteTriggers(b) }},
		{apk.LockFile, 0o600, func(*bytes.Buffer) error { return nil }},
		{apk.WorldFile, 0o644, func(b *bytes.Buffer) error { return apk.WriteWorld(b, world) }},
		{apk.RepositoriesFile, 0o644, func(b *bytes.Buffer) error { return apk.WriteRepositories(b, repositories) }},
		{apk.ArchFile, 0o644, func(b *bytes.Buffer) error { _, err := fmt.Fprintln(b, arch); return err }},
	} {
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return err
		}
		if err := r.file(f.name, f.mode, b.Bytes()); err != nil {
			return err
		}
	}
	for _, key := range lock.Contents.Keyring {
		if err := r.key(key.Name, key.Content); err != nil {
			return err
		}
	}
	for _, key := range c.Contents.RuntimeKeyring {
		if err := r.key(key.Name, key.Content); err != nil {
			return err
		}
	}
	return nil
}

// key adds a trusted key. Another key of the same name is a mistake: apk would trust only one of them.
func (r *root) key(name, content string) error {
	file := path.Join("etc/apk/keys", name)
	have, err := r.read(file)
	if err != nil {
		return err
	}
	if have == nil {
		return r.file(file, 0o644, []byte(content))
	}
	if strings.TrimSpace(string(have)) != strings.TrimSpace(content) {
		return fmt.Errorf("key %s: the image has another key of that name", name)
	}
	return nil
}

// services writes the programs that s6 supervises.
func (r *root) services(services map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(services)) {
		run := "#!/bin/execlineb\n" + services[name] + "\n"
		if err := r.file("sv/"+name+"/run", 0o755, []byte(run)); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	return nil
}

// busybox makes the links by which busybox is called. Which ones, its package says.
func (r *root) busybox() error {
	binary, ok := r.tree.Resolve("bin/busybox")
	if !ok || !binary.Mode.IsRegular() {
		return nil
	}
	lists := make(map[string]bool)
	for e := range r.tree.Children("etc/busybox-paths.d") {
		lists[e.Path] = true
	}
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		names, err := r.readLines(list)
		if err != nil {
			return err
		}
		for _, name := range names {
			name = strings.TrimPrefix(path.Clean("/"+strings.TrimSpace(name)), "/")
			if name == "" || r.occupied(name) {
				continue
			}
			if err := r.put(filetree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: "/bin/busybox"}); err != nil {
				return fmt.Errorf("busybox link /%s: %w", name, err)
			}
		}
	}
	return nil
}

// occupied reports whether the name is taken, by a link that leads nowhere too.
func (r *root) occupied(name string) bool {
	located, err := r.locate(name)
	if err != nil {
		return true
	}
	_, ok := r.tree.Lookup(located)
	return ok
}

// The bundles of certificate authorities that programs read. The first is the one that is made when there is none.
var bundles = []string{
	"etc/ssl/certs/ca-certificates.crt",
	"var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem",
	"kaniko/ssl/certs/ca-certificates.crt",
}

// certificates adds authorities to the bundles: those of packages that provide one of the given names, then those of the
// image file. When no package brings a bundle, it is made of what lies in usr/share/ca-certificates.
func (r *root) certificates(c image.Certificates) error {
	var added []string
	if !r.has(bundles[0]) {
		certs, err := r.certificatesIn(func(int) bool { return true }, "usr/share/ca-certificates/")
		if err != nil {
			return err
		}
		added = append(added, certs...)
	}
	wanted := func(i int) bool {
		return slices.ContainsFunc(c.Providers, func(name string) bool {
			return r.parts[i].Package.Satisfies(apk.Dependency{Name: name})
		})
	}
	certs, err := r.certificatesIn(wanted, "usr/share/ca-certificates/", "usr/local/share/ca-certificates/")
	if err != nil {
		return err
	}
	added = append(added, certs...)
	for _, cert := range c.Additional {
		content := strings.TrimSpace(cert.Content) + "\n"
		sum := sha256.Sum256([]byte(content))
		name := fmt.Sprintf("usr/local/share/ca-certificates/%s-%s.crt", cert.Name, hex.EncodeToString(sum[:]))
		if err := r.file(name, 0o644, []byte(content)); err != nil {
			return err
		}
		added = append(added, content)
	}
	if len(added) == 0 {
		return nil
	}
	return r.addToBundles(added)
}

// certificatesIn reads the certificates that the chosen packages have in the folders, in the order of their paths.
func (r *root) certificatesIn(chosen func(part int) bool, folders ...string) ([]string, error) {
	var certs []string
	for e := range r.tree.All() {
		at, ok := r.home[e.Path]
		inFolder := slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(e.Path, f) })
		ext := path.Ext(e.Path)
		if !ok || !inFolder || ext != ".crt" && ext != ".pem" || !e.Mode.IsRegular() || !chosen(at.part) {
			continue
		}
		content, err := r.read(e.Path)
		if err != nil {
			return nil, err
		}
		if block, _ := pem.Decode(content); block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("/%s: not a certificate in PEM", e.Path)
		}
		certs = append(certs, strings.TrimSpace(string(content))+"\n")
	}
	return certs, nil
}

func (r *root) addToBundles(certs []string) error {
	for i, name := range bundles {
		if i > 0 && !r.has(name) {
			continue
		}
		bundle, err := r.read(name)
		if err != nil {
			return err
		}
		if len(bundle) > 0 && bundle[len(bundle)-1] != '\n' {
			bundle = append(bundle, '\n')
		}
		for _, cert := range certs {
			if !bytes.Contains(bundle, []byte(strings.TrimSpace(cert))) {
				bundle = append(bundle, cert...)
			}
		}
		if err := r.rewrite(name, 0o644, bundle); err != nil {
			return err
		}
	}
	return nil
}

// note tells what apk would have done on a disk by running things, and what is not done here.
func (r *root) note() error {
	var scripts []string
	for _, p := range r.parts {
		if len(p.Scripts) > 0 {
			scripts = append(scripts, p.Package.Name)
		}
	}
	if len(scripts) > 0 {
		r.notes = append(r.notes, "scripts were not run: of "+strings.Join(scripts, " "))
	}
	if r.has("etc/ld.so.conf") && !r.has("etc/ld.so.cache") {
		r.notes = append(r.notes, "there is an /etc/ld.so.conf but no /etc/ld.so.cache")
	}
	return nil
}
