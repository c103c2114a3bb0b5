package source

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// A Package is what a lock file names and was fetched for it: a package of npm, a crate, a project of Python, a module of
// Go. It is a function of the sources: nothing tells of where this machine has fetched from.
type Package struct {
	Kind     string   `json:"kind"` // of the source that fetched it: recipe.SourceNPM and those like it
	Name     string   `json:"name"` // as the lock file spells it
	Version  string   `json:"version,omitempty"`
	URI      string   `json:"uri,omitempty"`      // where the lock file says that it is, or the git repository that it is in
	Commit   string   `json:"commit,omitempty"`   // of the git repository
	Registry string   `json:"registry,omitempty"` // URL, when it is not the one that the package manager knows by itself
	Digests  []string `json:"digests,omitempty"`  // "sha512:HEX" of each file that was fetched; of a module the hash in go.sum
}

// Is reports whether both are the same in all that is known of them.
func (p Package) Is(q Package) bool { return p.compare(q) == 0 }

func (p Package) compare(q Package) int {
	words := func(p Package) []string {
		return append([]string{p.Kind, p.Name, p.Version, p.URI, p.Commit, p.Registry}, p.Digests...)
	}
	return slices.Compare(words(p), words(q))
}

// fetched notes a package.
func (l *Layout) fetched(p Package) {
	p.URI, p.Registry = withoutUser(p.URI), withoutUser(p.Registry)
	l.Packages = append(l.Packages, p)
}

// settle brings the packages into their one order. The modules of a program are those that it has when all steps that
// change them are done.
func (l *Layout) settle() {
	for _, dir := range slices.Sorted(maps.Keys(l.modules)) {
		l.Packages = append(l.Packages, l.modules[dir].packages...)
	}
	slices.SortFunc(l.Packages, Package.compare)
	l.Packages = slices.CompactFunc(l.Packages, func(p, q Package) bool { return p.compare(q) == 0 })
}

// withoutUser is an address without what only its owner should know.
func withoutUser(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	u.User = nil
	return u.String()
}

func npmPackage(kind string, p lockfile.NPMPackage) Package {
	return Package{
		Kind: kind, Name: p.Name, Version: p.Version, URI: p.Resolved,
		Digests: []string{p.Algorithm + ":" + hex.EncodeToString(p.Digest)},
	}
}

// yarnPackage has the name of its file where the lock file says an address in place of a name.
func yarnPackage(p lockfile.YarnPackage) Package {
	made := Package{
		Kind: recipe.SourceYarn, Name: p.Name, Version: p.Version, URI: p.Resolved,
		Digests: []string{p.Algorithm + ":" + hex.EncodeToString(p.Digest)},
	}
	if strings.Contains(p.Name, "://") {
		made.Name = p.File
	}
	return made
}

func cratePackage(p lockfile.Crate) Package {
	made := Package{Kind: recipe.SourceCargo, Name: p.Name, Version: p.Version}
	if p.Checksum != "" {
		made.Digests = []string{"sha256:" + strings.ToLower(p.Checksum)}
	}
	kind, address, _ := strings.Cut(p.Source, "+")
	switch {
	case kind == "git":
		made.URI, made.Commit, _ = strings.Cut(address, "#")
		made.URI, _, _ = strings.Cut(made.URI, "?")
	case p.Source != defaultIndex:
		made.Registry = address
	}
	return made
}

// pipPackage is a requirement and the files that were fetched for it, among which pip chooses. A requirement that is an
// address may leave its name and version to that of the file.
func pipPackage(r lockfile.Requirement, files []distribution) Package {
	made := Package{Kind: recipe.SourcePip, Name: r.Name, Version: r.Version, URI: r.Address}
	for _, d := range files {
		made.Digests = append(made.Digests, d.Hash)
		if r.Version == "" {
			name, version := distributionName(d.File)
			made.Name, made.Version = cmp.Or(made.Name, name), version
		}
	}
	slices.Sort(made.Digests)
	return made
}

// distributionName reads the name and version off a wheel, NAME-VERSION-TAGS.whl, or an archive of sources,
// NAME-VERSION.tar.gz. Other files have a name that says nothing.
func distributionName(file string) (name, version string) {
	if wheel, ok := strings.CutSuffix(file, ".whl"); ok {
		name, wheel, _ = strings.Cut(wheel, "-")
		version, _, _ = strings.Cut(wheel, "-")
		return name, version
	}
	for _, end := range []string{".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz"} {
		stem, ok := strings.CutSuffix(file, end)
		if i := strings.LastIndexByte(stem, '-'); ok && i > 0 && i+1 < len(stem) && '0' <= stem[i+1] && stem[i+1] <= '9' {
			return stem[:i], stem[i+1:]
		}
	}
	return file, ""
}

// ModulePackage is a Go module. It takes the hash in go.sum, which is a SHA-256 of the names and digests of the module's files.
func ModulePackage(path, version, sum string) Package {
	made := Package{Kind: recipe.SourceGoMod, Name: path, Version: version}
	if text, ok := strings.CutPrefix(sum, "h1:"); ok {
		if hash, err := base64.StdEncoding.DecodeString(text); err == nil {
			made.Digests = []string{"sha256:" + hex.EncodeToString(hash)}
		}
	}
	return made
}
