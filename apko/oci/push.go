package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Registry is how images are pushed. The zero value uses the credentials that docker login left.
type Registry struct {
	Transport http.RoundTripper // nil = the default one
	UserAgent string
}

// Push uploads the index with everything it refers to and then sets the tags, so that a tag never names an image that is
// not there. It returns the reference by digest under the first tag's repository.
func (r Registry) Push(ctx context.Context, x *Index, tags ...Tag) (string, error) {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if r.Transport != nil {
		options = append(options, remote.WithTransport(r.Transport))
	}
	if r.UserAgent != "" {
		options = append(options, remote.WithUserAgent(r.UserAgent))
	}
	first := ""
	for _, tag := range tags {
		ref, err := name.NewTag(tag.full)
		if err != nil {
			return "", fmt.Errorf("pushing %s: %w", tag, err)
		}
		byDigest := ref.Context().Digest(x.Descriptor.Digest)
		if err := remote.WriteIndex(byDigest, pushedIndex{x}, options...); err != nil {
			return "", fmt.Errorf("pushing %s: %w", tag, err)
		}
		if err := remote.Tag(ref, pushedIndex{x}, options...); err != nil {
			return "", fmt.Errorf("tagging %s: %w", tag, err)
		}
		if first == "" {
			first = byDigest.Name()
		}
	}
	return first, nil
}

// pushedIndex shows an Index as go-containerregistry wants to see it.
type pushedIndex struct{ x *Index }

func (p pushedIndex) MediaType() (types.MediaType, error) { return MediaTypeIndex, nil }
func (p pushedIndex) Digest() (v1.Hash, error)            { return v1.NewHash(p.x.Descriptor.Digest) }
func (p pushedIndex) Size() (int64, error)                { return p.x.Descriptor.Size, nil }
func (p pushedIndex) RawManifest() ([]byte, error)        { return p.x.raw, nil }

func (p pushedIndex) IndexManifest() (*v1.IndexManifest, error) {
	return v1.ParseIndexManifest(strings.NewReader(string(p.x.raw)))
}

func (p pushedIndex) Image(h v1.Hash) (v1.Image, error) {
	for _, m := range p.x.Images {
		if m.Manifest.Digest == h.String() {
			return partial.CompressedToImage(pushedImage{m})
		}
	}
	return nil, fmt.Errorf("index %s has no image %s", p.x.Descriptor.Digest, h)
}

func (p pushedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("index %s has no index %s", p.x.Descriptor.Digest, h)
}

type pushedImage struct{ m *Image }

func (p pushedImage) MediaType() (types.MediaType, error) { return MediaTypeManifest, nil }
func (p pushedImage) RawManifest() ([]byte, error)        { return p.m.manifest, nil }
func (p pushedImage) RawConfigFile() ([]byte, error)      { return p.m.config, nil }

func (p pushedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, l := range p.m.Layers {
		if l.Digest == h.String() {
			return pushedLayer{l}, nil
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", p.m.Manifest.Digest, h)
}

type pushedLayer struct{ l *Layer }

func (p pushedLayer) Digest() (v1.Hash, error)            { return v1.NewHash(p.l.Digest) }
func (p pushedLayer) Size() (int64, error)                { return p.l.Size, nil }
func (p pushedLayer) MediaType() (types.MediaType, error) { return MediaTypeLayer, nil }
func (p pushedLayer) Compressed() (io.ReadCloser, error)  { return p.l.Open(), nil }
