package stage0

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// A converter writes Debian packages as apk packages.
type converter struct {
	spec    *Spec
	suite   string
	closure *closure
	dir     string // for the packages
	signer  apk.Signer
}

func (x *converter) convert(ctx context.Context, d *deb) (*apk.Package, error) {
	p, err := x.describe(d)
	if err != nil {
		return nil, err
	}
	content, err := newSpool(x.dir)
	if err != nil {
		return nil, err
	}
	defer content.Close()
	tree, err := x.tree(ctx, d, content)
	if err != nil {
		return nil, err
	}
	return x.write(p, tree)
}

// describe says of a Debian package what apk wants to know.
func (x *converter) describe(d *deb) (*apk.Package, error) {
	names, err := x.closure.depends(d)
	if err != nil {
		return nil, err
	}
	summary, _, _ := strings.Cut(d.control["description"], "\n")
	origin, _, _ := strings.Cut(d.control["source"], " ")
	if origin == "" {
		origin = d.pin.Name
	}
	p := &apk.Package{
		Name: d.pin.Name, Version: apkVersion(d.pin.Version), Arch: Arch, Origin: origin,
		Description: fmt.Sprintf("%s (Debian %s %s)", summary, d.pin.Name, d.pin.Version),
		URL:         d.control["homepage"], License: "Debian",
		Depends: []apk.Dependency{{Name: baseName}},
	}
	for _, name := range names {
		p.Depends = append(p.Depends, apk.Dependency{Name: name})
	}
	for _, name := range slices.Sorted(slices.Values(d.provides)) {
		if x.closure.providers[name] == d.pin.Name && name != d.pin.Name {
			p.Provides = append(p.Provides, apk.Dependency{Name: name})
		}
	}
	p.Provides = slices.CompactFunc(p.Provides, func(a, b apk.Dependency) bool { return a.Name == b.Name })
	return p, nil
}

// tree reads the files of a package that are converted, and makes the changes
// that the spec says.
func (x *converter) tree(ctx context.Context, d *deb, content *spool) (*filetree.Tree, error) {
	f, err := os.Open(d.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	member, err := findMember(f, "data.tar")
	if err != nil {
		return nil, err
	}
	z, err := source.Decompress(ctx, member)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	change, _ := x.spec.Packages.Lookup(d.pin.Name)
	t, err := readTree(z, content, change.Keep, func(name string) bool { return x.spec.keeps(change, name) })
	if err != nil {
		return nil, err
	}
	return t, change.apply(t)
}

// readTree reads a tar archive into a tree, file contents into the spool. Where
// only some files are kept it stops behind the last of them: the rest may be
// hundreds of megabytes.
func readTree(r io.Reader, content *spool, only []string, wanted func(string) bool) (*filetree.Tree, error) {
	t := filetree.New()
	tr := tar.NewReader(r)
	for found := 0; ; {
		if len(only) > 0 && found == len(only) {
			return t, nil
		}
		h, err := tr.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading data.tar: %w", err)
		}
		e, err := filetree.FromHeader(h)
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if isTop(e.Path) {
			continue
		}
		e.Path = merged(e.Path)
		if e.HardLink {
			e.Link = merged(e.Link)
		}
		if !wanted(e.Path) || e.Mode.IsDir() && !worthKeeping(e) {
			continue
		}
		e.UID, e.GID, e.User, e.Group = 0, 0, "", ""
		if e.IsRegular() {
			if e.Open, err = content.add(tr, e.Size); err != nil {
				return nil, fmt.Errorf("reading %s: %w", e.Path, err)
			}
		}
		if err := t.Put(*e); err != nil {
			return nil, err
		}
		if !e.Mode.IsDir() && slices.Contains(only, e.Path) {
			found++
		}
	}
}

// worthKeeping reports whether a directory says more than that files lie in it.
func worthKeeping(e *filetree.Entry) bool { return e.Mode != fs.ModeDir|0o755 || !below(e.Path, "usr") }

// top are the names that lead into usr on a system whose usr is merged.
var top = []string{"bin", "lib", "lib64", "sbin"}

func isTop(name string) bool { return slices.Contains(top, name) }

// merged returns where a file lies when usr is merged.
func merged(name string) string {
	if first, _, _ := strings.Cut(name, "/"); isTop(first) {
		return "usr/" + name
	}
	return name
}

