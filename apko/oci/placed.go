package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Placed is an image where it lies, in a layout or in a registry, as far as one must know it to read what is attached.
type Placed struct {
	Subjects []Descriptor // the index and then its images, or the one image

	shelf shelf
}

// shelf is where manifests and blobs are found. What does not match its digest is an error.
type shelf interface {
	manifest(reference string) ([]byte, error) // by digest or tag; fs.ErrNotExist when there is none
	blob(d Descriptor) ([]byte, error)
	referrers(digest string) ([]Descriptor, error)
}

// Document is something that is attached to an image.
type Document struct {
	Digest      string // of its manifest
	MediaType   string
	Annotations map[string]string // of its layer
	Content     []byte
}

// Documents lists what is attached to a subject: its referrers and its signatures of the older kind.
func (p *Placed) Documents(subject Descriptor) ([]Document, error) {
	refs, err := p.shelf.referrers(subject.Digest)
	if err != nil {
		return nil, fmt.Errorf("listing what is attached to %s: %w", subject.Digest, err)
	}
	var list []Document
	for _, d := range refs {
		documents, err := p.documents(d.Digest, subject.Digest)
		if err != nil {
			return nil, fmt.Errorf("reading %s, which is attached to %s: %w", d.Digest, subject.Digest, err)
		}
		list = append(list, documents...)
	}
	documents, err := p.documents(SignatureTag(subject.Digest), "")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the signatures of %s: %w", subject.Digest, err)
	}
	return append(list, documents...), nil
}

// documents are the layers of an artifact, which must be about the subject unless that is "".
func (p *Placed) documents(reference, subject string) ([]Document, error) {
	raw, err := p.shelf.manifest(reference)
	if err != nil {
		return nil, err
	}
	var m artifactManifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if subject != "" && (m.Subject == nil || m.Subject.Digest != subject) {
		return nil, errors.New("it is about something else")
	}
	var list []Document
	for _, l := range m.Layers {
		if l.Size > maxDocument {
			return nil, fmt.Errorf("it has %d bytes", l.Size)
		}
		content, err := p.shelf.blob(l)
		if err != nil {
			return nil, err
		}
		list = append(list, Document{digestOf(raw), l.MediaType, l.Annotations, content})
	}
	return list, nil
}

// placed reads what the top manifest lists.
func placed(s shelf, raw []byte) (*Placed, error) {
	var m struct {
		MediaType string       `json:"mediaType"`
		Manifests []Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	top := Descriptor{MediaType: m.MediaType, Digest: digestOf(raw), Size: int64(len(raw))}
	return &Placed{append([]Descriptor{top}, m.Manifests...), s}, nil
}

// OpenLayout finds the image of a layout folder: the one that has a name, if there are more.
func OpenLayout(dir string) (*Placed, error) {
	p, err := openLayout(layoutShelf{dir: dir})
	if err != nil {
		return nil, fmt.Errorf("reading image layout %s: %w", dir, err)
	}
	return p, nil
}

func openLayout(s layoutShelf) (*Placed, error) {
	raw, err := os.ReadFile(filepath.Join(s.dir, "index.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &s.top); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var images []Descriptor
	for _, d := range s.top.Manifests {
		named := d.Annotations[refName]
		if named != "" && !strings.HasSuffix(named, ".sig") || len(s.top.Manifests) == 1 {
			images = append(images, d)
		}
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("it names %d images, not one", len(images))
	}
	if raw, err = s.manifest(images[0].Digest); err != nil {
		return nil, err
	}
	return placed(s, raw)
}

type layoutShelf struct {
	dir string
	top index
}

func (s layoutShelf) manifest(reference string) ([]byte, error) {
	for _, d := range s.top.Manifests {
		if d.Annotations[refName] == reference {
			reference = d.Digest
		}
	}
	if !strings.HasPrefix(reference, "sha256:") {
		return nil, fs.ErrNotExist
	}
	return s.read(reference)
}

func (s layoutShelf) blob(d Descriptor) ([]byte, error) { return s.read(d.Digest) }

func (s layoutShelf) read(digest string) ([]byte, error) {
	hash, err := v1.NewHash(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(s.dir, "blobs", hash.Algorithm, hash.Hex))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument))
	if err == nil && digestOf(b) != digest {
		err = fmt.Errorf("blob %s: its content is %s", digest, digestOf(b))
	}
	return b, err
}

// referrers are among what index.json lists.
func (s layoutShelf) referrers(digest string) ([]Descriptor, error) {
	var list []Descriptor
	for _, d := range s.top.Manifests {
		if d.ArtifactType == "" {
			continue
		}
		raw, err := s.read(d.Digest)
		if err != nil {
			return nil, err
		}
		var m artifactManifest
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		if m.Subject != nil && m.Subject.Digest == digest {
			list = append(list, d)
		}
	}
	return list, nil
}

// Open finds an image in a registry, by its tag or digest.
func (r Registry) Open(ctx context.Context, reference string) (*Placed, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", reference, err)
	}
	s := registryShelf{ref.Context(), r.options(ctx)}
	raw, err := s.get(ref)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", reference, err)
	}
	p, err := placed(s, raw)
	if err != nil {
		return nil, fmt.Errorf("reading image %s: %w", reference, err)
	}
	return p, nil
}

type registryShelf struct {
	repository name.Repository
	options    []remote.Option
}

func (s registryShelf) manifest(reference string) ([]byte, error) {
	if strings.HasPrefix(reference, "sha256:") {
		return s.get(s.repository.Digest(reference))
	}
	return s.get(s.repository.Tag(reference))
}

func (s registryShelf) get(ref name.Reference) ([]byte, error) {
	d, err := remote.Get(ref, s.options...) // verifies the digest
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", ref, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return d.Manifest, nil
}

func (s registryShelf) blob(d Descriptor) ([]byte, error) {
	l, err := remote.Layer(s.repository.Digest(d.Digest), s.options...)
	if err != nil {
		return nil, err
	}
	return readLayer(l)
}

func (s registryShelf) referrers(digest string) ([]Descriptor, error) {
	x, err := remote.Referrers(s.repository.Digest(digest), s.options...)
	if err != nil {
		return nil, err
	}
	m, err := x.IndexManifest()
	if err != nil {
		return nil, err
	}
	var list []Descriptor
	for _, d := range m.Manifests {
		list = append(list, Descriptor{
			MediaType: string(d.MediaType), Digest: d.Digest.String(), Size: d.Size,
			ArtifactType: d.ArtifactType, Annotations: d.Annotations,
		})
	}
	return list, nil
}
