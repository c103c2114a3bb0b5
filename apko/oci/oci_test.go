package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distro.internal/shared/cas"
	"github.com/google/go-cmp/cmp"
)

// segment stores one file.
func segment(t *testing.T, store cas.Store, name, content string) Segment {
	t.Helper()
	s, err := WriteSegment(t.Context(), store, Gzip, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		io.WriteString(tw, content)
		return tw.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLayer(t *testing.T) {
	store := cas.Store{Dir: t.TempDir()}
	segments := []Segment{segment(t, store, "a", "first"), segment(t, store, "b", strings.Repeat("second ", 1000))}
	made, err := NewLayer(t.Context(), store, Gzip, segments)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewLayer(t.Context(), store, Gzip, segments)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Descriptor(), again.Descriptor()); diff != "" || made.DiffID != again.DiffID {
		t.Errorf("remembered another layer (-made +remembered):\n%s", diff)
	}
	r := again.Open()
	defer r.Close()
	compressed, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(compressed); digest(sum[:]) != made.Digest || int64(len(compressed)) != made.Size {
		t.Errorf("the layer says %s, %d bytes; it is %s, %d bytes", made.Digest, made.Size, digest(sum[:]), len(compressed))
	}
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(plain); digest(sum[:]) != made.DiffID {
		t.Errorf("the layer says %s, its plain bytes are %s", made.DiffID, digest(sum[:]))
	}
	if !bytes.HasSuffix(plain, make([]byte, 1024)) {
		t.Error("the archive has no end")
	}
	var names []string
	for tr := tar.NewReader(bytes.NewReader(plain)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestLayerBeginning hashes layers that begin alike. That the large segment can be taken away shows that it is not read.
func TestLayerBeginning(t *testing.T) {
	store := cas.Store{Dir: t.TempDir()}
	large := segment(t, store, "large", strings.Repeat("large", stride/4))
	for i, name := range []string{"one", "two"} {
		l, err := NewLayer(t.Context(), store, Gzip, []Segment{large, segment(t, store, name, name)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			aside := filepath.Join(t.TempDir(), "aside")
			if err := os.Rename(store.Path(large.Plain.Digest), aside); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var compressed bytes.Buffer
		if _, err := l.WriteTo(&compressed); err != nil {
			t.Fatal(err)
		}
		if got := digestOf(compressed.Bytes()); got != l.Digest {
			t.Errorf("the layer says %s, it is %s", l.Digest, got)
		}
		z, err := gzip.NewReader(&compressed)
		if err != nil {
			t.Fatal(err)
		}
		plain := sha256.New()
		if _, err := io.Copy(plain, z); err != nil {
			t.Fatal(err)
		}
		if got := digest(plain.Sum(nil)); got != l.DiffID {
			t.Errorf("the layer says %s, its plain bytes are %s", l.DiffID, got)
		}
	}
}

// A failing writer leaves no segment and no goroutine waiting.
func TestSegmentFails(t *testing.T) {
	broken := errors.New("broken")
	_, err := WriteSegment(t.Context(), cas.Store{Dir: t.TempDir()}, Gzip, func(w io.Writer) error {
		w.Write(make([]byte, 1<<20))
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedSegment(t *testing.T) {
	store := cas.Store{Dir: t.TempDir()}
	s := segment(t, store, "a", "content")
	l, err := NewLayer(t.Context(), store, Gzip, []Segment{s})
	if err != nil {
		t.Fatal(err)
	}
	file := store.Path(s.Compressed.Digest)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := errors.Join(os.Remove(file), os.WriteFile(file, b, 0o644)); err != nil {
		t.Fatal(err)
	}
	x := indexOf(t, l)
	dir := filepath.Join(t.TempDir(), "layout")
	if err := x.WriteLayout(t.Context(), dir, Tag{"r", "t", "r:t"}); err == nil {
		t.Error("a damaged layer was written")
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
		t.Error("the layout shows an image that is not whole")
	}
}

func indexOf(t *testing.T, layers ...*Layer) *Index {
	t.Helper()
	m, err := NewImage("armv7", Config{
		Created: time.Unix(0, 0), Author: "apko", User: "1:2", Env: []string{"A=<b>"}, Cmd: []string{"x"},
		Volumes: []string{"/b", "/a"}, Annotations: map[string]string{"z": "1", "a": "2"},
	}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	x, err := NewIndex(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestConfig(t *testing.T) {
	x := indexOf(t)
	want := `{"created":"1970-01-01T00:00:00Z","author":"apko","architecture":"arm","variant":"v7","os":"linux",` +
		`"config":{"User":"1:2","Env":["A=<b>"],"Cmd":["x"],"Volumes":{"/a":{},"/b":{}},"Labels":{"a":"2","z":"1"}},` +
		`"rootfs":{"type":"layers","diff_ids":[]}}`
	if diff := cmp.Diff(want, string(x.Images[0].config)); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if got := x.Images[0].Manifest.Platform.String(); got != "armv7" {
		t.Errorf("platform %s", got)
	}
}

// A canceled context ends the writing and leaves the layout as it was.
func TestWriteLayoutInterrupted(t *testing.T) {
	store := cas.Store{Dir: t.TempDir()}
	dir := filepath.Join(t.TempDir(), "layout")
	tag := Tag{"r", "t", "r:t"}
	write := func(ctx context.Context, content string) error {
		l, err := NewLayer(t.Context(), store, Gzip, []Segment{segment(t, store, "a", content)})
		if err != nil {
			t.Fatal(err)
		}
		return indexOf(t, l).WriteLayout(ctx, dir, tag)
	}
	if err := write(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "index.json"))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := write(canceled, "two"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "index.json"))
	if !bytes.Equal(before, after) {
		t.Error("the layout was changed")
	}
	var top index
	if err := json.Unmarshal(after, &top); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs/sha256", strings.TrimPrefix(top.Manifests[0].Digest, "sha256:"))); err != nil {
		t.Error(err)
	}
}

func TestParseTag(t *testing.T) {
	for _, test := range []struct{ written, repository, name, full string }{
		{"nginx", "nginx", "latest", "docker.io/library/nginx:latest"},
		{"nginx:1", "nginx", "1", "docker.io/library/nginx:1"},
		{"localhost:5000/a/b", "localhost:5000/a/b", "latest", "localhost:5000/a/b:latest"},
		{"localhost:5000/a/b:x", "localhost:5000/a/b", "x", "localhost:5000/a/b:x"},
	} {
		tag, err := ParseTag(test.written)
		if err != nil || tag != (Tag{test.repository, test.name, test.full}) {
			t.Errorf("ParseTag(%q) = %+v, %v", test.written, tag, err)
		}
	}
	for _, bad := range []string{"", "a:b:c", "UPPER/x:y", "x@sha256:00"} {
		if tag, err := ParseTag(bad); err == nil {
			t.Errorf("ParseTag(%q) = %+v", bad, tag)
		}
	}
}
