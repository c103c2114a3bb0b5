package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"distro.internal/shared/atomicfile"
)

// Tag is the name under which an image is to be found: "registry.example/team/nginx:1.27".
type Tag struct {
	Repository string // as written, without the tag
	Name       string // what follows the colon; "latest" when nothing does

	full string // with the registry, as containerd spells it
}

// ParseTag reads a tag as people write it.
func ParseTag(s string) (Tag, error) {
	t, err := name.NewTag(s)
	if err != nil {
		return Tag{}, fmt.Errorf("image tag %q: %w", s, err)
	}
	return Tag{Repository: strings.TrimSuffix(s, ":"+t.TagStr()), Name: t.TagStr(), full: strings.TrimPrefix(t.Name(), "index.")}, nil
}

func (t Tag) String() string { return t.Repository + ":" + t.Name }

// Context is the repository with its registry: "registry.example/team/nginx".
func (t Tag) Context() string { return strings.TrimSuffix(t.full, ":"+t.Name) }

// blob is content with a name that is its digest.
type blob struct {
	Descriptor
	write func(io.Writer) error
	layer bool
}

// blobs lists what the index refers to, the index itself included, each once.
func (x *Index) blobs() []blob {
	bytesOf := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	list := []blob{{Descriptor: x.Descriptor, write: bytesOf(x.raw)}}
	for _, m := range x.Images {
		list = append(list, blob{Descriptor: m.Manifest, write: bytesOf(m.manifest)}, blob{Descriptor: m.Config, write: bytesOf(m.config)})
		for _, l := range m.Layers {
			list = append(list, blob{l.Descriptor(), func(w io.Writer) error { _, err := l.WriteTo(w); return err }, true})
		}
	}
	for _, a := range x.Artifacts {
		list = append(list, blob{Descriptor: a.Descriptor, write: bytesOf(a.manifest)})
		for _, f := range a.files {
			list = append(list, blob{Descriptor: f.Descriptor, write: bytesOf(f.content)})
		}
	}
	slices.SortStableFunc(list, func(a, b blob) int { return cmp.Compare(a.Digest, b.Digest) })
	return slices.CompactFunc(list, func(a, b blob) bool { return a.Digest == b.Digest })
}

func (b blob) path() string { return "blobs/sha256/" + strings.TrimPrefix(b.Digest, "sha256:") }

const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

// Annotations of a layout's index.json.
const (
	refName        = "org.opencontainers.image.ref.name"
	containerdName = "io.containerd.image.name"
	cosignKind     = "kind" // by which cosign finds in a layout what its signatures are about
)

// top is the index.json of a layout: it names the image by its tag, for the tools that look for one, and lists the
// artifacts.
func (x *Index) top(tag Tag) ([]byte, error) {
	d := x.Descriptor
	d.Annotations = map[string]string{refName: tag.Name, containerdName: tag.full}
	list := []Descriptor{d}
	for _, a := range x.Artifacts {
		listed := a.Descriptor
		if a.tag != "" {
			d.Annotations[cosignKind] = "dev.cosignproject.cosign/image"
			listed.Annotations = map[string]string{refName: a.tag}
		}
		list = append(list, listed)
	}
	b, _, err := encode(MediaTypeIndex, index{SchemaVersion: 2, MediaType: MediaTypeIndex, Manifests: list})
	return b, err
}

// WriteLayout writes an OCI layout into a folder, which is made when it is missing. A blob that is there already is kept;
// blobs that nothing refers to any more are removed. The folder shows the new image when its index.json is renamed into
// place, after everything that it refers to.
func (x *Index) WriteLayout(ctx context.Context, dir string, tag Tag) error {
	wrap := func(err error) error { return fmt.Errorf("writing image layout %s: %w", dir, err) }
	if err := checkLayout(dir); err != nil {
		return wrap(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		return wrap(err)
	}
	keep := make(map[string]bool)
	for _, b := range x.blobs() {
		keep[filepath.Base(b.path())] = true
		file := filepath.Join(dir, b.path())
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() && info.Size() == b.Size {
			continue
		}
		if err := errors.Join(ctx.Err(), atomicfile.Write(file, 0o644, b.write)); err != nil {
			return wrap(err)
		}
	}
	top, err := x.top(tag)
	if err != nil {
		return wrap(err)
	}
	for name, content := range map[string][]byte{"oci-layout": []byte(layoutFile), "index.json": top} {
		if have, err := os.ReadFile(filepath.Join(dir, name)); err == nil && bytes.Equal(have, content) {
			continue
		}
		err := atomicfile.Write(filepath.Join(dir, name), 0o644, atomicfile.Bytes(content))
		if err != nil {
			return wrap(err)
		}
	}
	if err := removeStale(filepath.Join(dir, "blobs/sha256"), keep); err != nil {
		return wrap(err)
	}
	return nil
}

// checkLayout refuses a folder that holds something else: blobs are removed in it.
func checkLayout(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs")); err == nil {
		return nil // a layout that was being written when something stopped it
	}
	return errors.New("the folder is neither empty nor an image layout")
}

