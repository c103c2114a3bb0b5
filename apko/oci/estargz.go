package oci

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/cas"
	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// Layers that need not be pulled to be used
//
// An eStargz layer is an ordinary gzip layer of which single files can be read: the content of each begins a gzip member,
// and the last file of the archive, stargz.index.json, tells of every entry where in the compressed layer its content
// lies. A snapshotter that knows this mounts the layer at once and fetches files when they are opened; everybody else
// unpacks it as ever, and finds two more files in it. The layer's descriptor has the digest of the table, so that what is
// fetched piece by piece is still what the manifest says. The format is specified by containerd's stargz-snapshotter.
//
// It fits segments well. A segment's table counts from the segment's beginning, is made when the segment is, and is kept
// beside it; the table of a layer is those of its segments, moved to where these lie.

// chunkSize is how much of a large file is fetched, and verified, at once.
const chunkSize = 4 << 20

// writeChunked stores what write writes, as WriteSegment does, and the table.
func writeChunked(ctx context.Context, store cas.Store, write func(io.Writer) error) (s Segment, err error) {
	g, ctx := errgroup.WithContext(ctx)
	plain := putBlob(ctx, g, store, &s.Plain)
	compressed := putBlob(ctx, g, store, &s.Compressed)
	r, entries := io.Pipe()
	g.Go(func() error {
		err := writeBuffered(io.MultiWriter(plain, entries), write)
		plain.CloseWithError(err)
		entries.CloseWithError(err)
		return err
	})
	var table []*estargz.TOCEntry
	g.Go(func() (err error) {
		out := bufio.NewWriterSize(compressed, 256<<10)
		if table, err = chunk(out, r); err == nil {
			err = out.Flush()
		}
		r.CloseWithError(err)
		compressed.CloseWithError(err)
		return err
	})
	if err := g.Wait(); err != nil {
		return Segment{}, err
	}
	encoded, err := json.Marshal(table)
	if err != nil {
		return Segment{}, err
	}
	s.Table, err = storeBlob(store, encoded)
	return s, err
}

// chunk compresses tar entries so that the content of each file begins a member, and every so many bytes of it another.
func chunk(w io.Writer, entries io.Reader) ([]*estargz.TOCEntry, error) {
	m := &members{out: w}
	tr := tar.NewReader(io.TeeReader(entries, m)) // reads no further than it is asked for
	var table []*estargz.TOCEntry
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return table, m.end()
		}
		if err != nil {
			return nil, err
		}
		e, err := tableEntry(h)
		if err != nil {
			return nil, err
		}
		table = append(table, e)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		more, err := m.content(tr, e)
		if err != nil {
			return nil, err
		}
		table = append(table, more...)
	}
}

