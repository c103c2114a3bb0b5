package oci

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"distro.internal/shared/cas"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// A Segment is a run of tar entries that was compressed once, as a gzip member or a zstd frame of its own. Because these
// may follow one another in a file, and tar entries in an archive, a layer is segments behind one another: nothing is
// compressed again when packages are combined anew.
//
// A segment is kept in both forms. The plain one is what a layer's DiffID is computed over, at the speed of hashing
// instead of that of inflating.
type Segment struct {
	Plain, Compressed Blob
}

// A Blob is content in the store. Its CRC-32C guards every reading: it costs next to nothing, where the SHA-256 by which
// the store names the content would cost as much again as the digest that the reading is for.
type Blob struct {
	cas.Digest
	CRC uint32
}

// Compression is how the segments of a layer are compressed.
type Compression string

// Gzip is what every client reads; zstd is smaller and faster to unpack, and asks for clients of the last years.
const (
	Gzip Compression = "" // the default
	Zstd Compression = "zstd"

	uncompressed Compression = "none" // some base images
)

// ParseCompression reads "gzip" or "zstd".
func ParseCompression(s string) (Compression, error) {
	switch s {
	case "gzip":
		return Gzip, nil
	case "zstd":
		return Zstd, nil
	}
	return "", fmt.Errorf("compression %q: want gzip or zstd", s)
}

// mediaType is that of a layer.
func (c Compression) mediaType() string {
	switch c {
	case Zstd:
		return MediaTypeLayerZstd
	case uncompressed:
		return mediaTypeLayerPlain
	}
	return MediaTypeLayer
}

// compressor writes one member or frame. Its effort is spent once per package and saved on each push and pull.
func (c Compression) compressor(w io.Writer) (io.WriteCloser, error) {
	if c == Zstd {
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	}
	return gzip.NewWriterLevel(w, 6)
}

// WriteSegment stores what write writes: whole tar entries, without an end of the archive.
func WriteSegment(ctx context.Context, store cas.Store, c Compression, write func(io.Writer) error) (Segment, error) {
	var s Segment
	g, ctx := errgroup.WithContext(ctx)
	plain := putBlob(ctx, g, store, &s.Plain)
	compressed := putBlob(ctx, g, store, &s.Compressed)
	g.Go(func() error {
		err := writeBoth(plain, compressed, c, write)
		plain.CloseWithError(err) // nil is the end of the content
		compressed.CloseWithError(err)
		return err
	})
	if err := g.Wait(); err != nil {
		return Segment{}, err
	}
	return s, nil
}

func writeBoth(plain, compressed io.Writer, c Compression, write func(io.Writer) error) error {
	out := bufio.NewWriterSize(compressed, 256<<10)
	zw, err := c.compressor(out)
	if err != nil {
		return err
	}
	both := bufio.NewWriterSize(io.MultiWriter(plain, zw), 256<<10)
	if err := errors.Join(write(both), both.Flush(), zw.Close(), out.Flush()); err != nil {
		return fmt.Errorf("writing segment: %w", err)
	}
	return nil
}

// putBlob stores in the background what is written to the pipe it returns.
func putBlob(ctx context.Context, g *errgroup.Group, store cas.Store, b *Blob) *io.PipeWriter {
	r, w := io.Pipe()
	g.Go(func() error {
		crc := newCRC()
		d, err := store.Put(ctx, io.TeeReader(r, crc))
		r.CloseWithError(err)
		*b = Blob{Digest: d, CRC: crc.Sum32()}
		return err
	})
	return w
}

// Result is the segment as a store remembers it, and RecallSegment reads it.
func (s Segment) Result() *cas.Result {
	return &cas.Result{
		Outputs: []cas.Output{{Name: "plain", Digest: s.Plain.Digest}, {Name: "compressed", Digest: s.Compressed.Digest}},
		Metadata: map[string]string{
			"plain crc": strconv.FormatUint(uint64(s.Plain.CRC), 16), "compressed crc": strconv.FormatUint(uint64(s.Compressed.CRC), 16),
		},
	}
}

// RecallSegment is the segment of a result that has at least what Segment.Result has.
func RecallSegment(r *cas.Result) (Segment, error) {
	var s Segment
	for name, blob := range map[string]*Blob{"plain": &s.Plain, "compressed": &s.Compressed} {
		d, ok := r.Output(name)
		crc, err := strconv.ParseUint(r.Metadata[name+" crc"], 16, 32)
		if !ok || err != nil {
			return s, fmt.Errorf("the stored segment has no %s form", name)
		}
		*blob = Blob{Digest: d, CRC: uint32(crc)}
	}
	return s, nil
}

// ErrDamaged is the cause when what is stored is not what was stored. It is gone then, and made anew by the next build.
var ErrDamaged = errors.New("the stored bytes were changed since, and are removed now")

func newCRC() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// copyBlob writes the blob to w, and fails when it is not what was stored.
func copyBlob(w io.Writer, store cas.Store, b Blob) error {
	f, err := os.Open(store.Path(b.Digest))
	if err != nil {
		return fmt.Errorf("reading segment: %w", err)
	}
	defer f.Close()
	crc := newCRC()
	n, err := io.CopyBuffer(writerOnly{io.MultiWriter(crc, w)}, readerOnly{f}, make([]byte, 512<<10))
	switch {
	case err != nil:
		return fmt.Errorf("reading segment %s: %w", b.Hash, err)
	case n != b.Size || crc.Sum32() != b.CRC:
		os.Remove(f.Name()) // so that the next build makes it anew
		return fmt.Errorf("reading segment %s: %w", b.Hash, ErrDamaged)
	}
	return nil
}

// These hide methods by which io.CopyBuffer would go past the buffer.
type (
	writerOnly struct{ io.Writer }
	readerOnly struct{ io.Reader }
)
