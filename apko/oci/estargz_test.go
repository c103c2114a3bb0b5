package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"distro.internal/shared/cas"
	"github.com/containerd/stargz-snapshotter/estargz"
	ocidigest "github.com/opencontainers/go-digest"
)

// TestEStargz reads a layer of two segments with the library that snapshotters read it with.
func TestEStargz(t *testing.T) {
	store := cas.Store{Dir: t.TempDir()}
	big := bytes.Repeat([]byte("0123456789abcdef"), (2*chunkSize+4096)/16)
	content := map[string]string{"usr/bin/big": string(big), "usr/bin/small": "small", "etc/empty": "", "etc/conf": "conf"}
	first := tarSegment(t, store, []tar.Header{
		{Typeflag: tar.TypeReg, Name: "usr/bin/big", Mode: 0o4755, Uid: 7, ModTime: time.Unix(1500000000, 0), PAXRecords: map[string]string{"SCHILY.xattr.user.note": "hello"}},
		{Typeflag: tar.TypeReg, Name: "usr/bin/small", Mode: 0o644},
		{Typeflag: tar.TypeLink, Name: "usr/bin/other", Linkname: "usr/bin/small", Mode: 0o644},
		{Typeflag: tar.TypeSymlink, Name: "usr/bin/" + strings.Repeat("long", 40), Linkname: "small", Mode: 0o777},
	}, content)
	second := tarSegment(t, store, []tar.Header{
		{Typeflag: tar.TypeReg, Name: "etc/empty", Mode: 0o600},
		{Typeflag: tar.TypeReg, Name: "etc/conf", Mode: 0o640, Gid: 8},
		{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o750, Gid: 9},
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "usr/bin/", Mode: 0o711},
	}, content)
	layer, err := NewLayer(t.Context(), store, EStargz, []Segment{first, second})
	if err != nil {
		t.Fatal(err)
	}
	var blob bytes.Buffer
	if _, err := layer.WriteTo(&blob); err != nil {
		t.Fatal(err)
	}
	if digestOf(blob.Bytes()) != layer.Digest || int64(blob.Len()) != layer.Size {
		t.Errorf("the layer is %s, %d bytes, not %s, %d", digestOf(blob.Bytes()), blob.Len(), layer.Digest, layer.Size)
	}

	r, err := estargz.Open(io.NewSectionReader(bytes.NewReader(blob.Bytes()), 0, int64(blob.Len())))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := r.VerifyTOC(ocidigest.Digest(layer.Annotations[estargz.TOCJSONDigestAnnotation]))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range content {
		if got := readVerified(t, r, verifier, name); got != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	if e, ok := r.Lookup("usr/bin/other"); !ok || e.Name != "usr/bin/small" {
		t.Errorf("the hard link leads to %v", e)
	}
	e, ok := r.Lookup("usr/bin/big")
	if !ok || e.Stat().Mode().String() != "urwxr-xr-x" || e.UID != 7 || string(e.Xattrs["user.note"]) != "hello" || e.ModTime().Unix() != 1500000000 {
		t.Errorf("big is %+v", e)
	}
	if e, ok := r.Lookup("etc"); !ok || e.GID != 9 || e.Stat().Mode().Perm() != 0o750 {
		t.Errorf("etc is %+v", e)
	}
	if _, ok := r.Lookup(estargz.NoPrefetchLandmark); !ok {
		t.Error("there is no landmark")
	}
	asArchive(t, layer, &blob)
}

// asArchive reads the layer as those do who know nothing of tables.
func asArchive(t *testing.T, layer *Layer, blob io.Reader) {
	t.Helper()
	zr, err := gzip.NewReader(blob)
	if err != nil {
		t.Fatal(err)
	}
	sum, n := sha256.New(), new(bytes.Buffer)
	tr := tar.NewReader(io.TeeReader(zr, io.MultiWriter(sum, n)))
	var names []string
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if _, err := io.Copy(io.MultiWriter(sum, n), zr); err != nil {
		t.Fatal(err)
	}
	if digest(sum.Sum(nil)) != layer.DiffID {
		t.Errorf("the content is %s, not %s", digest(sum.Sum(nil)), layer.DiffID)
	}
	if len(names) != 11 || names[10] != estargz.TOCTarName {
		t.Errorf("entries: %v", names)
	}
	if got, want := layer.Annotations[estargz.StoreUncompressedSizeAnnotation], n.Len(); got != strconv.Itoa(want) {
		t.Errorf("uncompressed size %s, want %d", got, want)
	}
}

// readVerified reads a file chunk by chunk, verifying each.
func readVerified(t *testing.T, r *estargz.Reader, v estargz.TOCEntryVerifier, name string) string {
	t.Helper()
	e, ok := r.Lookup(name)
	if !ok {
		t.Fatalf("%s is not there", name)
	}
	f, err := r.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for at := int64(0); at < e.Size; {
		c, ok := r.ChunkEntryForOffset(name, at)
		if !ok {
			t.Fatalf("%s has no chunk at %d", name, at)
		}
		content := make([]byte, c.ChunkSize)
		if _, err := f.ReadAt(content, at); err != nil {
			t.Fatal(err)
		}
		check, err := v.Verifier(c)
		if err != nil {
			t.Fatal(err)
		}
		if check.Write(content); !check.Verified() {
			t.Errorf("%s: the chunk at %d is another", name, at)
		}
		all.Write(content)
		at += c.ChunkSize
	}
	return all.String()
}

func tarSegment(t *testing.T, store cas.Store, headers []tar.Header, content map[string]string) Segment {
	t.Helper()
	s, err := WriteSegment(context.Background(), store, EStargz, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for _, h := range headers {
			if h.Typeflag == tar.TypeReg {
				h.Size = int64(len(content[h.Name]))
			}
			if err := tw.WriteHeader(&h); err != nil {
				return err
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := io.WriteString(tw, content[h.Name]); err != nil {
					return err
				}
			}
		}
		return tw.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
