package build

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
	"distro.internal/shared/rootfs"
)

// Images on images
//
// A base image is read whole: its layers are one tree, and the database in it tells which packages that tree has. These
// are packages of the new image like all others, only that they are not chosen (the world wants each in the version that
// is there) and that no layer is made of them. The rest of the tree lies beneath all packages. So everything that makes a
// root from packages and an image file works on the whole, accounts, certificates and the linker's cache included. The
// new layer is what differs from the base in the end.

// base is the image that another one is put on.
type base struct {
	*oci.Base
	layers       []*oci.Layer
	tree         *filetree.Tree
	layerOf      map[string]int // of each name
	parts        []*part        // the packages, without segments
	world        []apk.Dependency
	repositories []apk.RepositoryLine
}

// openBase finds the base image that the image file names; nil when it names none.
func openBase(c *image.Config, arch apk.Arch) (*oci.Base, error) {
	if c.Contents.BaseImage == nil {
		return nil, nil
	}
	return oci.OpenBase(c.Contents.BaseImage.ImageDir(), arch)
}

// lockBase is what a lock says of the base image: nothing when there is none.
func lockBase(c *image.Config, arch apk.Arch) ([]image.LockBase, error) {
	found, err := openBase(c, arch)
	if found == nil || err != nil {
		return nil, err
	}
	return []image.LockBase{{Image: c.Contents.BaseImage.Image, Architecture: arch, Digest: found.Digest}}, nil
}

// base reads the base image; nil when there is none.
func (b *Builder) base(ctx context.Context, c *image.Config, arch apk.Arch) (*base, error) {
	found, err := openBase(c, arch)
	if found == nil || err != nil {
		return nil, err
	}
	x := &base{Base: found, tree: filetree.New(), layerOf: make(map[string]int)}
	if x.layers, err = found.Layers(ctx, b.CAS.Store); err != nil {
		return nil, err
	}
	wrap := func(err error) error { return fmt.Errorf("base image %s: %w", c.Contents.BaseImage.Image, err) }
	for i, l := range x.layers {
		if err := x.apply(i, l.PlainFile()); err != nil {
			return nil, wrap(fmt.Errorf("layer %s: %w", l.Digest, err))
		}
	}
	if err := x.database(c.Contents.BaseImage.InstalledFile(arch)); err != nil {
		return nil, wrap(err)
	}
	return x, nil
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// apply puts a layer over the tree. What it removes is of the layers below, wherever in the archive it says so.
func (x *base) apply(layer int, file string) error {
	entries, err := readLayer(file)
	if err != nil {
		return err
	}
	for _, e := range entries {
		dir, name := path.Split(e.Path)
		hidden, ok := strings.CutPrefix(name, whiteout)
		if !ok {
			continue
		}
		place, err := rootfs.Locate(x.tree, path.Join(dir, hidden))
		if err != nil {
			return err
		}
		if name != opaque {
			x.tree.Remove(place)
			continue
		}
		for _, child := range slices.Collect(x.tree.Children(path.Dir(place))) {
			x.tree.Remove(child.Path)
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(path.Base(e.Path), whiteout) {
			continue
		}
		if err := x.put(layer, e); err != nil {
			return err
		}
	}
	return nil
}

// put adds an entry. A hard link becomes its file's twin: there is nothing here that would change both.
func (x *base) put(layer int, e filetree.Entry) error {
	place, err := rootfs.Locate(x.tree, e.Path)
	if err != nil {
		return err
	}
	if e.HardLink {
		target, ok := x.tree.Resolve(e.Link)
		if !ok {
			return fmt.Errorf("hard link %s: %s is not there", e.Path, e.Link)
		}
		e = *target
	}
	e.Path = place
	if have, ok := x.tree.Lookup(place); ok && have.Mode.IsDir() && !e.Mode.IsDir() {
		x.tree.Remove(place)
	}
	x.layerOf[place] = layer
	return x.tree.Put(e)
}

// readLayer lists the entries of an archive. Their content is read from the file when it is asked for.
func readLayer(file string) ([]filetree.Entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []filetree.Entry
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		e, err := filetree.FromHeader(h)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if e.IsRegular() {
			at, err := f.Seek(0, io.SeekCurrent) // an archive is read block by block: here the content begins
			if err != nil {
				return nil, err
			}
			e.Open = section(file, at, e.Size)
		}
		list = append(list, *e)
	}
}

func section(file string, at, size int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(f, at, size), f}, nil
	}
}

