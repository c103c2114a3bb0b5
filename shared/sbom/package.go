package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
)

// Package is what a document says about one apk.
type Package struct {
	Name, Version, Arch string
	Origin              string // the package of the recipe that it was built by; empty when it is that one
	Namespace           string // distribution that the package URL names: "wolfi"
	Description         string
	Homepage            string
	License             string // as in .PKGINFO: an SPDX expression where its author kept to them
	Copyright           string
	Supplier            string // the organisation that built it
	CPE                 string // of version 2.3
	Sources             []Source
	Libraries           []Library
	Recipe              *Source // the file that tells how it is built, at its commit; nil when it is not known
	Creator             string  // the tool that writes the document
	Created             time.Time
}

// Source is what a package was built from.
type Source struct {
	Name, Version  string
	URI            string // of the archive, or of the git repository
	Commit         string // of the git repository
	File           string // in the git repository, when it is not the whole of it
	SHA256, SHA512 string // of the archive, hex
	License        string
}

// Library is what a language's package manager was given for the build.
type Library struct {
	Type          string   // of its package URL: "npm", "cargo", "pypi", "golang"
	Name, Version string   // as its package manager has them: "@scope/name", "example.org/module"
	URI           string   // of its file or of the git repository that it is in, when that is known
	Commit        string   // of the git repository
	Registry      string   // URL of where it is from, when that is not where all of its type are
	Digests       []string // "sha512:HEX" of its files; of a Go module the hash of go.sum, which scanners take for its SHA-256
}

// Path is where a package carries its own document, so that an image made of packages can say what is in them.
func Path(name, version string) string {
	return "var/lib/db/sbom/" + name + "-" + version + ".spdx.json"
}

// Document describes the package and the sources that it was generated from.
func (p Package) Document() (*Document, error) {
	d := newDocument(p.Name+"-"+p.Version, p.Creator, p.Created)
	e, texts := p.element()
	d.Elements = append(d.Elements, e)
	d.Licenses = append(d.Licenses, texts...)
	d.relate(documentID, describes, e.ID)
	sources := p.Sources
	if p.Recipe != nil {
		sources = append([]Source{*p.Recipe}, sources...)
	}
	for _, s := range sources {
		source, texts := s.element()
		if !d.has(source.ID) {
			d.Elements = append(d.Elements, source)
			d.Licenses = append(d.Licenses, texts...)
		}
		d.relate(e.ID, generatedFrom, source.ID)
	}
	for _, l := range p.Libraries {
		library := l.element()
		if !d.has(library.ID) {
			d.Elements = append(d.Elements, library)
		}
		d.relate(e.ID, generatedFrom, library.ID)
	}
	return d, d.seal()
}

func (p Package) element() (Element, []ExtractedLicense) {
	expression, texts := license(p.License)
	e := Element{
		ID: elementID("Package", p.Name, p.Version), Name: p.Name, Version: p.Version,
		FileName: p.Name + "-" + p.Version + ".apk", Supplier: organization(p.Supplier), DownloadLocation: noAssertion,
		Homepage: homepage(p.Homepage), LicenseConcluded: noAssertion, LicenseDeclared: expression,
		Copyright: cmp.Or(p.Copyright, noAssertion), Description: p.Description, Purpose: "INSTALL",
		Refs: []Reference{purlRef(p.PURL())},
	}
	if p.Origin != "" && p.Origin != p.Name {
		e.SourceInfo = "built from the recipe of " + p.Origin
	}
	if p.CPE != "" {
		e.Refs = append(e.Refs, Reference{"SECURITY", "cpe23Type", p.CPE})
	}
	return e, texts
}

// PURL is the package URL: "pkg:apk/wolfi/zlib@1.3-r0?arch=x86_64&origin=zlib".
func (p Package) PURL() string {
	origin := p.Origin
	if origin == p.Name {
		origin = ""
	}
	return purl("apk", strings.ToLower(cmp.Or(p.Namespace, "unknown")), strings.ToLower(p.Name), p.Version, "arch", p.Arch, "origin", origin)
}

