package source

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"distro.internal/melange/recipe"
)

func sum256(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
func sum512(b []byte) string { s := sha512.Sum512(b); return hex.EncodeToString(s[:]) }

// fileServer serves a body, with what it needs to misbehave.
type fileServer struct {
	*httptest.Server
	requests atomic.Int32
}

func serve(t *testing.T, handle func(n int32, w http.ResponseWriter, r *http.Request)) *fileServer {
	t.Helper()
	s := new(fileServer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(s.requests.Add(1), w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func testStore(t *testing.T) *Store {
	return &Store{Dir: t.TempDir(), Tries: 4, Backoff: time.Millisecond}
}

func fetched(uri string, body []byte) recipe.Source {
	return recipe.Source{Kind: recipe.SourceFetch, URI: uri, SHA256: sum256(body), Directory: "."}
}

func wantFile(t *testing.T, name string, body []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, body) {
		t.Errorf("%s holds %d bytes that are not those expected", name, len(got))
	}
}

func TestFileIsFetchedOnce(t *testing.T) {
	body := []byte("the source")
	srv := serve(t, func(_ int32, w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	s := testStore(t)
	for range 2 {
		name, err := s.File(t.Context(), fetched(srv.URL+"/x.tar", body))
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, name, body)
	}
	// Another recipe knows the file by another digest, from another place.
	src := recipe.Source{Kind: recipe.SourceFetch, URI: srv.URL + "/other", SHA512: sum512(body)}
	for range 2 {
		if _, err := s.File(t.Context(), src); err != nil {
			t.Fatal(err)
		}
	}
	if n := srv.requests.Load(); n != 2 {
		t.Errorf("%d requests, want one by each digest", n)
	}
}

func TestMismatchIsNotKept(t *testing.T) {
	srv := serve(t, func(_ int32, w http.ResponseWriter, _ *http.Request) { w.Write([]byte("tampered")) })
	s := testStore(t)
	want := []byte("the source")
	_, err := s.File(t.Context(), fetched(srv.URL, want))
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("error %v, want a mismatch", err)
	}
	if mismatch.Want != sum256(want) || mismatch.Got != sum256([]byte("tampered")) {
		t.Errorf("the error says %v", mismatch)
	}
	if n := srv.requests.Load(); n != 1 {
		t.Errorf("%d requests: what is complete and wrong does not get better by asking again", n)
	}
	noFiles(t, s.Dir)
}

func noFiles(t *testing.T, dir string) {
	t.Helper()
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			t.Errorf("%s is kept", name)
		}
		return nil
	})
}

