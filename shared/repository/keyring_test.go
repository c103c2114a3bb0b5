package repository

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

// TestKeyring: a key may be named by its https URL; it is fetched once, and is then what it was.
func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	key, err := apk.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	text, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "os.rsa.pub"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	c := &Client{Cache: filepath.Join(dir, "cache"), HTTP: server.Client()}
	for range 2 {
		ring, err := c.Keyring(t.Context(), server.URL+"/os.rsa.pub", filepath.Join(dir, "os.rsa.pub"))
		if err != nil || ring["os.rsa.pub"] == nil || len(ring) != 1 {
			t.Fatal(ring, err)
		}
		c.Offline = true
	}
	c.Offline = false
	for address, want := range map[string]string{
		server.URL + "/none.rsa.pub": "404",
		server.URL + "/cache":        "", // a listing, and no key
		strings.Replace(server.URL, "https:", "http:", 1) + "/os.rsa.pub": "name a file or an https URL",
	} {
		if _, err := c.Keyring(t.Context(), address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
