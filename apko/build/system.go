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

// The bundles of certificate authorities that programs read. The first is the one that is made when there is none.
var bundles = []string{
	"etc/ssl/certs/ca-certificates.crt",
	"var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem",
	"kaniko/ssl/certs/ca-certificates.crt",
}

// certificates adds authorities to the bundles: those of packages that provide one of the given names, then those of the
// image file.
func (r *root) certificates(c image.Certificates) error {
	if err := r.generate(rootfs.Certificates); err != nil {
		return err
	}
	added, err := r.certificatesOf(c.Providers)
	if err != nil {
		return err
	}
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

// certificatesOf reads the certificates of the packages that provide one of the names, in the order of their paths.
func (r *root) certificatesOf(providers []string) ([]string, error) {
	if len(providers) == 0 {
		return nil, nil
	}
	var certs []string
	for _, dir := range []string{"usr/local/share/ca-certificates", "usr/share/ca-certificates"} {
		for e := range r.Tree.Below(dir) {
			at, ok := r.Files[e.Path]
			provides := func(name string) bool { return r.parts[at.Package].Package.Satisfies(apk.Dependency{Name: name}) }
			ext := path.Ext(e.Path)
			if !ok || ext != ".crt" && ext != ".pem" || !e.Mode.IsRegular() || !slices.ContainsFunc(providers, provides) {
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
		if err := r.put(rootfs.Rewrite(r.Tree, name, 0o644, bundle, r.when)); err != nil {
			return err
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
	if at, ok := r.Files[e.Path]; ok {
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
		if len(p.Scripts) > 0 {
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
