package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/sbom"
)

// made is the image of one architecture as it is remembered: everything but the bytes of its layers, which the segments
// in the store hold. To make the same image again is to read this.
type made struct {
	Run       oci.Config
	Layers    []oci.Layer
	Packages  []string
	Notes     []string
	System    sbom.OS
	Namespace string // of the bill of materials

	sbom    []byte
	fetched bool // made elsewhere
}

func (m *made) image(arch apk.Arch, store cas.Store) (*oci.Image, error) {
	layers := make([]*oci.Layer, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = l.In(store)
	}
	return oci.NewImage(arch, m.Run, layers...)
}

// memoryFormat changes when the image made of the same lock and configuration does.
const memoryFormat = "7"

// key covers everything that the image of an architecture depends on.
func (b *Builder) key(c *image.Config, lock *image.Lock, arch apk.Arch, beneath []image.LockBase) (*cas.Key, error) {
	config, err := c.Digest()
	if err != nil {
		return nil, err
	}
	k := cas.NewKey("apko image of one architecture")
	k.Add("format", memoryFormat+" "+partFormat+" "+oci.LayerFormat)
	k.Add("arch", string(arch))
	k.Add("tool", b.Tool)
	k.Add("compression", string(b.Compression))
	k.Add("config", config)
	if !b.Created.IsZero() {
		k.Add("created", strconv.FormatInt(b.Created.Unix(), 10))
	}
	for _, base := range beneath {
		k.Add("base image", base.Digest)
	}
	for _, key := range lock.Contents.Keyring {
		k.Add("key "+key.Name, key.Content)
	}
	for _, p := range lock.Packages(arch) {
		k.Add("package", fmt.Sprintf("%s=%s %s", p.Name, p.Version, p.Checksum))
		k.Add("sections", fmt.Sprint(p.Signature, p.Control, p.Data)) // an altered lock must be found out
	}
	return k, nil
}

func (b *Builder) remember(ctx context.Context, key *cas.Key, m *made) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	description, err := b.CAS.PutBytes(text)
	if err != nil {
		return err
	}
	document, err := b.CAS.PutBytes(m.sbom)
	if err != nil {
		return err
	}
	r := &cas.Result{Outputs: []cas.Output{{Name: "image", Digest: description}, {Name: "sbom", Digest: document}}}
	for i, l := range m.Layers {
		for j, s := range l.Segments {
			r.Outputs = append(r.Outputs, cas.Output{Name: fmt.Sprintf("layer/%d/%d", i, j), Digest: s.Compressed.Digest})
		}
	}
	return b.CAS.Keep(ctx, key, r)
}

// recall returns what was remembered; fs.ErrNotExist when nothing was, or when a segment is gone since.
func (b *Builder) recall(ctx context.Context, key *cas.Key) (*made, error) {
	r, err := b.CAS.Find(ctx, key)
	if err != nil {
		return nil, err
	}
	outputs := make([]cas.Digest, len(r.Outputs))
	for i, o := range r.Outputs {
		outputs[i] = o.Digest
	}
	if err := b.CAS.Bring(ctx, outputs...); err != nil {
		return nil, err
	}
	description, _ := r.Output("image")
	text, err := b.CAS.ReadAll(description)
	if err != nil {
		return nil, err
	}
	m := &made{fetched: r.Fetched}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("reading what is remembered of the image: %w", err)
	}
	document, _ := r.Output("sbom")
	m.sbom, err = b.CAS.ReadAll(document)
	return m, err
}