func tableEntry(h *tar.Header) (*estargz.TOCEntry, error) {
	kinds := map[byte]string{
		tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
		tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
	}
	kind, ok := kinds[h.Typeflag]
	if !ok || h.Name == estargz.TOCTarName {
		return nil, fmt.Errorf("%s: a lazily pulled layer cannot have it", h.Name)
	}
	e := &estargz.TOCEntry{
		Name: h.Name, Type: kind, Size: h.Size, ModTime3339: h.ModTime.UTC().Format(time.RFC3339), LinkName: h.Linkname,
		Mode: h.Mode, UID: h.Uid, GID: h.Gid, DevMajor: int(h.Devmajor), DevMinor: int(h.Devminor),
	}
	for name, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(name, "SCHILY.xattr."); ok {
			if e.Xattrs == nil {
				e.Xattrs = make(map[string][]byte)
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	return e, nil
}

// members is gzip members behind one another, and how many bytes they have.
type members struct {
	out  io.Writer
	n    int64
	zw   *gzip.Writer
	open bool
}

func (m *members) Write(p []byte) (n int, err error) {
	if m.zw == nil {
		if m.zw, err = gzip.NewWriterLevel(counted{m}, gzipLevel); err != nil {
			return 0, err
		}
	}
	if !m.open {
		m.zw.Reset(counted{m})
		m.open = true
	}
	return m.zw.Write(p)
}

// end finishes the member, if there is one; what is written next begins another.
func (m *members) end() error {
	if !m.open {
		return nil
	}
	m.open = false
	return m.zw.Close()
}

type counted struct{ *members }

func (c counted) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	c.n += int64(n)
	return n, err
}

// content reads the content of the file of an entry, and completes the entry; more are those of its further chunks.
func (m *members) content(r io.Reader, e *estargz.TOCEntry) (more []*estargz.TOCEntry, err error) {
	whole := sha256.New()
	for at := int64(0); at < e.Size; at += chunkSize {
		if err := m.end(); err != nil {
			return nil, err
		}
		c := e
		if at > 0 {
			c = &estargz.TOCEntry{Name: e.Name, Type: "chunk", ChunkOffset: at}
			more = append(more, c)
		}
		c.Offset = m.n
		size := min(chunkSize, e.Size-at)
		if size == chunkSize {
			c.ChunkSize = size // none goes to the end of the file
		}
		part := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(whole, part), r, size); err != nil {
			return nil, err
		}
		c.ChunkDigest = digest(part.Sum(nil))
	}
	e.Digest = digest(whole.Sum(nil))
	return more, nil
}

// lazy completes the segments of an eStargz layer with what such a layer begins and ends with.
func lazy(ctx context.Context, store cas.Store, segments []Segment) (whole []Segment, annotations map[string]string, err error) {
	// This file says that nothing in the layer is worth fetching before it is asked for.
	first, err := writeChunked(ctx, store, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		h := &tar.Header{Typeflag: tar.TypeReg, Name: estargz.NoPrefetchLandmark, Size: 1, Mode: 0o644, ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write([]byte{0xf}); err != nil {
			return err
		}
		return tw.Flush()
	})
	if err != nil {
		return nil, nil, err
	}
	whole = append([]Segment{first}, segments...)
	table, end, plain := &estargz.JTOC{Version: 1}, int64(0), int64(0)
	for _, s := range whole {
		entries, err := s.entries(store)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			if e.ChunkDigest != "" {
				e.Offset += end
			}
		}
		table.Entries = append(table.Entries, entries...)
		end, plain = end+s.Compressed.Size, plain+s.Plain.Size
	}
	last, digest, err := writeTable(store, table, end)
	return append(whole, last), map[string]string{
		estargz.TOCJSONDigestAnnotation:         digest,
		estargz.StoreUncompressedSizeAnnotation: strconv.FormatInt(plain+last.Plain.Size, 10),
	}, err
}

// entries is the table of the segment.
func (s Segment) entries(store cas.Store) ([]*estargz.TOCEntry, error) {
	var encoded bytes.Buffer
	if err := copyBlob(&encoded, store, s.Table); err != nil {
		return nil, err
	}
	var list []*estargz.TOCEntry
	return list, json.Unmarshal(encoded.Bytes(), &list)
}

// writeTable stores the segment that ends a layer: the table, the end of the archive and, last, the place of the table.
func writeTable(store cas.Store, table *estargz.JTOC, at int64) (s Segment, digest string, err error) {
	var compressed, plain bytes.Buffer
	sum, err := estargz.NewGzipCompressorWithLevel(gzipLevel).WriteTOCAndFooter(&compressed, at, table, nil)
	if err != nil {
		return s, "", err
	}
	if err := decompress(&plain, bytes.NewReader(compressed.Bytes()), Gzip); err != nil {
		return s, "", err
	}
	if s.Plain, err = storeBlob(store, plain.Bytes()); err != nil {
		return s, "", err
	}
	s.Compressed, err = storeBlob(store, compressed.Bytes())
	return s, sum.String(), err
}
