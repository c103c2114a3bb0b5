package sbom

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Image is what a document says about an image of one architecture.
type Image struct {
	Name      string // repository of the image, without a tag: "registry.example/team/nginx"
	Digest    string // of the manifest: "sha256:..."
	Arch      string // as OCI spells it
	MediaType string
	Layers    []Layer
	Packages  []Content
	OS        OS
	SourceURL string // repository of the image file, when it is known
	Revision  string
	Creator   string
	Created   time.Time
}

// Layer is one layer of an image.
type Layer struct {
	Digest string // of the compressed bytes: "sha256:..."
	DiffID string // of the plain bytes
}

// Content is a package in an image.
type Content struct {
	Package
	Embedded *Document // the package's own document, nil when it has none
	Layer    int       // index of the layer that holds it
}

// OS is what the image's os-release says.
type OS struct {
	ID, Name, Version string
}

// Document describes the image, its layers and every package in it. What a package's own document knows is taken over.
func (m Image) Document() (*Document, error) {
	d := newDocument("sbom-"+m.Digest, m.Creator, m.Created)
	root := m.element()
	d.Elements = append(d.Elements, root)
	d.relate(documentID, describes, root.ID)
	layers := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = d.layer(root.ID, m, l)
	}
	for _, c := range m.Packages {
		id, err := d.content(c)
		if err != nil {
			return nil, fmt.Errorf("describing %s: %w", c.Name, err)
		}
		d.relate(root.ID, contains, id)
		if c.Layer < len(layers) {
			d.relate(layers[c.Layer], contains, id)
		}
	}
	d.system(root.ID, m)
	d.source(root.ID, m)
	return d, d.seal()
}

func (m Image) element() Element {
	return Element{
		ID: elementID("Image", m.Digest), Name: lastName(m.Name), Version: m.Digest,
		Supplier: organization(m.OS.Name), DownloadLocation: noAssertion, Purpose: "CONTAINER",
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
		Checksums: checksumOf(m.Digest), Refs: []Reference{purlRef(ociURL(m.Name, m.Digest, m.Arch, m.MediaType))},
	}
}

// lastName is what an image is called by people: the last part of its repository.
func lastName(repository string) string {
	return cmp.Or(repository[strings.LastIndexByte(repository, '/')+1:], "image")
}

func ociURL(name, digest, arch, mediaType string) string {
	return purl("oci", "", strings.ToLower(lastName(name)), digest,
		"arch", arch, "mediaType", mediaType, "os", "linux", "repository_url", name)
}

func checksumOf(digest string) []Checksum {
	algorithm, value, ok := strings.Cut(digest, ":")
	if !ok || algorithm != "sha256" {
		return nil
	}
	return []Checksum{{"SHA256", value}}
}

func (d *Document) layer(root string, m Image, l Layer) string {
	e := Element{
		ID: elementID("Layer", l.Digest), Name: l.Digest, Supplier: organization(m.OS.Name), DownloadLocation: noAssertion,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
		Checksums: checksumOf(l.Digest), Comment: "uncompressed: " + l.DiffID,
	}
	if !d.has(e.ID) {
		d.Elements = append(d.Elements, e)
	}
	d.relate(root, contains, e.ID)
	return e.ID
}

func (d *Document) system(root string, m Image) {
	if m.OS.ID == "" {
		return
	}
	e := Element{
		ID: elementID("OperatingSystem", m.OS.ID, m.OS.Version), Name: m.OS.ID, Version: m.OS.Version,
		Supplier: organization(m.OS.Name), DownloadLocation: noAssertion, Description: m.OS.Name,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "OPERATING-SYSTEM",
	}
	d.Elements = append(d.Elements, e)
	d.relate(root, contains, e.ID)
}

func (d *Document) source(root string, m Image) {
	if m.SourceURL == "" {
		return
	}
	e, _ := Source{URI: m.SourceURL, Commit: m.Revision}.element()
	d.Elements = append(d.Elements, e)
	d.relate(root, generatedFrom, e.ID)
}

// content adds a package and returns the identifier of its element.
func (d *Document) content(c Content) (string, error) {
	if c.Embedded != nil {
		if id, ok, err := d.adopt(c); ok || err != nil {
			return id, err
		}
	}
	e, texts := c.Package.element()
	d.Licenses = append(d.Licenses, texts...)
	return d.add(e)
}