// database reads what is installed, from a file or, with an empty name, from the tree; and what apk finds beside it.
func (x *base) database(file string) error {
	var text []byte
	var err error
	if file != "" {
		text, err = os.ReadFile(file)
	} else {
		text, err = x.read(apk.InstalledFile)
	}
	if err != nil {
		return err
	}
	db, err := apk.ParseInstalled(bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("what is installed: %w", err)
	}
	for _, f := range []struct {
		name  string
		parse func(io.Reader) error
	}{
		{apk.ScriptsFile, db.ReadScripts},
		{apk.TriggersFile, db.ReadTriggers},
		{apk.WorldFile, func(r io.Reader) (err error) { x.world, err = apk.ParseWorld(r); return err }},
		{apk.RepositoriesFile, func(r io.Reader) (err error) { x.repositories, err = apk.ParseRepositories(r); return err }},
	} {
		text, err := x.read(f.name)
		if text != nil {
			err = f.parse(bytes.NewReader(text))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, p := range db.Packages {
		// Other apkos write a list of none as a package of this name.
		p.InstallIf = slices.DeleteFunc(p.InstallIf, func(d apk.Dependency) bool { return strings.Trim(d.Name, "[]") == "" })
		x.parts = append(x.parts, &part{table: table{Package: p.Package, Scripts: p.Scripts, Files: x.files(p)}, inherited: true})
	}
	return nil
}

// read returns the content of a file of the tree, nil when there is none.
func (x *base) read(name string) ([]byte, error) {
	b, err := x.tree.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// files are those of a package that are still there, as they are there.
func (x *base) files(p *apk.InstalledPackage) []rootfs.File {
	var files []rootfs.File
	for _, n := range p.Files {
		if n.Path == "" {
			continue
		}
		place, err := rootfs.Locate(x.tree, n.Path)
		if err != nil {
			continue
		}
		if e, ok := x.tree.Lookup(place); ok && e.Mode.IsDir() == n.Mode.IsDir() {
			f := rootfs.File{Entry: *e, Sum: n.Sum}
			f.Path = n.Path
			files = append(files, f)
		}
	}
	return files
}

// layer tells in which layer a package lies: where its first file does.
func (x *base) layer(p *part) int {
	for i := range p.Files {
		if at, ok := x.layerOf[p.Files[i].Path]; ok && !p.Files[i].Mode.IsDir() {
			return at
		}
	}
	return len(x.layers) - 1
}

// pins are what the world wants for the packages of the base to stay as they are.
func (x *base) pins() []apk.Dependency {
	var list []apk.Dependency
	for _, p := range x.parts {
		list = append(list, apk.Dependency{Name: p.Package.Name, Op: apk.Equal, Version: p.Package.Version})
	}
	return list
}

func (x *base) installed() []*apk.Package {
	var list []*apk.Package
	for _, p := range x.parts {
		list = append(list, p.Package)
	}
	return list
}

func (x *base) has(name string) bool {
	return slices.ContainsFunc(x.parts, func(p *part) bool { return p.Package.Name == name })
}

// join adds to what apk is to find in an image what it finds in the base.
func (x *base) join(d rootfs.Database) rootfs.Database {
	world := slices.Clone(x.world)
	for _, want := range d.World {
		if !slices.Contains(world, want) {
			world = append(world, want)
		}
	}
	repositories := slices.Clone(x.repositories)
	for _, r := range d.Repositories {
		if !slices.Contains(repositories, r) {
			repositories = append(repositories, r)
		}
	}
	d.World, d.Repositories, d.Keys = world, repositories, maps.Clone(d.Keys)
	return d
}

// changed reports whether the entry of a tree is another one than that of the base.
func (x *base) changed(t *filetree.Tree, e *filetree.Entry) (bool, error) {
	have, ok := x.tree.Lookup(e.Path)
	if !ok || e.HardLink || have.Mode != e.Mode || have.UID != e.UID || have.GID != e.GID || have.Link != e.Link || have.Size != e.Size ||
		have.DevMajor != e.DevMajor || have.DevMinor != e.DevMinor || !maps.Equal(have.Xattrs, e.Xattrs) {
		return true, nil
	}
	if !e.IsRegular() {
		return false, nil
	}
	was, err := x.tree.ReadFile(e.Path)
	if err != nil {
		return false, err
	}
	is, err := t.ReadFile(e.Path)
	return !bytes.Equal(was, is), err
}

// inherit completes how a container is started. An entrypoint of its own makes that of the base, with its command, void.
func inherit(own, base oci.Config) oci.Config {
	if len(own.Entrypoint) == 0 {
		own.Entrypoint = base.Entrypoint
		if len(own.Cmd) == 0 {
			own.Cmd = base.Cmd
		}
	}
	own.User, own.WorkingDir = cmp.Or(own.User, base.User), cmp.Or(own.WorkingDir, base.WorkingDir)
	own.StopSignal = cmp.Or(own.StopSignal, base.StopSignal)
	own.Volumes = slices.Compact(slices.Sorted(slices.Values(slices.Concat(base.Volumes, own.Volumes))))
	own.ExposedPorts, own.Healthcheck, own.History = base.ExposedPorts, base.Healthcheck, base.History
	return own
}
