package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"distro.internal/shared/cas"
	"golang.org/x/sync/errgroup"
)

// A Layer is segments behind one another and the end of the archive. It has no bytes of its own: they are put together
// when they are wanted, always the same.
type Layer struct {
	Digest  string // of the compressed bytes: "sha256:..."
	Size    int64  // of the compressed bytes
	DiffID  string // of the plain bytes
	Comment string // in the image's history

	Inherited bool `json:",omitempty"` // from a base image, whose history tells of it

	Compression Compression       `json:",omitempty"` // of all segments
	Annotations map[string]string `json:",omitempty"` // of its descriptor
	Segments    []Segment

	store cas.Store
}

// In is the layer with its segments in the store: what turns a description that was kept into a layer again.
func (l Layer) In(store cas.Store) *Layer {
	l.store = store
	return &l
}

// Descriptor names the layer in a manifest.
func (l *Layer) Descriptor() Descriptor {
	return Descriptor{MediaType: l.Compression.mediaType(), Digest: l.Digest, Size: l.Size, Annotations: l.Annotations}
}

// LayerFormat changes when the bytes of a layer of the same segments do.
const LayerFormat = "1"

// NewLayer makes a layer of segments in the store. Its digests are remembered there by its description, the list of its
// segments, so that only the first making of a layer reads them; and of a layer that begins as an earlier one did only
// what comes after that is read.
func NewLayer(ctx context.Context, store cas.Store, c Compression, segments []Segment) (*Layer, error) {
	l := &Layer{store: store, Compression: c}
	if err := l.assemble(ctx, segments); err != nil {
		return nil, fmt.Errorf("making layer: %w", err)
	}
	key := cas.NewKey("oci layer")
	key.Add("format", LayerFormat)
	for _, s := range l.Segments {
		key.Add("segment", s.Plain.String()+" "+s.Compressed.String())
	}
	result, err := store.Result(key.Digest())
	if err == nil {
		return l, l.recall(result.Metadata)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making layer: %w", err)
	}
	if err := l.hash(ctx); err != nil {
		return nil, fmt.Errorf("making layer: %w", err)
	}
	return l, store.SetResult(key.Digest(), &cas.Result{Metadata: map[string]string{
		"digest": l.Digest, "size": strconv.FormatInt(l.Size, 10), "diffID": l.DiffID,
	}})
}

// assemble makes an archive of segments.
func (l *Layer) assemble(ctx context.Context, segments []Segment) (err error) {
	if l.Compression == EStargz {
		l.Segments, l.Annotations, err = lazy(ctx, l.store, segments)
		return err
	}
	end, err := WriteSegment(ctx, l.store, l.Compression, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 1024))
		return err
	})
	l.Segments = append(segments[:len(segments):len(segments)], end)
	return err
}

func (l *Layer) recall(metadata map[string]string) (err error) {
	l.Digest, l.DiffID = metadata["digest"], metadata["diffID"]
	l.Size, err = strconv.ParseInt(metadata["size"], 10, 64)
	return err
}

// hash reads the layer once in each form.
func (l *Layer) hash(ctx context.Context) error {
	var plain, compressed []Blob
	for _, s := range l.Segments {
		plain, compressed = append(plain, s.Plain), append(compressed, s.Compressed)
		l.Size += s.Compressed.Size
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { l.DiffID, err = hashBlobs(ctx, l.store, plain); return err })
	g.Go(func() (err error) { l.Digest, err = hashBlobs(ctx, l.store, compressed); return err })
	return g.Wait()
}

// WriteTo writes the compressed bytes.
func (l *Layer) WriteTo(w io.Writer) (n int64, err error) {
	for _, s := range l.Segments {
		if err := copyBlob(w, l.store, s.Compressed); err != nil {
			if errors.Is(err, ErrDamaged) {
				l.sweep()
			}
			return n, fmt.Errorf("writing layer %s: %w", l.Digest, err)
		}
		n += s.Compressed.Size
	}
	return n, nil
}

// sweep removes all segments that are damaged: where one is, there may be more.
func (l *Layer) sweep() {
	for _, s := range l.Segments {
		for _, b := range []Blob{s.Plain, s.Compressed} {
			_ = copyBlob(io.Discard, l.store, b)
		}
	}
}

// Open returns the compressed bytes.
func (l *Layer) Open() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := l.WriteTo(w)
		w.CloseWithError(err)
	}()
	return r
}

// WritePlain writes the bytes that the DiffID names: a tar.
func (l *Layer) WritePlain(w io.Writer) error {
	for _, s := range l.Segments {
		if err := copyBlob(w, l.store, s.Plain); err != nil {
			return fmt.Errorf("writing layer %s: %w", l.DiffID, err)
		}
	}
	return nil
}
