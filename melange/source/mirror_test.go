package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"distro.internal/melange/recipe"
)

func TestDigestMirror(t *testing.T) {
	content := []byte("upstream's file")
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256", digest), content, 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	for _, address := range []string{dir, server.URL} {
		m := DigestMirror{Address: address}
		var got bytes.Buffer
		if err := m.Fetch(t.Context(), Want{SHA256: digest}, &got); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("%s: %q, error %v", address, got.Bytes(), err)
		}
		none := Want{SHA256: digest[:60] + "0000", SHA512: "ab"}
		if err := m.Fetch(t.Context(), none, &got); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what is not there gives %v", address, err)
		}
		// The recipe's own place is never asked for what the mirror has.
		s := &Store{Dir: t.TempDir(), Mirrors: []Mirror{m}}
		name, err := s.File(t.Context(), recipe.Source{Kind: recipe.SourceFetch, URI: "http://127.0.0.1:1/gone", SHA256: digest})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, content) {
			t.Errorf("%s: stored %q, error %v", address, b, err)
		}
	}
}

// TestDigestMirrorLies: a mirror is not believed.
func TestDigestMirrorLies(t *testing.T) {
	dir := t.TempDir()
	digest := hex.EncodeToString(make([]byte, 32))
	if err := os.Mkdir(filepath.Join(dir, "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sha256", digest), []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Store{Dir: t.TempDir(), Mirrors: []Mirror{DigestMirror{Address: dir}}}
	_, err := s.File(t.Context(), recipe.Source{Kind: recipe.SourceFetch, URI: "file:///nowhere/at/all", SHA256: digest})
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("error %v", err)
	}
}