// A connection that breaks is taken up again where it broke.
func TestResume(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	var ranges []string
	srv := serve(t, func(n int32, w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		switch n {
		case 1: // breaks off
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Write(body[:20000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		}
	})
	s := testStore(t)
	var last int64
	s.Progress = func(_ string, done, total int64) {
		if done < last || total != int64(len(body)) {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	}
	name, err := s.File(t.Context(), fetched(srv.URL, body))
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, name, body)
	if want := []string{"", "bytes=20000-", "bytes=20000-"}; fmt.Sprint(ranges) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
	if last != int64(len(body)) {
		t.Errorf("progress ended at %d of %d", last, len(body))
	}
}

// What is here may be the beginning of another file, or all of one.
func TestResumeOfAnotherFile(t *testing.T) {
	body := []byte("the source as it is now")
	for _, half := range []string{"the SOURCE", "a file that is longer than what the server has today"} {
		srv := serve(t, func(_ int32, w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		})
		s := testStore(t)
		src := fetched(srv.URL, body)
		part, err := s.partial(t.Context(), Want{SHA256: src.SHA256, URI: src.URI})
		if err != nil {
			t.Fatal(err)
		}
		part.WriteString(half)
		part.Close()
		name, err := s.File(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		wantFile(t, name, body)
	}
}

func TestServerErrors(t *testing.T) {
	for _, test := range []struct {
		status   int
		requests int32
	}{
		{http.StatusNotFound, 1}, {http.StatusForbidden, 1},
		{http.StatusBadGateway, 4}, {http.StatusTooManyRequests, 4},
	} {
		srv := serve(t, func(_ int32, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(test.status) })
		s := testStore(t)
		_, err := s.File(t.Context(), fetched(srv.URL, []byte("x")))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(test.status)) {
			t.Errorf("%d: error %v does not say so", test.status, err)
		}
		if n := srv.requests.Load(); n != test.requests {
			t.Errorf("%d: %d requests, want %d", test.status, n, test.requests)
		}
	}
}

type mirrorFunc func(want Want, w io.Writer) error

func (f mirrorFunc) Fetch(_ context.Context, want Want, w io.Writer) error { return f(want, w) }
func (mirrorFunc) String() string                                          { return "M" }

func TestMirrors(t *testing.T) {
	body := []byte("the source")
	origin := []string{}
	srv := serve(t, func(_ int32, w http.ResponseWriter, r *http.Request) {
		origin = append(origin, r.URL.Path)
		w.Write(body)
	})
	none := mirrorFunc(func(Want, io.Writer) error { return fs.ErrNotExist })
	lying := mirrorFunc(func(_ Want, w io.Writer) error { _, err := io.WriteString(w, "something else"); return err })
	broken := mirrorFunc(func(_ Want, w io.Writer) error { io.WriteString(w, "half"); return errors.New("no route") })
	good := mirrorFunc(func(want Want, w io.Writer) error {
		if want.SHA256 != sum256(body) {
			return fs.ErrNotExist
		}
		_, err := w.Write(body)
		return err
	})
	for _, test := range []struct {
		name    string
		mirrors []Mirror
		origin  int
	}{
		{"the first that has it", []Mirror{none, good, broken}, 0},
		{"a mirror that lies is passed by", []Mirror{lying, good}, 0},
		{"the origin comes last", []Mirror{none, lying, broken}, 1},
	} {
		origin = nil
		s := testStore(t)
		s.Mirrors = test.mirrors
		name, err := s.File(t.Context(), fetched(srv.URL, body))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		wantFile(t, name, body)
		if len(origin) != test.origin {
			t.Errorf("%s: the origin was asked %d times", test.name, len(origin))
		}
	}
	s := testStore(t)
	s.Mirrors = []Mirror{broken}
	_, err := s.File(t.Context(), fetched("file:///nonexistent", body))
	if err == nil || !strings.Contains(err.Error(), "no route") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v does not tell of both places", err)
	}
	s.Mirrors = []Mirror{none, mirrorFunc(func(Want, io.Writer) error { return fmt.Errorf("it went away (%w)", fs.ErrNotExist) })}
	_, err = s.File(t.Context(), fetched("file:///nonexistent", body))
	if err == nil || !strings.Contains(err.Error(), "it went away") || strings.Contains(err.Error(), "\nfile does not exist") {
		t.Errorf("error %v tells not just what the mirror says of what it has not", err)
	}
}

// The resolver of names is no server that could feel better in a moment.
func TestNoSuchHost(t *testing.T) {
	s := testStore(t)
	asked := 0
	s.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		asked++
		return nil, &net.DNSError{Err: "no such host", Name: "upstream.invalid", IsNotFound: true}
	})}
	if _, err := s.File(t.Context(), fetched("http://upstream.invalid/x", []byte("x"))); err == nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOffline(t *testing.T) {
	s := testStore(t)
	s.Offline = true
	if _, err := s.File(t.Context(), fetched("http://127.0.0.1:1/x", []byte("x"))); !errors.Is(err, errOffline) {
		t.Errorf("error %v", err)
	}
}

// Many want one file at a time: it is fetched once.
func TestTogether(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 1<<20)
	srv := serve(t, func(_ int32, w http.ResponseWriter, _ *http.Request) {
		time.Sleep(20 * time.Millisecond)
		w.Write(body)
	})
	s := testStore(t)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := s.File(context.Background(), fetched(srv.URL, body))
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := srv.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

var stamp = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func makeTar(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := []byte("content of " + h.Name)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(body))
		}
		if h.ModTime.IsZero() && h.Typeflag != tar.TypeXGlobalHeader {
			h.ModTime = stamp
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			w.Write(body)
		}
	}
	w.Close()
	return b.Bytes()
}

