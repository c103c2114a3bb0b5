package build

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/attest"
	"distro.internal/shared/sbom"
)

// The URIs by which provenance says what its parameters mean and who built: this program. Who ran it shows in who signed.
const (
	provenanceType = "https://distro.internal/melange/package/v1"
	provenanceBy   = "https://distro.internal/melange"
)

// provenanceParameters are what packages are built from, besides what is resolved.
type provenanceParameters struct {
	Recipe    string      `json:"recipe"`
	Version   apk.Version `json:"version"`
	Arch      apk.Arch    `json:"arch"`
	BuildArch apk.Arch    `json:"buildArch"`
	Commit    string      `json:"commit,omitempty"` // of the recipe
	Plan      string      `json:"plan"`             // digest of what the recipe means, see recipe.Digests
}

// Provenance tells how a job's packages were made: of the packages of its environment, its sources, and the recipe's own
// files.
func (builder *Builder) Provenance(job Job) (attest.Build, error) {
	p := job.Plan
	b := attest.Build{Details: attest.Details{Builder: attest.Builder{ID: provenanceBy}}}
	b.Definition.Type = provenanceType
	b.Definition.Parameters = provenanceParameters{
		Recipe: p.Name, Version: p.FullVersion(), Arch: p.Arch, BuildArch: job.rootArch(),
		Commit: p.Outputs[0].Commit, Plan: "sha256:" + p.Digests().Build,
	}
	materials := &b.Definition.Dependencies
	if at, commit := builder.Distribution.Recipes, p.Outputs[0].Commit; at != "" && commit != "" {
		m := attest.Material{Name: p.Name + ".yaml", URI: "git+" + withoutUser(at) + "@" + commit}
		if sum, err := hex.DecodeString(commit); err == nil && (len(sum) == 20 || len(sum) == 32) { // else a part of it, or a tag
			m.Digest = map[string]string{"gitCommit": commit}
		}
		*materials = append(*materials, m)
	}
	for _, list := range [][]Installed{job.Environment.Root, job.Environment.Sysroot} {
		for _, i := range list {
			*materials = append(*materials, packageMaterial(i))
		}
	}
	for _, s := range p.Sources {
		m, err := sourceMaterial(s)
		if err != nil {
			return b, fmt.Errorf("describing source %s: %w", cmp.Or(s.URI, s.Module), err)
		}
		if len(m.Digest) > 0 { // the modules of a go.sum are what the source that holds it says
			*materials = append(*materials, m)
		}
	}
	for _, name := range p.LocalFiles {
		digest, err := fileDigest(job.Local, name)
		if err != nil {
			return b, err
		}
		sum, _, _ := strings.Cut(digest, "/")
		*materials = append(*materials, attest.Material{Name: name, Digest: map[string]string{"sha256": sum}})
	}
	return b, nil
}

// packageMaterial names the package by the digest by which indexes know it, which is that of its control section.
func packageMaterial(i Installed) attest.Material {
	named := sbom.Package{Name: i.Name, Version: string(i.Version), Arch: string(i.Arch)}
	return attest.Material{
		Name:        i.Name + "-" + string(i.Version),
		URI:         named.PURL(),
		Digest:      map[string]string{"sha1": hex.EncodeToString(i.Checksum[:])},
		Annotations: map[string]string{"section": "control"},
	}
}

func sourceMaterial(s recipe.Source) (attest.Material, error) {
	m := attest.Material{Name: s.Directory, Digest: map[string]string{}}
	for _, d := range [][2]string{{"sha256", s.SHA256}, {"sha512", s.SHA512}, {"gitCommit", s.Commit}} {
		if d[1] != "" {
			m.Digest[d[0]] = d[1]
		}
	}
	switch s.Kind {
	case recipe.SourceGit:
		m.URI = "git+" + withoutUser(s.URI) + "@" + s.Commit
	case recipe.SourceModule:
		m.URI = "pkg:golang/" + s.Module + "@" + s.Version
		// The hash of go.sum, as digest sets have it.
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Sum, "h1:"))
		if err != nil {
			return m, err
		}
		m.Digest["dirHash"] = hex.EncodeToString(sum)
	default:
		m.URI = withoutUser(s.URI)
	}
	return m, nil
}

// withoutUser is a URI without what only its owner should know.
func withoutUser(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	u.User = nil
	return u.String()
}