func removeStale(dir string, keep map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// dockerImage is an entry of the manifest.json that docker load reads.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// WriteTarball writes a file that is both what docker load reads, with a tag per architecture ("nginx:1.27-arm64") and
// the tag itself when there is only one, and an OCI layout in a tar. A file that is there and has all of it already is
// kept, where layers go by their names, as they do in a layout.
func (x *Index) WriteTarball(ctx context.Context, file string, tag Tag) error {
	if x.isTarball(ctx, file, tag) {
		return nil
	}
	err := atomicfile.Write(file, 0o644, func(w io.Writer) error { return x.writeTar(ctx, w, tag, x.blobs()) })
	if err != nil {
		return fmt.Errorf("writing image tarball %s: %w", file, err)
	}
	return nil
}

// WriteStream writes what WriteTarball does.
func (x *Index) WriteStream(ctx context.Context, w io.Writer, tag Tag) error {
	if err := x.writeTar(ctx, w, tag, x.blobs()); err != nil {
		return fmt.Errorf("writing image tarball: %w", err)
	}
	return nil
}

// isTarball reports whether the file is what WriteTarball writes, without a look into the layers.
func (x *Index) isTarball(ctx context.Context, file string, tag Tag) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	c := &comparison{file: f}
	blobs := x.blobs()
	for i, b := range blobs {
		if b.layer {
			blobs[i].write = func(w io.Writer) error { return c.pass(w, b.Size) }
		}
	}
	return x.writeTar(ctx, c, tag, blobs) == nil && c.at == info.Size()
}

// comparison takes what the file has and refuses anything else.
type comparison struct {
	file    io.ReaderAt
	at      int64
	passing bool
}

var errDifferent = errors.New("the file is different")

func (c *comparison) Write(p []byte) (int, error) {
	if !c.passing {
		have := make([]byte, len(p))
		if _, err := c.file.ReadAt(have, c.at); err != nil || !bytes.Equal(have, p) {
			return 0, errDifferent
		}
	}
	c.at += int64(len(p))
	return len(p), nil
}

// pass lets n bytes of the file be what they are. They go through w, which counts.
func (c *comparison) pass(w io.Writer, n int64) error {
	c.passing = true
	defer func() { c.passing = false }()
	unknown := make([]byte, min(n, 1<<20))
	for ; n > 0; n -= int64(len(unknown)) {
		unknown = unknown[:min(n, int64(len(unknown)))]
		if _, err := w.Write(unknown); err != nil {
			return err
		}
	}
	return nil
}

func (x *Index) writeTar(ctx context.Context, w io.Writer, tag Tag, blobs []blob) error {
	tw := tar.NewWriter(w)
	top, err := x.top(tag)
	if err != nil {
		return err
	}
	docker, _, err := encode("manifest.json", x.dockerImages(tag))
	if err != nil {
		return err
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, b := range blobs {
		if err := errors.Join(ctx.Err(), writeMember(tw, b.path(), b.Size, b.write)); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{"index.json", top}, {"manifest.json", docker}, {"oci-layout", []byte(layoutFile)}} {
		err := writeMember(tw, f.name, int64(len(f.content)), func(w io.Writer) error { _, err := w.Write(f.content); return err })
		if err != nil {
			return err
		}
	}
	return tw.Close()
}

func (x *Index) dockerImages(tag Tag) []dockerImage {
	var list []dockerImage
	for _, m := range x.Images {
		d := dockerImage{
			Config:   blob{Descriptor: m.Config}.path(),
			RepoTags: []string{tag.String() + "-" + m.Manifest.Platform.String()},
			Layers:   []string{},
		}
		if len(x.Images) == 1 {
			d.RepoTags = append(d.RepoTags, tag.String())
		}
		for _, l := range m.Layers {
			d.Layers = append(d.Layers, blob{Descriptor: l.Descriptor()}.path())
		}
		list = append(list, d)
	}
	return list
}

func writeMember(tw *tar.Writer, name string, size int64, write func(io.Writer) error) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	return write(tw)
}
