package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Registry is how images are pushed. The zero value uses the credentials that docker login left.
type Registry struct {
	Transport http.RoundTripper // nil = the default one
	UserAgent string
}

// Push uploads the index with everything it refers to, then its artifacts, and then sets the tags, so that a tag never
// names an image that is not there or not signed yet. All tags are in one repository. It returns the reference by digest.
func (r Registry) Push(ctx context.Context, x *Index, tags ...Tag) (string, error) {
	if len(tags) == 0 {
		return "", errors.New("pushing image: no tag")
	}
	options := r.options(ctx)
	repository, err := name.NewTag(tags[0].full)
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", tags[0], err)
	}
	byDigest := repository.Context().Digest(x.Descriptor.Digest)
	if err := remote.WriteIndex(byDigest, pushedIndex{x}, options...); err != nil {
		return "", fmt.Errorf("pushing %s: %w", byDigest, err)
	}
	for _, a := range x.Artifacts {
		if err := pushArtifact(repository.Context(), a, options); err != nil {
			return "", fmt.Errorf("attaching to %s: %w", repository.Context().Digest(a.Subject.Digest), err)
		}
	}
	for _, tag := range tags {
		ref, err := name.NewTag(tag.full)
		if err != nil {
			return "", fmt.Errorf("tagging %s: %w", tag, err)
		}
		if ref.Context() != repository.Context() {
			return "", fmt.Errorf("tagging %s: not in %s", tag, repository.Context())
		}
		if err := remote.Tag(ref, pushedIndex{x}, options...); err != nil {
			return "", fmt.Errorf("tagging %s: %w", tag, err)
		}
	}
	return byDigest.Name(), nil
}

func (r Registry) options(ctx context.Context) []remote.Option {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if r.Transport != nil {
		options = append(options, remote.WithTransport(r.Transport))
	}
	if r.UserAgent != "" {
		options = append(options, remote.WithUserAgent(r.UserAgent))
	}
	return options
}

// pushArtifact uploads an artifact. Of a registry that lists no referrers the library keeps the list, under a tag.
func pushArtifact(repository name.Repository, a *Artifact, options []remote.Option) error {
	var ref name.Reference = repository.Digest(a.Descriptor.Digest)
	if a.tag != "" {
		tag := repository.Tag(a.tag)
		ref = tag
		joined, err := joinPushed(tag, a, options)
		if err != nil {
			return err
		}
		a = joined
	}
	for _, f := range a.files {
		if err := remote.WriteLayer(repository, static.NewLayer(f.content, types.MediaType(f.MediaType)), options...); err != nil {
			return err
		}
	}
	return remote.Put(ref, pushedManifest{a}, options...)
}

// joinPushed adds the signatures that are in the registry.
func joinPushed(tag name.Tag, a *Artifact, options []remote.Option) (*Artifact, error) {
	have, err := remote.Get(tag, options...)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	return a.joined(have.Manifest, func(d Descriptor) ([]byte, error) {
		l, err := remote.Layer(tag.Context().Digest(d.Digest), options...)
		if err != nil {
			return nil, err
		}
		return readLayer(l)
	})
}

// maxDocument bounds what a registry may make us hold.
const maxDocument = 64 << 20

func readLayer(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed() // verified by the library
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(content) > maxDocument {
		err = fmt.Errorf("larger than %d bytes", maxDocument)
	}
	return content, err
}

type pushedManifest struct{ a *Artifact }

func (p pushedManifest) MediaType() (types.MediaType, error) { return MediaTypeManifest, nil }
func (p pushedManifest) RawManifest() ([]byte, error)        { return p.a.manifest, nil }

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

func (p pushedLayer) Digest() (v1.Hash, error) { return v1.NewHash(p.l.Digest) }
func (p pushedLayer) Size() (int64, error)     { return p.l.Size, nil }
func (p pushedLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(p.l.Compression.mediaType()), nil
}

func (p pushedLayer) Compressed() (io.ReadCloser, error) { return p.l.Open(), nil }