func (s Source) element() (Element, []ExtractedLicense) {
	expression, texts := license(s.License)
	e := Element{
		ID: elementID("Source", s.name(), cmp.Or(s.SHA256, s.SHA512, s.Commit, s.Version)), Name: s.name(),
		Version: cmp.Or(s.Version, s.Commit), Supplier: noAssertion, DownloadLocation: s.location(),
		LicenseConcluded: noAssertion, LicenseDeclared: expression, Copyright: noAssertion, Purpose: "SOURCE",
		Refs: []Reference{purlRef(s.purl())},
	}
	if s.SHA256 != "" {
		e.Checksums = append(e.Checksums, Checksum{"SHA256", s.SHA256})
	}
	if s.SHA512 != "" {
		e.Checksums = append(e.Checksums, Checksum{"SHA512", s.SHA512})
	}
	return e, texts
}

func (s Source) name() string {
	if name := cmp.Or(s.Name, s.File); name != "" {
		return name
	}
	return strings.TrimSuffix(path.Base(s.URI), ".git")
}

func (s Source) location() string {
	uri := location(s.URI)
	if s.Commit == "" || uri == noAssertion {
		return uri
	}
	return "git+" + uri + "@" + s.Commit
}

func (s Source) purl() string {
	if s.Commit != "" {
		if u, err := url.Parse(s.URI); err == nil && u.Host == "github.com" {
			owner, repo := path.Split(strings.ToLower(strings.Trim(strings.TrimSuffix(u.Path, ".git"), "/")))
			return purl("github", owner, repo, s.Commit) + s.subpath()
		}
		return purl("generic", "", s.name(), s.Version, "vcs_url", s.location()) + s.subpath()
	}
	sum := ""
	switch {
	case s.SHA256 != "":
		sum = "sha256:" + s.SHA256
	case s.SHA512 != "":
		sum = "sha512:" + s.SHA512
	}
	uri := location(s.URI)
	if uri == noAssertion {
		uri = ""
	}
	return purl("generic", "", s.name(), s.Version, "checksum", sum, "download_url", uri)
}

// subpath is the file of a repository, as package URLs have it.
func (s Source) subpath() string {
	if s.File == "" {
		return ""
	}
	return "#" + purlEscape(s.File)
}

func (l Library) element() Element {
	e := Element{
		Name: l.Name, Version: l.Version, Supplier: noAssertion, DownloadLocation: l.location(),
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "LIBRARY",
		Refs: []Reference{purlRef(l.purl())},
	}
	for _, digest := range l.Digests {
		algorithm, value, _ := strings.Cut(digest, ":")
		e.Checksums = append(e.Checksums, Checksum{strings.ToUpper(algorithm), value})
	}
	// One name and version may be several things: of two registries, or a fork.
	e.ID = elementID("Library", l.Type, l.Name, l.Version, l.distinction())
	return e
}

// distinction tells it from others of its name and version.
func (l Library) distinction() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{l.URI, l.Commit, l.Registry}, l.Digests...), " ")))
	return hex.EncodeToString(sum[:6])
}

func (l Library) location() string { return Source{URI: l.URI, Commit: l.Commit}.location() }

// purl is the package URL. The specification of each type says what is one name there.
func (l Library) purl() string {
	namespace, name := path.Split(l.Name)
	switch l.Type {
	case "golang":
		namespace, name = strings.ToLower(namespace), strings.ToLower(name)
	case "pypi":
		name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	}
	registry, vcs := location(l.Registry), ""
	if registry == noAssertion {
		registry = ""
	}
	if l.Commit != "" {
		vcs = l.location()
	}
	return purl(l.Type, namespace, name, l.Version, "repository_url", registry, "vcs_url", vcs)
}

func organization(name string) string {
	if name == "" {
		return noAssertion
	}
	return fmt.Sprintf("Organization: %s", strings.Join(strings.Fields(name), " "))
}

// homepage leaves out what is no URL: SPDX would refuse the document for it.
func homepage(s string) string {
	if uri := location(s); uri != noAssertion {
		return uri
	}
	return ""
}