func reg(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
}
func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o777} }
func link(kind byte, name, target string) tar.Header {
	return tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777}
}

// list describes what lies below a folder.
func list(t *testing.T, top string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == top {
			return err
		}
		if d.Name() == ".git" { // that is for git to judge
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, name)
		fmt.Fprintf(&b, "%s %v", rel, info.Mode())
		switch info.Mode().Type() {
		case 0:
			body, _ := os.ReadFile(name)
			fmt.Fprintf(&b, " %q", body)
			fallthrough
		case fs.ModeDir:
			if !info.ModTime().Equal(stamp) {
				fmt.Fprintf(&b, " %v", info.ModTime().UTC())
			}
		case fs.ModeSymlink:
			target, _ := os.Readlink(name)
			b.WriteString(" -> " + target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func prepare(t *testing.T, s *Store, workspace string, archive []byte, strip int) (Prepared, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	src := fetched("file://"+file, archive)
	src.Extract, src.Strip = true, strip
	return s.Prepare(t.Context(), []recipe.Source{src}, workspace, "")
}

func compress(t *testing.T, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "gz":
		w = gzip.NewWriter(&b)
	case "xz":
		var err error
		if w, err = xz.NewWriter(&b); err != nil {
			t.Fatal(err)
		}
	default:
		return data
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	old := reg("p-1/old", 0o644)
	old.ModTime = stamp.Add(-time.Hour)
	data := makeTar(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}},
		dir("p-1/"), dir("p-1/sub"), reg("p-1/sub/file", 0o666), reg("p-1/configure", 0o4775), reg("p-1/secret", 0o400),
		link(tar.TypeSymlink, "p-1/link", "/etc/passwd"), link(tar.TypeLink, "p-1/hard", "p-1/sub/file"),
		reg("p-1/deep/er", 0o644), dir("p-1/deep"), old)
	want := `configure -rwxr-xr-x "content of p-1/configure"
deep drwxr-xr-x
deep/er -rw-r--r-- "content of p-1/deep/er"
hard -rw-r--r-- "content of p-1/sub/file"
link Lrwxrwxrwx -> /etc/passwd
old -rw-r--r-- "content of p-1/old" 2024-05-06 06:08:09 +0000 UTC
secret -rw------- "content of p-1/secret"
sub drwxr-xr-x
sub/file -rw-r--r-- "content of p-1/sub/file"
`
	for _, kind := range []string{"none", "gz", "xz"} {
		workspace := t.TempDir()
		p, err := prepare(t, testStore(t), workspace, compress(t, kind, data), 1)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if got := list(t, workspace); got != want {
			t.Errorf("%s: unpacked\n%s\nwant\n%s", kind, got, want)
		}
		if !p.Newest.Equal(stamp) {
			t.Errorf("%s: newest is %v", kind, p.Newest)
		}
	}
}

func TestUnpackZip(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range []struct {
		name string
		mode fs.FileMode
	}{{"p-1/", fs.ModeDir | 0o755}, {"p-1/run", 0o755}, {"p-1/link", fs.ModeSymlink | 0o777}} {
		h := &zip.FileHeader{Name: e.name, Modified: stamp}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if !e.mode.IsDir() {
			io.WriteString(f, "run")
		}
	}
	w.Close()
	workspace := t.TempDir()
	if _, err := prepare(t, testStore(t), workspace, b.Bytes(), 1); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, workspace), "link Lrwxrwxrwx -> run\nrun -rwxr-xr-x \"run\"\n"; got != want {
		t.Errorf("unpacked\n%s\nwant\n%s", got, want)
	}
}

func TestStrip(t *testing.T) {
	data := makeTar(t, dir("./"), dir("./p"), reg("./p/a", 0o644), reg("./p/q/b", 0o644))
	for strip, want := range []string{"p p/a p/q p/q/b", "p p/a p/q p/q/b", "a q q/b", "b", ""} {
		workspace := t.TempDir()
		if _, err := prepare(t, testStore(t), workspace, data, strip); err != nil {
			t.Fatal(err)
		}
		var names []string
		for line := range strings.Lines(list(t, workspace)) {
			names = append(names, strings.Fields(line)[0])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("strip %d leaves %q, want %q", strip, got, want)
		}
	}
}

