package apk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	key := makeKey().(*signer).key
	public, err := EncodePublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(dir, "distro.rsa")
	for name, data := range map[string][]byte{private: EncodePrivateKey(key), private + ".pub": public} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := LoadSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if s.KeyName() != "distro.rsa.pub" {
		t.Errorf("the key is called %q", s.KeyName())
	}
	ring, err := LoadKeyring(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	data, _ := baseSample().build(t, s)
	if err := check(data, Verify{Keyring: ring}); err != nil {
		t.Error(err)
	}
	if !ring["distro.rsa.pub"].Equal(&key.PublicKey) {
		t.Error("another key was read")
	}
}

func TestBadKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tooSmall := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: mustPKIX(t, &small.PublicKey)})
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: mustPKIX(t, &curve.PublicKey)})
	private := EncodePrivateKey(makeKey().(*signer).key)
	for _, c := range []struct {
		want string
		data []byte
	}{
		{"no PEM block", nil},
		{"not a public key", private},
		{"fewer than 2048", tooSmall},
		{"not an RSA key", other},
	} {
		if _, err := DecodePublicKey(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
	if _, err := DecodePrivateKey(other); err == nil {
		t.Error("a public key is read as a private one")
	}
	if _, err := GenerateKey(1024); err == nil {
		t.Error("a small key is made")
	}
	if _, err := NewSigner("a/b", makeKey().(*signer).key); err == nil {
		t.Error("a key name with a slash is accepted")
	}
}

// Two files of one name must not stand for each other.
func TestKeyringNames(t *testing.T) {
	dir := t.TempDir()
	one, err := EncodePublicKey(&makeKey().(*signer).key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	two, err := EncodePublicKey(otherKey())
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for i, data := range [][]byte{one, one, two} {
		file := filepath.Join(dir, string(rune('a'+i)), "k.rsa.pub")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if _, err := LoadKeyring(files[:2]...); err != nil {
		t.Errorf("the same key twice: %v", err)
	}
	if _, err := LoadKeyring(files...); err == nil || !strings.Contains(err.Error(), "already called") {
		t.Errorf("two keys of one name: %v", err)
	}
}

func mustPKIX(t *testing.T, key any) []byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
