package build

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
	"distro.internal/shared/ldcache"
	"distro.internal/shared/rootfs"
)

// What packages' scripts would do on a disk is done here, from data that the packages bring: nothing is run.

// database is what apk finds in the image, so that it can go on from there.
func database(c *image.Config, lock *image.Lock, arch apk.Arch) (rootfs.Database, error) {
	d := rootfs.Database{Arch: arch, Keys: make(map[string][]byte)}
	var err error
	if d.World, err = c.World(); err != nil {
		return d, err
	}
	for _, s := range c.RuntimeRepositories() {
		// A folder of the machine that builds means nothing in the image.
		if tag, url := image.SplitTag(s); strings.Contains(url, "://") && !strings.HasPrefix(url, "file:") {
			d.Repositories = append(d.Repositories, apk.RepositoryLine{Tag: tag, URL: url})
		}
	}
	keys := slices.Clone(c.Contents.RuntimeKeyring)
	for _, key := range lock.Contents.Keyring {
		keys = append(keys, image.Text{Name: key.Name, Content: key.Content})
	}
	for _, key := range keys {
		if have, ok := d.Keys[key.Name]; ok && strings.TrimSpace(string(have)) != strings.TrimSpace(key.Content) {
			return d, fmt.Errorf("key %s: the image has another key of that name", key.Name)
		} else if !ok {
			d.Keys[key.Name] = []byte(key.Content)
		}
	}
	return d, nil
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

// linkerCache does what ldconfig would do where there is a glibc.
func (r *root) linkerCache() error {
	if !r.has(ldcache.ConfFile) {
		return nil
	}
	cache, links, err := ldcache.Make(r.Tree, r.library)
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := r.put(filetree.Entry{Path: l.Path, Mode: fs.ModeSymlink | 0o777, Link: l.Target}); err != nil {
			return err
		}
	}
	return r.file(ldcache.CacheFile, 0o644, cache.Encode())
}

// library is what is known of a file from the making of its part; one that was made here is read.
func (r *root) library(e *filetree.Entry) (ldcache.Library, error) {
	if at, ok := r.Files[e.Path]; ok && at != rootfs.Beneath && !r.parts[at.Package].inherited {
		if l, ok := r.parts[at.Package].Libraries[at.File]; ok {
			return l, nil
		}
		return ldcache.Library{}, ldcache.ErrNoLibrary
	}
	content, err := r.read(e.Path)
	if err != nil {
		return ldcache.Library{}, err
	}
	return ldcache.ReadLibrary(bytes.NewReader(content))
}

// note tells what apk would have done on a disk by running things, and what is not done here.
func (r *root) note() error {
	var scripts []string
	for _, p := range r.parts {
		if len(p.Scripts) > 0 && !p.inherited {
			scripts = append(scripts, p.Package.Name)
		}
	}
	if len(scripts) > 0 {
		r.notes = append(r.notes, "scripts were not run: of "+strings.Join(scripts, " "))
	}
	for _, name := range []string{"etc/passwd", "etc/group", "etc/os-release"} {
		if !r.has(name) {
			r.notes = append(r.notes, "there is no /"+name)
		}
	}
	return nil
}
