package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
)

// A Base is an image of one architecture, in a layout, that another one is put on: its layers become the lowest ones of
// that, byte for byte.
type Base struct {
	Digest string // of its manifest
	Config Config // what the other image has of it, if it says nothing else; no labels

	layers  []Descriptor
	diffIDs []string
	shelf   layoutShelf
}

// OpenBase finds the image of an architecture in a layout. It reads no layer.
func OpenBase(dir string, arch apk.Arch) (*Base, error) {
	b := &Base{shelf: layoutShelf{dir: dir}}
	if err := b.open(PlatformOf(arch)); err != nil {
		return nil, fmt.Errorf("base image %s: %w", dir, err)
	}
	return b, nil
}

func (b *Base) open(p Platform) error {
	raw, err := os.ReadFile(filepath.Join(b.shelf.dir, "index.json"))
	if err != nil {
		return err
	}
	if b.Digest, err = b.find(raw, p); err != nil {
		return err
	}
	if raw, err = b.shelf.read(b.Digest); err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", b.Digest, err)
	}
	f, err := b.configFile(m.Config)
	if err != nil {
		return err
	}
	if len(m.Layers) != len(f.RootFS.DiffIDs) {
		return fmt.Errorf("manifest %s: %d layers, and %d in its configuration", b.Digest, len(m.Layers), len(f.RootFS.DiffIDs))
	}
	b.layers, b.diffIDs = m.Layers, f.RootFS.DiffIDs
	b.Config = Config{
		User: f.Config.User, Env: f.Config.Env, Entrypoint: f.Config.Entrypoint, Cmd: f.Config.Cmd, WorkingDir: f.Config.WorkingDir,
		StopSignal: f.Config.StopSignal, ExposedPorts: f.Config.ExposedPorts, Healthcheck: f.Config.Healthcheck, History: f.History,
	}
	for v := range f.Config.Volumes {
		b.Config.Volumes = append(b.Config.Volumes, v)
	}
	slices.Sort(b.Config.Volumes)
	return nil
}

// find is the digest of the manifest for the platform. Indexes may nest; what has a platform is taken at its word.
func (b *Base) find(raw []byte, p Platform) (string, error) {
	var list index
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", err
	}
	var found []string
	for _, d := range list.Manifests {
		switch {
		case d.ArtifactType != "" && d.Platform == nil:
		case isIndex(d.MediaType):
			inner, err := b.shelf.read(d.Digest)
			if err != nil {
				return "", err
			}
			digest, err := b.find(inner, p)
			if err != nil {
				return "", err
			}
			found = append(found, digest)
		default:
			ok, err := b.runsOn(d, p)
			if err != nil {
				return "", err
			}
			if ok {
				found = append(found, d.Digest)
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) != 1 {
		return "", fmt.Errorf("it has %d images for %s, not one", len(found), p)
	}
	return found[0], nil
}

func isIndex(mediaType string) bool {
	return mediaType == MediaTypeIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

func (b *Base) runsOn(d Descriptor, p Platform) (bool, error) {
	has := d.Platform
	if has == nil {
		raw, err := b.shelf.read(d.Digest)
		if err != nil {
			return false, err
		}
		var m manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return false, err
		}
		f, err := b.configFile(m.Config)
		if err != nil {
			return false, err
		}
		has = &Platform{Architecture: f.Architecture, OS: f.OS, Variant: f.Variant}
	}
	sameVariant := has.Variant == p.Variant || p.Architecture == "arm64" && has.Variant == "v8"
	return has.Architecture == p.Architecture && sameVariant && has.OS == p.OS, nil
}

func (b *Base) configFile(d Descriptor) (f configFile, err error) {
	raw, err := b.shelf.blob(d)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	return f, nil
}

// Layers brings the layers into the store, verified, each once.
func (b *Base) Layers(ctx context.Context, store cas.Store) ([]*Layer, error) {
	layers := make([]*Layer, len(b.layers))
	for i, d := range b.layers {
		l, err := b.layer(ctx, store, d)
		if err == nil && l.DiffID != b.diffIDs[i] {
			err = fmt.Errorf("its content is %s, its configuration says %s", l.DiffID, b.diffIDs[i])
		}
		if err != nil {
			return nil, fmt.Errorf("base image %s: layer %s: %w", b.shelf.dir, d.Digest, err)
		}
		layers[i] = l
	}
	return layers, nil
}

func (b *Base) layer(ctx context.Context, store cas.Store, d Descriptor) (*Layer, error) {
	l := &Layer{Digest: d.Digest, Size: d.Size, Annotations: d.Annotations, Inherited: true, store: store}
	switch _, compression, _ := strings.Cut(d.MediaType, ".tar"); compression {
	case "+gzip", ".gzip":
	case "+zstd":
		l.Compression = Zstd
	case "":
		l.Compression = uncompressed
	default:
		return nil, fmt.Errorf("a layer of media type %s is not known", d.MediaType)
	}
	key := cas.NewKey("oci inherited layer")
	key.Add("digest", d.Digest)
	key.Add("compression", string(l.Compression))
	r, err := store.Result(key.Digest())
	var s Segment
	if err == nil {
		s, err = RecallSegment(r)
	} else if errors.Is(err, fs.ErrNotExist) {
		if s, err = b.fetch(ctx, store, d, l.Compression); err == nil {
			err = store.SetResult(key.Digest(), s.Result())
		}
	}
	l.Segments, l.DiffID = []Segment{s}, "sha256:"+s.Plain.Hash
	return l, err
}

// fetch stores a layer in both forms.
func (b *Base) fetch(ctx context.Context, store cas.Store, d Descriptor, c Compression) (s Segment, err error) {
	if _, err := v1.NewHash(d.Digest); err != nil {
		return s, err
	}
	f, err := os.Open(filepath.Join(b.shelf.dir, blob{Descriptor: d}.path()))
	if err != nil {
		return s, err
	}
	defer f.Close()
	g, ctx := errgroup.WithContext(ctx)
	compressed := putBlob(ctx, g, store, &s.Compressed)
	plain := putBlob(ctx, g, store, &s.Plain)
	g.Go(func() error {
		passing := io.TeeReader(f, compressed)
		err := decompress(plain, passing, c)
		if err == nil {
			_, err = io.Copy(io.Discard, passing) // what follows the last member
		}
		plain.CloseWithError(err)
		compressed.CloseWithError(err)
		return err
	})
	if err := g.Wait(); err != nil {
		return s, err
	}
	if digest := "sha256:" + s.Compressed.Hash; digest != d.Digest || s.Compressed.Size != d.Size {
		return s, fmt.Errorf("its content is %s, %d bytes", digest, s.Compressed.Size)
	}
	return s, nil
}

func decompress(w io.Writer, r io.Reader, c Compression) error {
	switch c {
	case uncompressed:
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	default:
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		r = z
	}
	_, err := io.Copy(w, r)
	return err
}

// PlainFile is the file in which the bytes lie that the DiffID of an inherited layer names.
func (l *Layer) PlainFile() string { return l.store.Path(l.Segments[0].Plain.Digest) }