// adopt takes over what the package's own document tells, from the element that stands for the package on: it, what
// it relates to, and the licences they need. It reports false when the document is not about this package.
func (d *Document) adopt(c Content) (string, bool, error) {
	from := c.Embedded
	byID := make(map[string]Element, len(from.Elements))
	for _, e := range from.Elements {
		byID[e.ID] = e
	}
	start := ""
	for _, id := range from.described() {
		if e, ok := byID[id]; ok && e.Name == c.Name && e.Version == c.Version {
			start = id
		}
	}
	if start == "" {
		return "", false, nil
	}
	reached, relations := from.closure(start, byID)
	names := make(map[string]string, len(reached))
	for _, id := range reached {
		e := byID[id]
		if id == start {
			e = c.complete(e)
		}
		if e.LicenseDeclared != "" {
			var texts []ExtractedLicense
			e.LicenseDeclared, texts = license(e.LicenseDeclared)
			d.Licenses = append(d.Licenses, texts...)
		}
		name, err := d.add(e)
		if err != nil {
			return "", false, err
		}
		names[id] = name
		d.adoptLicenses(from, e)
	}
	for _, r := range relations {
		d.relate(names[r.Element], r.Type, names[r.Related])
	}
	return names[start], true, nil
}

// complete fills in what an embedded document left open but the package itself tells.
func (c Content) complete(e Element) Element {
	own, _ := c.Package.element()
	if e.LicenseDeclared == "" || e.LicenseDeclared == noAssertion {
		e.LicenseDeclared = own.LicenseDeclared
	}
	if !slices.ContainsFunc(e.Refs, func(r Reference) bool { return r.Type == "purl" }) {
		e.Refs = append(slices.Clone(e.Refs), own.Refs[0])
	}
	return e
}

// closure lists the elements that can be reached from start, and the relations between them.
func (d *Document) closure(start string, byID map[string]Element) ([]string, []Relationship) {
	next := make(map[string][]Relationship)
	for _, r := range d.Relationships {
		next[r.Element] = append(next[r.Element], r)
	}
	seen := map[string]bool{start: true}
	reached := []string{start}
	var relations []Relationship
	for i := 0; i < len(reached); i++ {
		for _, r := range next[reached[i]] {
			if _, known := byID[r.Related]; !known {
				continue
			}
			relations = append(relations, r)
			if !seen[r.Related] {
				seen[r.Related] = true
				reached = append(reached, r.Related)
			}
		}
	}
	return reached, relations
}

// add puts in a foreign element. Equal elements of several packages are one; different ones of the same identifier
// keep apart by a part of their content's digest.
func (d *Document) add(e Element) (string, error) {
	e.FilesAnalyzed = false
	e.DownloadLocation = cmp.Or(e.DownloadLocation, noAssertion)
	text, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	if i := d.find(e.ID); i >= 0 {
		if other, err := json.Marshal(d.Elements[i]); err == nil && string(other) == string(text) {
			return e.ID, nil
		}
		sum := sha256.Sum256(text)
		e.ID += "-" + hex.EncodeToString(sum[:6])
		if d.has(e.ID) {
			return e.ID, nil
		}
	}
	d.Elements = append(d.Elements, e)
	return e.ID, nil
}

// adoptLicenses takes over the texts of the licences that the element refers to. They come before those that only name
// a licence, and so stay when seal leaves one text for each.
func (d *Document) adoptLicenses(from *Document, e Element) {
	for _, ref := range slices.Concat(licenseRefs(e.LicenseDeclared), licenseRefs(e.LicenseConcluded)) {
		for _, text := range from.Licenses {
			if text.ID == ref {
				d.Licenses = append([]ExtractedLicense{text}, d.Licenses...)
			}
		}
	}
}

// Index is what a document says about an image of several architectures.
type Index struct {
	Name      string
	Digest    string // of the index
	MediaType string
	Images    []Variant
	Creator   string
	Created   time.Time
}

// Variant is the image of one architecture, with the document that describes it.
type Variant struct {
	Image
	Namespace string // of the document
	Encoded   []byte // the document
}

// Document describes the index. Each image's element is the one of the image's own document, which is named by its
// namespace and checksum.
func (x Index) Document() (*Document, error) {
	d := newDocument("sbom-"+x.Digest, x.Creator, x.Created)
	root := Element{
		ID: elementID("Index", x.Digest), Name: lastName(x.Name), Version: x.Digest,
		Supplier: noAssertion, DownloadLocation: noAssertion, Purpose: "CONTAINER",
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
		Checksums: checksumOf(x.Digest), Refs: []Reference{purlRef(ociURL(x.Name, x.Digest, "", x.MediaType))},
	}
	d.Elements = append(d.Elements, root)
	d.relate(documentID, describes, root.ID)
	for _, v := range x.Images {
		e := v.element()
		d.Elements = append(d.Elements, e)
		d.relate(e.ID, variantOf, root.ID)
		sum := sha1.Sum(v.Encoded)
		ref := "DocumentRef-" + strings.TrimPrefix(elementID(v.Arch, v.Digest), "SPDXRef-")
		d.External = append(d.External, External{
			ID: ref, Namespace: v.Namespace, Checksum: Checksum{"SHA1", hex.EncodeToString(sum[:])},
		})
		d.relate(e.ID, "DESCRIBED_BY", ref+":"+documentID)
	}
	return d, d.seal()
}