// An archive cannot touch anything outside the workspace.
func TestUnpackStaysInside(t *testing.T) {
	for name, data := range map[string][]byte{
		"dot dot":            makeTar(t, reg("p/../../evil", 0o644)),
		"stripped dot dot":   makeTar(t, reg("../evil", 0o644)),
		"absolute":           makeTar(t, reg("p//evil", 0o644), reg("//tmp/evil", 0o644)),
		"through a link":     makeTar(t, link(tar.TypeSymlink, "p/out", "../.."), reg("p/out/evil", 0o644)),
		"absolute link":      makeTar(t, link(tar.TypeSymlink, "p/out", "/tmp"), reg("p/out/evil", 0o644)),
		"hard link outside":  makeTar(t, link(tar.TypeLink, "p/x", "p/../../../etc/hostname")),
		"hard link via link": makeTar(t, link(tar.TypeSymlink, "p/out", "/etc"), link(tar.TypeLink, "p/x", "p/out/hostname")),
		"device":             makeTar(t, tar.Header{Typeflag: tar.TypeChar, Name: "p/null", Devmajor: 1, Devminor: 3}),
	} {
		top := t.TempDir()
		workspace := filepath.Join(top, "a", "b")
		if err := os.MkdirAll(workspace, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := prepare(t, testStore(t), workspace, data, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
		for _, evil := range []string{filepath.Join(top, "evil"), filepath.Join(top, "a", "evil"), "/tmp/evil"} {
			if _, err := os.Lstat(evil); err == nil {
				t.Errorf("%s: %s was written", name, evil)
			}
		}
	}
}

// A later source may replace files of an earlier one; one that is no archive is
// put there as it is.
func TestPrepareInOrder(t *testing.T) {
	tmp := t.TempDir()
	var sources []recipe.Source
	for i, body := range [][]byte{
		makeTar(t, reg("p/a", 0o444), reg("p/b", 0o644)), makeTar(t, reg("q/a", 0o644)), []byte("--- a\n+++ b\n"),
	} {
		file := filepath.Join(tmp, fmt.Sprintf("file-%d?x=1", i))
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
		src := fetched("file://"+strings.ReplaceAll(file, "?", "%3F"), body)
		src.Extract, src.Strip, src.Directory = i < 2, 1, "sub"
		sources = append(sources, src)
	}
	workspace := t.TempDir()
	if _, err := testStore(t).Prepare(t.Context(), sources, workspace, ""); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(workspace, "sub", "a"), []byte("content of q/a"))
	wantFile(t, filepath.Join(workspace, "sub", "b"), []byte("content of p/b"))
	wantFile(t, filepath.Join(workspace, "sub", "file-2%3Fx=1"), []byte("--- a\n+++ b\n"))
}

func TestErrorsNameTheStep(t *testing.T) {
	src := fetched("ftp://example.org/x", []byte("x"))
	src.Pos.File, src.Pos.Line, src.Pos.Col = "x.yaml", 7, 5
	_, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), "")
	if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:7:5: fetching ftp://example.org/x: scheme") {
		t.Errorf("error %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(makeTar(f, dir("p"), reg("p/a", 0o644), link(tar.TypeSymlink, "p/l", ".."), reg("p/l/x", 0o644)), 0)
	f.Add(makeTar(f, reg("./p/a", 0o644), link(tar.TypeLink, "./p/h", "./p/a")), 2)
	f.Fuzz(func(t *testing.T, data []byte, strip int) {
		top := t.TempDir()
		archive, inside := filepath.Join(top, "archive"), filepath.Join(top, "inside")
		if err := errors.Join(os.WriteFile(archive, data, 0o644), os.Mkdir(inside, 0o755)); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inside)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		unpack(t.Context(), archive, root, max(0, strip%4))
		if entries, _ := os.ReadDir(top); len(entries) != 2 {
			t.Errorf("something was written outside: %v", entries)
		}
	})
}