// apply makes the difference to the tree of a package.
func (d Difference) apply(t *filetree.Tree) error {
	var newest time.Time
	for e := range t.All() {
		if e.ModTime.After(newest) {
			newest = e.ModTime
		}
	}
	if d.Unversioned != "" {
		if err := unversion(t, d.Unversioned, newest); err != nil {
			return err
		}
	}
	for _, link := range d.Links {
		e := filetree.Entry{Path: link.Key.Value, Mode: fs.ModeSymlink | 0o777, Link: link.Value, ModTime: newest}
		if err := t.Put(e); err != nil {
			return fmt.Errorf("%s: %w", link.Key.Pos, err)
		}
	}
	for _, join := range d.Join {
		body, err := joined(t, join.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", join.Key.Pos, err)
		}
		e := filetree.Entry{
			Path: join.Key.Value, Mode: 0o644, Size: int64(len(body)), ModTime: newest, Open: filetree.Bytes(body),
		}
		if err := t.Put(e); err != nil {
			return fmt.Errorf("%s: %w", join.Key.Pos, err)
		}
	}
	return nil
}

// unversion adds a link without the version to each program that has it.
func unversion(t *filetree.Tree, version string, modified time.Time) error {
	var links []filetree.Entry
	for e := range t.Children("usr/bin") {
		plain, ok := strings.CutSuffix(e.Path, version)
		if _, taken := t.Lookup(plain); ok && !taken {
			links = append(links, filetree.Entry{
				Path: plain, Mode: fs.ModeSymlink | 0o777, Link: path.Base(e.Path), ModTime: modified,
			})
		}
	}
	if len(links) == 0 {
		return fmt.Errorf("no program in usr/bin ends in %q", version)
	}
	for _, link := range links {
		if err := t.Put(link); err != nil {
			return err
		}
	}
	return nil
}

// joined returns the contents of the files that match the pattern, one behind another.
func joined(t *filetree.Tree, pattern string) ([]byte, error) {
	var body []byte
	for e := range t.All() {
		if ok, err := path.Match(pattern, e.Path); err != nil || !ok || !e.Mode.IsRegular() {
			continue
		}
		data, err := t.ReadFile(e.Path)
		if err != nil {
			return nil, err
		}
		body = append(body, data...)
		if len(data) > 0 && data[len(data)-1] != '\n' {
			body = append(body, '\n')
		}
	}
	if body == nil {
		return nil, fmt.Errorf("no file matches %q", pattern)
	}
	return body, nil
}

// write writes the package file and returns what an index says of it. Build
// time is that of the newest file, so that equal input makes equal bytes.
func (x *converter) write(p *apk.Package, t *filetree.Tree) (*apk.Package, error) {
	data, err := newSpool(x.dir)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	info, err := apk.WriteData(data, t)
	if err != nil {
		return nil, err
	}
	for e := range t.All() {
		p.BuildDate = max(p.BuildDate, e.ModTime.Unix())
	}
	p.InstalledSize, p.DataHash = info.InstalledSize, info.Hash
	err = create(filepath.Join(x.dir, p.FileName()), func(w io.Writer) error {
		n, err := x.assemble(w, p, data)
		p.Size = n
		return err
	})
	return p, err
}

// assemble writes signature, control and data section, and returns their size.
func (x *converter) assemble(w io.Writer, p *apk.Package, data *spool) (int64, error) {
	var control, signature strings.Builder
	modified := time.Unix(p.BuildDate, 0)
	sha1, sha256, err := apk.WriteControl(&control, p, nil, nil, modified)
	if err != nil {
		return 0, err
	}
	p.Checksum = sha1
	if err := apk.SignControl(&signature, x.signer, sha256[:], modified); err != nil {
		return 0, err
	}
	head, err := io.WriteString(w, signature.String()+control.String())
	if err != nil {
		return 0, err
	}
	rest, err := data.WriteTo(w)
	return int64(head) + rest, err
}

// A spool is a file without a name, to hold what is too large for memory.
type spool struct {
	file *os.File
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, ".spool-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{file: f}, nil
}

func (s *spool) Write(b []byte) (int, error) {
	n, err := s.file.WriteAt(b, s.size)
	s.size += int64(n)
	return n, err
}

// add takes n bytes in, and returns the function that opens them.
func (s *spool) add(r io.Reader, n int64) (func() (io.ReadCloser, error), error) {
	start := s.size
	if _, err := io.CopyN(s, r, n); err != nil {
		return nil, err
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(s.file, start, n)), nil }, nil
}

// WriteTo copies everything in the spool.
func (s *spool) WriteTo(w io.Writer) (int64, error) {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, s.file)
}

func (s *spool) Close() error { return s.file.Close() }
