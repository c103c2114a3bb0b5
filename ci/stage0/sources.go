package stage0

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/melange/source"
	"distro.internal/shared/document"
)

// Mirrors lists upstream sources that Debian's archive has too, most of them
// byte for byte. Whoever can reach a Debian mirror can build with it, and goes
// on building when an upstream moves its files.
type Mirrors struct {
	Suites  []string // of Debian, for LookupSources
	Sources []MirroredSource
}

// A MirroredSource is one file that upstream and Debian have.
type MirroredSource struct {
	URI    string // where recipes say it is
	SHA256 string `yaml:"sha256"` // hex
	Debian string // path of the file in the archive; the folder is that of the source package
}

// ParseMirrors reads Mirrors; file names it in errors.
func ParseMirrors(file string, data []byte) (*Mirrors, error) {
	doc, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	var written struct {
		Suites  []string
		Sources []struct {
			URI, Debian document.String
			SHA256      document.String `yaml:"sha256"`
		}
	}
	if err := doc.Decode(&written); err != nil {
		return nil, err
	}
	m := &Mirrors{Suites: written.Suites}
	var errs document.ErrorList
	for _, s := range written.Sources {
		if !isSHA256(s.SHA256.Value) {
			errs.Add(s.SHA256.Pos, "", "%q is no SHA-256", s.SHA256.Value)
		}
		if !isPoolPath(s.Debian.Value) {
			errs.Add(s.Debian.Pos, "", "%q is no path in the archive", s.Debian.Value)
		}
		m.Sources = append(m.Sources, MirroredSource{URI: s.URI.Value, SHA256: s.SHA256.Value, Debian: s.Debian.Value})
	}
	return m, errs.Err()
}

// lookup finds a wanted file; by where it is when the recipe has another digest of it.
func (m *Mirrors) lookup(want source.Want) (MirroredSource, bool) {
	i := slices.IndexFunc(m.Sources, func(s MirroredSource) bool {
		if want.SHA256 != "" {
			return s.SHA256 == strings.ToLower(want.SHA256)
		}
		return s.URI == want.URI
	})
	if i < 0 {
		return MirroredSource{}, false
	}
	return m.Sources[i], true
}

// An absence is an fs.ErrNotExist that says why.
type absence string

func (a absence) Error() string        { return string(a) }
func (a absence) Is(target error) bool { return target == fs.ErrNotExist }

// unlisted is why a file is not looked for in the archive: perhaps only for a digest that was copied wrongly.
func (m *Mirrors) unlisted(want source.Want) error {
	for _, s := range m.Sources {
		if s.URI == want.URI && want.URI != "" {
			return absence("the mirrors' list has it with another SHA-256: " + s.SHA256)
		}
	}
	return fs.ErrNotExist
}

// A DebianMirror is Debian's archive as a place to get sources from.
type DebianMirror struct {
	Mirrors *Mirrors
	Apt     Apt
}

func (m DebianMirror) String() string { return "Debian" }

// Fetch gets a listed source through apt. A machine without apt, and an archive
// that has the file no more, do not have it.
func (m DebianMirror) Fetch(ctx context.Context, want source.Want, w io.Writer) error {
	s, ok := m.Mirrors.lookup(want)
	if !ok {
		return m.Mirrors.unlisted(want)
	}
	dir, err := os.MkdirTemp("", "source-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	absent, err := m.Apt.fetch(ctx, []wanted{{path: s.Debian, sha256: s.SHA256}}, dir, func(int64, int64) {})
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return absence("Debian's archive may have it, and there is no apt here to ask it")
	case len(absent) > 0:
		return absence(fmt.Sprintf("Debian's archive has no %s any more, where the mirrors' list has it", s.Debian))
	}
	if err != nil {
		return fmt.Errorf("from Debian's archive: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, s.SHA256))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// A SourceFile is a file of a Debian source package.
type SourceFile struct {
	Path   string // in the archive
	Size   int64  // bytes
	SHA256 string // hex
}

// Package is the source package that the file is of.
func (f SourceFile) Package() string { return path.Base(path.Dir(f.Path)) }

// LookupSources asks apt for what upstream files Debian has of the source
// packages, in each of the suites; dir is for its lists. It is how entries of
// Mirrors are found. Debian's own changes and signatures are left out.
func LookupSources(ctx context.Context, a Apt, dir string, suites []string, names ...string) ([]SourceFile, error) {
	var all []SourceFile
	unknown := make(map[string]int) // suites that have not the package
	for _, suite := range suites {
		r, err := a.update(ctx, filepath.Join(dir, "source-"+suite), "deb-src", suite)
		if err != nil {
			return nil, fmt.Errorf("looking up sources in Debian %s: %w", suite, err)
		}
		for _, name := range names {
			files, err := r.sourceFiles(ctx, name)
			if errors.Is(err, errNoSource) {
				unknown[name]++
			} else if err != nil {
				return nil, fmt.Errorf("looking up the source of %s in Debian %s: %w", name, suite, err)
			}
			all = append(all, files...)
		}
	}
	for _, name := range names {
		if unknown[name] == len(suites) {
			return nil, fmt.Errorf("looking up the source of %s in Debian %s: %w", name, strings.Join(suites, ", "), errNoSource)
		}
	}
	slices.SortFunc(all, func(a, b SourceFile) int { return strings.Compare(a.Path, b.Path) })
	return slices.Compact(all), nil
}

var errNoSource = errors.New("there is no source package of this name")

func (r *root) sourceFiles(ctx context.Context, name string) ([]SourceFile, error) {
	out, err := r.run(ctx, "apt-get", "--print-uris", "-qq", "--only-source", "source", name)
	if err != nil {
		if strings.Contains(err.Error(), "Unable to find a source package for "+name) {
			err = errNoSource
		}
		return nil, err
	}
	var files []SourceFile
	for line := range strings.Lines(string(out)) {
		f, err := r.parseFile(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
		if isUpstream(f.path) {
			files = append(files, SourceFile{Path: f.path, Size: f.size, SHA256: f.sha256})
		}
	}
	return files, nil
}

// isUpstream tells upstream's files of a source package from what Debian adds.
func isUpstream(name string) bool {
	return strings.Contains(name, ".tar.") && !strings.Contains(name, ".debian.tar.") && !strings.HasSuffix(name, ".asc")
}

// Outdated compares the list with what Debian has now, as LookupSources tells:
// files of the list that are gone, and files that the list has not.
func (m *Mirrors) Outdated(now []SourceFile) (gone []MirroredSource, added []SourceFile) {
	for _, s := range m.Sources {
		if !slices.ContainsFunc(now, func(f SourceFile) bool { return f.SHA256 == s.SHA256 && f.Path == s.Debian }) {
			gone = append(gone, s)
		}
	}
	for _, f := range now {
		if !slices.ContainsFunc(m.Sources, func(s MirroredSource) bool { return s.SHA256 == f.SHA256 }) {
			added = append(added, f)
		}
	}
	return gone, added
}

// Packages returns the Debian source packages that the list speaks of.
func (m *Mirrors) Packages() []string {
	var names []string
	for _, s := range m.Sources {
		names = append(names, filepath.Base(filepath.Dir(s.Debian)))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
