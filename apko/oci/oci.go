// Package oci makes container images: layers, configurations, manifests and indexes, and puts them where they are
// wanted: a layout folder, a tarball, a registry.
//
// It knows the OCI image specification and how a layer is put together from parts that were compressed before. It knows
// nothing of packages: what is in a layer, and in which order, is told to it. It is the only package that uses
// go-containerregistry.
package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"distro.internal/shared/apk"
)

// Media types of what is written.
const (
	MediaTypeIndex    = "application/vnd.oci.image.index.v1+json"
	MediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeConfig   = "application/vnd.oci.image.config.v1+json"
	MediaTypeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"

	MediaTypeLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"

	mediaTypeLayerPlain = "application/vnd.oci.image.layer.v1.tar"
)

// Descriptor names content: what it is, its digest ("sha256:...") and its size in bytes.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     *Platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Platform is what an image runs on.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// String is the platform as tags and people spell it: amd64, armv7.
func (p Platform) String() string { return p.Architecture + p.Variant }

// PlatformOf is the platform of an architecture as apk spells it. arm64 has no variant, as everywhere else.
func PlatformOf(a apk.Arch) Platform {
	name, variant, _ := strings.Cut(a.Platform(), "/")
	return Platform{Architecture: name, Variant: variant, OS: "linux"}
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []Descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type configFile struct {
	Created      string    `json:"created"`
	Author       string    `json:"author,omitempty"`
	Architecture string    `json:"architecture"`
	Variant      string    `json:"variant,omitempty"`
	OS           string    `json:"os"`
	Config       runConfig `json:"config"`
	RootFS       rootFS    `json:"rootfs"`

	History []json.RawMessage `json:"history,omitempty"`
}

type runConfig struct {
	User       string              `json:"User,omitempty"`
	Env        []string            `json:"Env,omitempty"`
	Entrypoint []string            `json:"Entrypoint,omitempty"`
	Cmd        []string            `json:"Cmd,omitempty"`
	Volumes    map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir string              `json:"WorkingDir,omitempty"`
	Labels     map[string]string   `json:"Labels,omitempty"`
	StopSignal string              `json:"StopSignal,omitempty"`

	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Healthcheck  json.RawMessage     `json:"Healthcheck,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
	Comment   string `json:"comment,omitempty"`
}

// Config is how a container is started from an image, and what is said about the image.
type Config struct {
	Created     time.Time
	Author      string // the tool
	User        string
	Env         []string
	Entrypoint  []string
	Cmd         []string
	Volumes     []string
	WorkingDir  string
	StopSignal  string
	Annotations map[string]string // of the manifest; also the labels of the configuration

	// What only a base image says.
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Healthcheck  json.RawMessage     `json:",omitempty"`
	History      []json.RawMessage   `json:",omitempty"` // of its layers
}

// Image is the image of one architecture. It is immutable.
type Image struct {
	Arch     apk.Arch
	Manifest Descriptor // with the platform
	Config   Descriptor
	Layers   []*Layer

	manifest, config []byte
}

// NewImage makes an image of layers, lowest first.
func NewImage(arch apk.Arch, c Config, layers ...*Layer) (*Image, error) {
	m := &Image{Arch: arch, Layers: layers}
	platform := PlatformOf(arch)
	file, err := c.file(platform, layers)
	if err != nil {
		return nil, err
	}
	if m.config, m.Config, err = encode(MediaTypeConfig, file); err != nil {
		return nil, err
	}
	raw := manifest{SchemaVersion: 2, MediaType: MediaTypeManifest, Config: m.Config, Layers: []Descriptor{}, Annotations: c.Annotations}
	for _, l := range layers {
		raw.Layers = append(raw.Layers, l.Descriptor())
	}
	if m.manifest, m.Manifest, err = encode(MediaTypeManifest, raw); err != nil {
		return nil, err
	}
	m.Manifest.Platform = &platform
	return m, nil
}

func (c Config) file(p Platform, layers []*Layer) (configFile, error) {
	created := timestamp(c.Created)
	f := configFile{
		Created: created, Author: c.Author, Architecture: p.Architecture, Variant: p.Variant, OS: p.OS,
		Config: runConfig{
			User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir,
			Labels: c.Annotations, StopSignal: c.StopSignal, ExposedPorts: c.ExposedPorts, Healthcheck: c.Healthcheck,
		},
		RootFS:  rootFS{Type: "layers", DiffIDs: []string{}},
		History: slices.Clone(c.History),
	}
	for _, v := range c.Volumes {
		if f.Config.Volumes == nil {
			f.Config.Volumes = make(map[string]struct{})
		}
		f.Config.Volumes[v] = struct{}{}
	}
	for _, l := range layers {
		f.RootFS.DiffIDs = append(f.RootFS.DiffIDs, l.DiffID)
		if l.Inherited {
			continue
		}
		h, _, err := encode(MediaTypeConfig, history{Created: created, CreatedBy: c.Author, Comment: l.Comment})
		if err != nil {
			return f, err
		}
		f.History = append(f.History, h)
	}
	return f, nil
}

// Index is an image of several architectures. It is immutable.
type Index struct {
	Descriptor Descriptor
	Images     []*Image
	Artifacts  []*Artifact // about it or its images; no part of it

	raw []byte
}

// NewIndex makes an index of images in the given order.
func NewIndex(annotations map[string]string, images ...*Image) (*Index, error) {
	x := &Index{Images: images}
	raw := index{SchemaVersion: 2, MediaType: MediaTypeIndex, Manifests: []Descriptor{}, Annotations: annotations}
	for _, m := range images {
		raw.Manifests = append(raw.Manifests, m.Manifest)
	}
	var err error
	x.raw, x.Descriptor, err = encode(MediaTypeIndex, raw)
	return x, err
}

// encode writes v as JSON, the same bytes each time: fields as declared, the keys of maps in order.
func encode(mediaType string, v any) ([]byte, Descriptor, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, Descriptor{}, fmt.Errorf("encoding %s: %w", mediaType, err)
	}
	b := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	return b, Descriptor{MediaType: mediaType, Digest: digestOf(b), Size: int64(len(b))}, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return digest(sum[:])
}

func digest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
