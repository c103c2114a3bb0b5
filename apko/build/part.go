package build

import (
	"archive/tar"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/filetree"
	"distro.internal/shared/ldcache"
	"distro.internal/shared/rootfs"
)

// A part is a package as images use it: its files written and compressed once, as a segment of a layer, and a table of
// what is in it. Parts are kept in the store by the checksum of the package, so an image that has a package of which
// the part is known reads neither the package file nor any of the files in it.
type part struct {
	table
	segment     oci.Segment
	store       cas.Store
	compression oci.Compression
	file        func(context.Context) (string, error) // the package file, fetched when it is needed

	limits apk.Limits // of reading the package file

	inherited bool // of a base image: it has only a table, and its files are those of that image's tree
}

// partFormat changes when the segment or the table made of the same package do.
const partFormat = "2"

// part returns the part of a package of the lock.
func (b *Builder) part(ctx context.Context, p image.LockPackage, file func(context.Context) (string, error)) (*part, error) {
	key := cas.NewKey("apko part")
	key.Add("format", partFormat)
	key.Add("package", p.Name+"="+string(p.Version))
	key.Add("checksum", p.Checksum)
	key.Add("compression", string(b.Compression))
	blank := part{store: b.CAS.Store, compression: b.Compression, file: file, limits: b.Client.Limits.Limits}
	t := blank
	result, err := b.CAS.Result(key.Digest())
	if err == nil {
		err = t.recall(result)
	}
	if gone(err) {
		t = blank
		err = t.make(ctx, p, key.Digest())
	}
	if err != nil {
		return nil, fmt.Errorf("package %s-%s: %w", p.Name, p.Version, err)
	}
	for i := range t.Files {
		if t.Files[i].IsRegular() {
			t.Files[i].Open = t.open(i)
		}
	}
	return &t, t.agrees(p)
}

// gone reports whether something stored is not there, or not any more what it was.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, cas.ErrCorrupt)
}

func (t *part) recall(r *cas.Result) error {
	d, ok := r.Output("table")
	if !ok {
		return errors.New("the stored part has no table")
	}
	encoded, err := t.store.ReadAll(d)
	if err != nil {
		return err
	}
	if err := t.decode(encoded); err != nil {
		return fmt.Errorf("stored table: %w", err)
	}
	t.segment, err = oci.RecallSegment(r)
	return err
}

// make writes the segment and the table.
func (t *part) make(ctx context.Context, p image.LockPackage, key cas.Digest) error {
	file, err := t.file(ctx)
	if err != nil {
		return err
	}
	if t.segment, err = t.write(ctx, file, p.Checksum, nil); err != nil {
		return err
	}
	if err := errors.Join(t.table.sections(file), t.readLibraries()); err != nil {
		return err
	}
	encoded, err := t.table.encode()
	if err != nil {
		return err
	}
	stored, err := t.store.PutBytes(encoded)
	if err != nil {
		return err
	}
	r := t.segment.Result()
	r.Outputs = append(r.Outputs, cas.Output{Name: "table", Digest: stored})
	return t.store.SetResult(key, r)
}

// readLibraries looks into the files that may be shared libraries, in the plain segment.
func (t *part) readLibraries() error {
	f, err := os.Open(t.store.Path(t.segment.Plain.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	t.Libraries = make(map[int]ldcache.Library)
	for i := range t.Files {
		if e := &t.Files[i]; !e.IsRegular() || !ldcache.IsLibraryName(path.Base(e.Path)) {
			continue
		}
		l, err := ldcache.ReadLibrary(io.NewSectionReader(f, t.Offsets[i], t.Files[i].Size))
		if errors.Is(err, ldcache.ErrNoLibrary) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.Files[i].Path, err)
		}
		t.Libraries[i] = l
	}
	return nil
}

// write reads the package file, verifying it, and stores its files as a segment. With a nil plan all files are taken as
// they are and the table is filled; otherwise only the files that the plan has a name for, under that name.
func (t *part) write(ctx context.Context, file, checksum string, plan map[string]string) (oci.Segment, error) {
	f, err := os.Open(file)
	if err != nil {
		return oci.Segment{}, err
	}
	defer f.Close()
	sum, err := apk.ParseChecksum(checksum)
	if err != nil {
		return oci.Segment{}, err
	}
	r, err := apk.Open(f, apk.Verify{Checksum: &sum, Limits: t.limits})
	if err != nil {
		return oci.Segment{}, err
	}
	if plan == nil {
		t.Package, t.Scripts = r.Package, r.Scripts
	}
	return oci.WriteSegment(ctx, t.store, t.compression, func(w io.Writer) error {
		at := &offset{w: w}
		tw := tar.NewWriter(at)
		for {
			e, content, err := r.Next()
			if err == io.EOF {
				return tw.Flush() // no Close: the archive goes on in the next segment
			}
			if err != nil {
				return err
			}
			if err := t.writeEntry(tw, at, e, content, r.Sum(), plan); err != nil {
				return err
			}
		}
	})
}

