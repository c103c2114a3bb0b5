// Package sbom writes and reads software bills of materials: SPDX 2.3 in its JSON form.
//
// It knows how an SPDX document is laid out and what a document says about one package ([Package]), about one image
// made of packages ([Image]) and about the images of several architectures ([Index]). It computes nothing about them:
// names, digests, licences and sources are told to it. The same facts always give the same bytes.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Document is an SPDX document. Of a document read, files and snippets are left out.
type Document struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      Creation           `json:"creationInfo"`
	External      []External         `json:"externalDocumentRefs,omitempty"`
	Describes     []string           `json:"documentDescribes,omitempty"` // the older form of the DESCRIBES relationship
	Elements      []Element          `json:"packages"`
	Relationships []Relationship     `json:"relationships"`
	Licenses      []ExtractedLicense `json:"hasExtractedLicensingInfos,omitempty"`

	at map[string]int // places of elements, as far as find has come; nil once they are sorted
}

// Creation says who wrote the document, and when.
type Creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

// External names another document that this one refers to as ID:element.
type External struct {
	ID        string   `json:"externalDocumentId"`
	Namespace string   `json:"spdxDocument"`
	Checksum  Checksum `json:"checksum"`
}

// Element is what SPDX calls a package: anything that is delivered, from a tarball to an image.
type Element struct {
	ID               string      `json:"SPDXID"`
	Name             string      `json:"name"`
	Version          string      `json:"versionInfo,omitempty"`
	FileName         string      `json:"packageFileName,omitempty"`
	Supplier         string      `json:"supplier,omitempty"`
	Originator       string      `json:"originator,omitempty"`
	DownloadLocation string      `json:"downloadLocation"`
	FilesAnalyzed    bool        `json:"filesAnalyzed"`
	Checksums        []Checksum  `json:"checksums,omitempty"`
	Homepage         string      `json:"homepage,omitempty"`
	SourceInfo       string      `json:"sourceInfo,omitempty"`
	LicenseConcluded string      `json:"licenseConcluded,omitempty"`
	LicenseDeclared  string      `json:"licenseDeclared,omitempty"`
	Copyright        string      `json:"copyrightText,omitempty"`
	Summary          string      `json:"summary,omitempty"`
	Description      string      `json:"description,omitempty"`
	Comment          string      `json:"comment,omitempty"`
	Refs             []Reference `json:"externalRefs,omitempty"`
	Purpose          string      `json:"primaryPackagePurpose,omitempty"`
}

// Checksum is a digest with the name of its algorithm: SHA1, SHA256, SHA512.
type Checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

// Reference ties an element to a name of it elsewhere: a package URL, a CPE.
type Reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// Relationship is a sentence: element, verb, element.
type Relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// ExtractedLicense is the text behind a LicenseRef.
type ExtractedLicense struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
	Name string `json:"name,omitempty"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	noAssertion = "NOASSERTION"

	describes     = "DESCRIBES"
	contains      = "CONTAINS"
	generatedFrom = "GENERATED_FROM"
	variantOf     = "VARIANT_OF"
)

func newDocument(name, creator string, created time.Time) *Document {
	return &Document{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: documentID, Name: name,
		Creation: Creation{
			Created:  created.UTC().Format("2006-01-02T15:04:05Z"),
			Creators: []string{"Tool: " + cmp.Or(creator, "unknown")},
		},
	}
}

func (d *Document) relate(element, verb, related string) {
	d.Relationships = append(d.Relationships, Relationship{element, verb, related})
}

// find is the place of an element, or -1. Of an image with lock files behind it there are thousands.
func (d *Document) find(id string) int {
	if d.at == nil {
		d.at = map[string]int{}
	}
	for i := len(d.at); i < len(d.Elements); i++ {
		if _, ok := d.at[d.Elements[i].ID]; !ok {
			d.at[d.Elements[i].ID] = i
		}
	}
	if i, ok := d.at[id]; ok {
		return i
	}
	return -1
}

func (d *Document) has(id string) bool { return d.find(id) >= 0 }

// seal brings the document into its one order and names it by its content.
func (d *Document) seal() error {
	byID := func(a, b Element) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(d.Elements, byID)
	d.at = nil
	for i := 1; i < len(d.Elements); i++ {
		if d.Elements[i].ID == d.Elements[i-1].ID {
			return fmt.Errorf("describing %s: two elements are called %s", d.Name, d.Elements[i].ID)
		}
	}
	slices.SortFunc(d.Relationships, func(a, b Relationship) int {
		return cmp.Or(strings.Compare(a.Element, b.Element), strings.Compare(a.Type, b.Type), strings.Compare(a.Related, b.Related))
	})
	d.Relationships = slices.Compact(d.Relationships)
	slices.SortStableFunc(d.Licenses, func(a, b ExtractedLicense) int { return strings.Compare(a.ID, b.ID) })
	d.Licenses = slices.CompactFunc(d.Licenses, func(a, b ExtractedLicense) bool { return a.ID == b.ID })
	d.Namespace = ""
	sum := sha256.New()
	if err := d.Encode(sum); err != nil {
		return err
	}
	d.Namespace = "https://spdx.org/spdxdocs/" + url.PathEscape(d.Name) + "-" + hex.EncodeToString(sum.Sum(nil)[:16])
	return nil
}

// Encode writes the document as JSON.
func (d *Document) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return fmt.Errorf("writing SPDX document %s: %w", d.Name, err)
	}
	return nil
}

// maxDocument bounds what a package's document may make its reader hold.
const maxDocument = 64 << 20

// Decode reads a document of SPDX 2.x in JSON.
func Decode(r io.Reader) (*Document, error) {
	limited := &io.LimitedReader{R: r, N: maxDocument}
	var d Document
	if err := json.NewDecoder(limited).Decode(&d); err != nil {
		if limited.N == 0 {
			err = fmt.Errorf("larger than %d bytes", maxDocument)
		}
		return nil, fmt.Errorf("reading SPDX document: %w", err)
	}
	if !strings.HasPrefix(d.Version, "SPDX-2.") {
		return nil, fmt.Errorf("reading SPDX document: version %q, not SPDX-2.x", d.Version)
	}
	for _, e := range d.Elements {
		if !strings.HasPrefix(e.ID, "SPDXRef-") {
			return nil, errors.New("reading SPDX document: a package has no SPDXID")
		}
	}
	return &d, nil
}

// described lists the elements that the document is about, in its order.
func (d *Document) described() []string {
	ids := slices.Clone(d.Describes)
	for _, r := range d.Relationships {
		switch {
		case r.Type == describes && r.Element == d.ID:
			ids = append(ids, r.Related)
		case r.Type == "DESCRIBED_BY" && r.Related == d.ID:
			ids = append(ids, r.Element)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// elementID makes an identifier of the words. SPDX allows letters, digits, dots and dashes in it; every other byte
// becomes its hexadecimal code between dots, so that different words stay different.
func elementID(words ...string) string {
	var b strings.Builder
	b.WriteString("SPDXRef")
	for _, word := range words {
		b.WriteByte('-')
		for i := range len(word) {
			if c := word[i]; isAlnum(c) || c == '.' || c == '-' {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, ".%02x.", c)
			}
		}
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
