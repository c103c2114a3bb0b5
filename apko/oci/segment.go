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

	Table Blob `json:",omitzero"` // of an eStargz layer's segments: what lies where
}

// A Blob is content in the store. Its CRC-32C guards every reading: it costs next to nothing, where the SHA-256 by which
// the store names the content would cost as much again as the digest that the reading is for.
type Blob struct {
	cas.Digest
	CRC uint32
}

// Compression is how the segments of a layer are compressed.
type Compression string

// Gzip is what every client reads; zstd is smaller and faster to unpack, and asks for clients of the last years. EStargz is
// gzip that some clients need not pull to start a container.
const (
	Gzip    Compression = "" // the default
	Zstd    Compression = "zstd"
	EStargz Compression = "estargz"

	uncompressed Compression = "none" // some base images
)

// ParseCompression reads "gzip", "zstd" or "estargz".
func ParseCompression(s string) (Compression, error) {
	switch s {
	case "gzip":
		return Gzip, nil
	case "zstd":
		return Zstd, nil
	case "estargz":
		return EStargz, nil
	}
	return "", fmt.Errorf("compression %q: want gzip, zstd or estargz", s)
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
	return gzip.NewWriterLevel(w, gzipLevel)
}

const gzipLevel = 6

// WriteSegment stores what write writes: whole tar entries, without an end of the archive.
func WriteSegment(ctx context.Context, store cas.Store, c Compression, write func(io.Writer) error) (Segment, error) {
	if c == EStargz {
		return writeChunked(ctx, store, write)
	}
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
	return errors.Join(writeBuffered(io.MultiWriter(plain, zw), write), zw.Close(), out.Flush())
}

func writeBuffered(w io.Writer, write func(io.Writer) error) error {
	buffered := bufio.NewWriterSize(w, 256<<10)
	if err := errors.Join(write(buffered), buffered.Flush()); err != nil {
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

// storeBlob stores bytes that are at hand.
func storeBlob(store cas.Store, content []byte) (Blob, error) {
	d, err := store.PutBytes(content)
	crc := newCRC()
	crc.Write(content)
	return Blob{Digest: d, CRC: crc.Sum32()}, err
}

// Result is the segment as a store remembers it, and RecallSegment reads it.
func (s Segment) Result() *cas.Result {
	r := &cas.Result{Metadata: make(map[string]string)}
	for _, f := range s.forms() {
		if *f.blob != (Blob{}) {
			r.Outputs = append(r.Outputs, cas.Output{Name: f.name, Digest: f.blob.Digest})
			r.Metadata[f.name+" crc"] = strconv.FormatUint(uint64(f.blob.CRC), 16)
		}
	}
	return r
}

type form struct {
	name string
	blob *Blob
}

func (s *Segment) forms() []form {
	return []form{{"plain", &s.Plain}, {"compressed", &s.Compressed}, {"places", &s.Table}}
}

// RecallSegment is the segment of a result that has at least what Segment.Result has.
func RecallSegment(r *cas.Result) (Segment, error) {
	var s Segment
	for _, f := range s.forms() {
		d, ok := r.Output(f.name)
		if !ok && f.blob == &s.Table {
			continue
		}
		crc, err := strconv.ParseUint(r.Metadata[f.name+" crc"], 16, 32)
		if !ok || err != nil {
			return s, fmt.Errorf("the stored segment has no %s form", f.name)
		}
		*f.blob = Blob{Digest: d, CRC: uint32(crc)}
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