func (t *part) writeEntry(tw *tar.Writer, at *offset, e *filetree.Entry, content io.Reader, sum apk.Checksum, plan map[string]string) error {
	if strings.HasPrefix(e.Path[strings.LastIndexByte(e.Path, '/')+1:], ".wh.") {
		return fmt.Errorf("file %s: in a layer its name would remove another file", e.Path)
	}
	e.User, e.Group = "", "" // the numbers say it, and mean the same everywhere
	if plan != nil {
		name, ok := plan[e.Path]
		if !ok {
			return nil
		}
		e.Path = name
		if e.HardLink {
			e.Link = plan[e.Link]
		}
	}
	start := int64(0)
	if !e.Mode.IsDir() {
		if e.IsRegular() {
			e.Open = func() (io.ReadCloser, error) { start = at.n; return io.NopCloser(content), nil }
		}
		if err := filetree.WriteEntry(tw, e, nil); err != nil {
			return err
		}
	}
	if plan == nil {
		e.Open = nil
		t.Files = append(t.Files, rootfs.File{Entry: *e, Sum: sum})
		t.Offsets = append(t.Offsets, start)
	}
	return nil
}

// offset counts what is written.
type offset struct {
	w io.Writer
	n int64
}

func (o *offset) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.n += int64(n)
	return n, err
}

// variant is the segment of the part with only the files that the plan names, under the names it gives. It is what
// recompressing the whole package costs, so it is remembered too.
func (t *part) variant(ctx context.Context, plan map[string]string, moved []string) (oci.Segment, error) {
	key := cas.NewKey("apko part variant")
	key.Add("format", partFormat)
	key.Add("checksum", t.Package.Checksum.String())
	key.Add("compression", string(t.compression))
	for _, m := range moved {
		key.Add("moved", m)
	}
	result, err := t.store.Result(key.Digest())
	if err == nil {
		return oci.RecallSegment(result)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return oci.Segment{}, err
	}
	file, err := t.file(ctx)
	if err != nil {
		return oci.Segment{}, err
	}
	s, err := t.write(ctx, file, t.Package.Checksum.String(), plan)
	if err != nil {
		return oci.Segment{}, err
	}
	return s, t.store.SetResult(key.Digest(), s.Result())
}

// open returns the content of a file of the package, from the plain segment. It ends in an error when it is not what
// the package said.
func (t *part) open(file int) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, err := os.Open(t.store.Path(t.segment.Plain.Digest))
		if err != nil {
			return nil, err
		}
		p := &t.Files[file]
		return &checked{io.NewSectionReader(f, t.Offsets[file], p.Size), f, p.Path, p.Sum, sha1.New()}, nil
	}
}

// agrees compares the package with what the lock knows of its sections.
func (t *part) agrees(p image.LockPackage) error {
	for _, s := range []struct {
		name      string
		have, say image.LockSection
	}{{"signature", t.Signature, p.Signature}, {"control", t.Control, p.Control}, {"data", t.Data, p.Data}} {
		if s.say != (image.LockSection{}) && s.say != s.have {
			return fmt.Errorf("package %s-%s: its %s section is %s %s, the lock says %s %s",
				p.Name, p.Version, s.name, s.have.Range, s.have.Checksum, s.say.Range, s.say.Checksum)
		}
	}
	return nil
}

// checked compares a file's checksum at its end. A checksum that is not known is not compared.
type checked struct {
	io.Reader
	file *os.File
	path string
	want apk.Checksum
	hash hash.Hash
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.hash.Write(p[:n])
	if err == io.EOF && !c.want.IsZero() && apk.Checksum(c.hash.Sum(nil)) != c.want {
		os.Remove(c.file.Name())
		err = fmt.Errorf("reading %s: %w", c.path, oci.ErrDamaged)
	}
	return n, err
}

func (c *checked) Close() error { return c.file.Close() }
