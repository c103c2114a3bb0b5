package build

import (
	"bytes"
	"cmp"
	"strings"
	"time"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
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
func (b *Builder) describe(r *root, c *image.Config, m *oci.Image, layerOf []int, created time.Time) (sbom.Image, error) {
	system, err := r.system()
	if err != nil {
		return sbom.Image{}, err
	}
	d := sbom.Image{
		Name: c.Annotations["org.opencontainers.image.title"], Digest: m.Manifest.Digest, Arch: m.Manifest.Platform.String(), MediaType: m.Manifest.MediaType,
		OS: system, Creator: b.Tool, Created: created,
	}
	d.SourceURL, d.Revision = c.Source()
	for _, l := range m.Layers {
		d.Layers = append(d.Layers, sbom.Layer{Digest: l.Digest, DiffID: l.DiffID})
	}
	for i, p := range r.parts {
		content := sbom.Content{Layer: layerOf[i], Package: sbom.Package{
			Name: p.Package.Name, Version: string(p.Package.Version), Arch: string(p.Package.Arch), Origin: p.Package.Origin,
			Namespace: system.ID, Description: p.Package.Description, Homepage: p.Package.URL, License: p.Package.License,
			Supplier: system.Name,
		}}
		if content.Embedded, err = p.document(); err != nil {
			return sbom.Image{}, err
		}
		d.Packages = append(d.Packages, content)
	}
	return d, nil
}

// document is the bill of materials that the package itself carries, nil when it has none that can be read: then the
// package is still described, from what it says of itself.
func (p *part) document() (*sbom.Document, error) {
	want := sbom.Path(p.Package.Name, string(p.Package.Version))
	for i := range p.Files {
		if p.Files[i].Path != want || !p.Files[i].IsRegular() {
			continue
		}
		r, err := p.open(p.Files[i])()
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
