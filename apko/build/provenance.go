package build

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/attest"
	"distro.internal/shared/sbom"
)

// The URIs by which provenance says what its parameters mean and who built: this program. Who ran it shows in who signed.
const (
	provenanceType = "https://distro.internal/apko/image/v1"
	provenanceBy   = "https://distro.internal/apko"
)

// parameters are what an image is made from: the image file, complete and without credentials, and whose packages.
type parameters struct {
	Config json.RawMessage `json:"config"`
	Archs  []apk.Arch      `json:"archs"`
	Lock   string          `json:"lock"` // the digest of the lock
}

// Provenance tells how the image of a lock was made; the materials are the packages of the lock. The distribution is
// the one that their package URLs name.
func Provenance(c *image.Config, lock *image.Lock, distribution string) (attest.Build, error) {
	config, err := c.Written()
	if err != nil {
		return attest.Build{}, err
	}
	b := attest.Build{Details: attest.Details{Builder: attest.Builder{ID: provenanceBy}}}
	b.Definition.Type = provenanceType
	b.Definition.Parameters = parameters{Config: config, Archs: lock.Archs(), Lock: "sha256:" + lock.Digest().Hash}
	for _, p := range lock.Contents.Packages {
		m, err := material(p, distribution)
		if err != nil {
			return attest.Build{}, err
		}
		b.Definition.Dependencies = append(b.Definition.Dependencies, m)
	}
	for _, base := range lock.Contents.BaseImages {
		b.Definition.Dependencies = append(b.Definition.Dependencies, attest.Material{
			Name: base.Image, Digest: map[string]string{"sha256": strings.TrimPrefix(base.Digest, "sha256:")},
			Annotations: map[string]string{"arch": string(base.Architecture)},
		})
	}
	return b, nil
}

// material names the package by the digest by which indexes know it, which is that of its control section.
func material(p image.LockPackage, distribution string) (attest.Material, error) {
	sum, err := apk.ParseChecksum(p.Checksum)
	if err != nil {
		return attest.Material{}, fmt.Errorf("package %s: %w", p.Name, err)
	}
	named := sbom.Package{Namespace: distribution, Name: p.Name, Version: string(p.Version), Arch: string(p.Architecture)}
	m := attest.Material{
		Name:        p.Name + "-" + string(p.Version),
		URI:         named.PURL(),
		Digest:      map[string]string{"sha1": hex.EncodeToString(sum[:])},
		Annotations: map[string]string{"section": "control"},
	}
	if strings.HasPrefix(p.URL, "https://") || strings.HasPrefix(p.URL, "http://") {
		m.Location = image.Redact(p.URL)
	}
	return m, nil
}
