package build

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/sbom"
)

// system is what the image's os-release says.
func (r *root) system() (sbom.OS, error) {
	var values = map[string]string{}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		lines, err := r.readLines(name)
		if err != nil {
			return sbom.OS{}, err
		}
		for _, line := range lines {
			if key, value, ok := strings.Cut(line, "="); ok {
				values[key] = strings.Trim(value, `"'`)
			}
		}
		if len(lines) > 0 {
			break
		}
	}
	return sbom.OS{
		ID: values["ID"], Name: cmp.Or(values["NAME"], values["ID"]), Version: values["VERSION_ID"],
	}, nil
}

// describe writes what the image is made of.
func (b *Builder) describe(m *made, r *root, c *image.Config, arch apk.Arch, layerOf []int) error {
	var err error
	if m.System, err = r.system(); err != nil {
		return err
	}
	img, err := m.image(arch, b.CAS.Store)
	if err != nil {
		return err
	}
	about := b.header(m, c, img)
	about.SourceURL, about.Revision = c.Source()
	for _, l := range m.Layers {
		about.Layers = append(about.Layers, sbom.Layer{Digest: l.Digest, DiffID: l.DiffID})
	}
	for i, p := range r.parts {
		content := sbom.Content{Layer: layerOf[i], Package: sbom.Package{
			Name: p.Package.Name, Version: string(p.Package.Version), Arch: string(p.Package.Arch), Origin: p.Package.Origin,
			Namespace: m.System.ID, Description: p.Package.Description, Homepage: p.Package.URL, License: p.Package.License,
			Supplier: m.System.Name,
		}}
		if content.Embedded, err = p.document(); err != nil {
			return err
		}
		about.Packages = append(about.Packages, content)
	}
	d, err := about.Document()
	if err != nil {
		return fmt.Errorf("describing the image: %w", err)
	}
	var encoded bytes.Buffer
	if err := d.Encode(&encoded); err != nil {
		return err
	}
	m.Namespace, m.sbom = d.Namespace, encoded.Bytes()
	return nil
}

// header is what is said of the image as a whole.
func (b *Builder) header(m *made, c *image.Config, img *oci.Image) sbom.Image {
	return sbom.Image{
		Name: title(c), Digest: img.Manifest.Digest, Arch: img.Manifest.Platform.String(), MediaType: img.Manifest.MediaType,
		OS: m.System, Creator: b.Tool, Created: m.Run.Created,
	}
}

// document is the bill of materials that the package itself carries, nil when it has none that can be read: then the
// package is still described, from what it says of itself.
func (p *part) document() (*sbom.Document, error) {
	want := sbom.Path(p.Package.Name, string(p.Package.Version))
	for i := range p.Files {
		if p.Files[i].Path != want || !p.Files[i].IsRegular() {
			continue
		}
		r, err := p.Files[i].Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		var text bytes.Buffer
		if _, err := text.ReadFrom(r); err != nil {
			return nil, err
		}
		d, err := sbom.Decode(&text)
		if err != nil {
			return nil, nil
		}
		return d, nil
	}
	return nil, nil
}
