package oci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Artifact is a document about an image or an index: a signature, a bill of materials. Registries list it among the
// referrers of its subject (OCI 1.1), and clients that know no referrers find the older kind of signature by a tag.
// It is immutable.
type Artifact struct {
	Descriptor Descriptor // of its manifest
	Subject    Descriptor

	tag      string // under which it is found in the subject's repository; empty when it is a referrer
	manifest []byte
	files    []file // its configuration and its layers
}

// file is a small blob in memory.
type file struct {
	Descriptor
	content []byte
}

func newFile(mediaType string, content []byte, annotations map[string]string) file {
	return file{Descriptor{MediaType: mediaType, Digest: digestOf(content), Size: int64(len(content)), Annotations: annotations}, content}
}

const mediaTypeEmpty = "application/vnd.oci.empty.v1+json"

// artifactManifest is the manifest of an artifact: that of an image with what it is and whom it is about.
type artifactManifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// NewArtifact attaches a document of the media type to the subject, which is also its artifact type.
func NewArtifact(subject Descriptor, mediaType string, content []byte, annotations map[string]string) (*Artifact, error) {
	a := &Artifact{Subject: plain(subject)}
	a.files = []file{newFile(mediaTypeEmpty, []byte("{}"), nil), newFile(mediaType, content, nil)}
	return a, a.seal(mediaType, annotations)
}

// plain is the descriptor as it names a subject.
func plain(d Descriptor) Descriptor {
	return Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

func (a *Artifact) seal(artifactType string, annotations map[string]string) (err error) {
	m := artifactManifest{
		SchemaVersion: 2, MediaType: MediaTypeManifest, ArtifactType: artifactType,
		Config: a.files[0].Descriptor, Layers: []Descriptor{}, Annotations: annotations,
	}
	if a.tag == "" {
		m.Subject = &a.Subject
	}
	for _, f := range a.files[1:] {
		m.Layers = append(m.Layers, f.Descriptor)
	}
	a.manifest, a.Descriptor, err = encode(MediaTypeManifest, m)
	a.Descriptor.ArtifactType = artifactType
	return err
}

// Signature is a payload and what was computed over it, as cosign kept them before there were referrers: a layer with
// the annotation, in an image with a tag that is made of the subject's digest.
type Signature struct {
	MediaType  string
	Payload    []byte
	Annotation string // key
	Value      string
}

// NewSignatures is the image of the signatures of a subject.
func NewSignatures(subject Descriptor, signatures ...Signature) (*Artifact, error) {
	a := &Artifact{Subject: plain(subject), tag: SignatureTag(subject.Digest)}
	var layers []file
	for _, s := range signatures {
		layers = append(layers, newFile(s.MediaType, s.Payload, map[string]string{s.Annotation: s.Value}))
	}
	return a, a.setLayers(layers)
}

// setLayers makes the image of the layers, with a configuration like that of an image without any system.
func (a *Artifact) setLayers(layers []file) error {
	config := configFile{RootFS: rootFS{Type: "layers", DiffIDs: []string{}}}
	for _, f := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, f.Digest)
	}
	text, _, err := encode(MediaTypeConfig, config)
	if err != nil {
		return err
	}
	a.files = append([]file{newFile(MediaTypeConfig, text, nil)}, layers...)
	return a.seal("", nil)
}

// SignatureTag is the tag of the image with the signatures of a digest.
func SignatureTag(digest string) string { return strings.Replace(digest, ":", "-", 1) + ".sig" }

// joined is the image with the signatures of another manifest of the kind as well: those of other signers stay. read
// returns a layer of it.
func (a *Artifact) joined(other []byte, read func(Descriptor) ([]byte, error)) (*Artifact, error) {
	var m artifactManifest
	if err := json.Unmarshal(other, &m); err != nil {
		return nil, fmt.Errorf("reading the signatures that are there: %w", err)
	}
	var layers []file
	for _, d := range m.Layers {
		same := func(f file) bool { return f.Digest == d.Digest && maps.Equal(f.Annotations, d.Annotations) }
		if slices.ContainsFunc(a.files[1:], same) {
			continue
		}
		content, err := read(d)
		if err != nil {
			return nil, fmt.Errorf("reading the signatures that are there: %w", err)
		}
		layers = append(layers, file{d, content})
	}
	all := *a
	return &all, all.setLayers(append(layers, a.files[1:]...))
}

// With is the index with artifacts about it or its images.
func (x *Index) With(artifacts ...*Artifact) *Index {
	more := *x
	more.Artifacts = append(slices.Clone(x.Artifacts), artifacts...)
	slices.SortStableFunc(more.Artifacts, func(a, b *Artifact) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest))
	})
	return &more
}

// Subjects lists what artifacts can be about: the index and then its images.
func (x *Index) Subjects() []Descriptor {
	list := []Descriptor{x.Descriptor}
	for _, m := range x.Images {
		list = append(list, m.Manifest)
	}
	return list
}
