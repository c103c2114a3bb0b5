package attest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func keys(t testing.TB) map[string]*Signer {
	t.Helper()
	all := make(map[string]*Signer)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all["P-256"] = &Signer{curve}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	all["RSA"] = &Signer{key}
	return all
}

func statement(t testing.TB) Statement {
	t.Helper()
	st, err := NewStatement(digest, Provenance, map[string]string{"a": "<b>"})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Every kind of key signs, always with the same bytes, and nobody else's key says that it did.
func TestBundle(t *testing.T) {
	stranger := keys(t)
	for name, s := range keys(t) {
		t.Run(name, func(t *testing.T) {
			b, err := s.Bundle(statement(t))
			if err != nil {
				t.Fatal(err)
			}
			again, err := s.Bundle(statement(t))
			if err != nil || string(again) != string(b) {
				t.Errorf("signed again (%v):\n%s\nwas\n%s", err, again, b)
			}
			encoded, err := s.Key().Encode()
			if err != nil {
				t.Fatal(err)
			}
			key, err := DecodeKey(encoded)
			if err != nil {
				t.Fatal(err)
			}
			st, err := key.OpenBundle(b)
			if diff := cmp.Diff(statement(t), st); err != nil || diff != "" {
				t.Errorf("read back: %v (-want +got)\n%s", err, diff)
			}
			if !st.About(digest) || st.About("sha256:") || st.About(digest[:len(digest)-1]) {
				t.Errorf("it is about %v", st.Subject)
			}
			if _, err := stranger[name].Key().OpenBundle(b); err == nil {
				t.Error("another key signed it too")
			}
		})
	}
}

func TestSimpleSigning(t *testing.T) {
	s := keys(t)["P-256"]
	payload, sig, err := s.SimpleSigning("registry.example/app", digest)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"critical":{"identity":{"docker-reference":"registry.example/app"},"image":{"docker-manifest-digest":"` + digest +
		`"},"type":"cosign container image signature"},"optional":null}`
	if diff := cmp.Diff(want, string(payload)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	if err := s.Key().CheckSimpleSigning(payload, sig, digest); err != nil {
		t.Error(err)
	}
	other := strings.Replace(digest, "0", "1", 1)
	if err := s.Key().CheckSimpleSigning(payload, sig, other); err == nil || !strings.Contains(err.Error(), digest) {
		t.Errorf("a signature of another image: %v", err)
	}
	if err := s.Key().CheckSimpleSigning([]byte(strings.ReplaceAll(want, digest, other)), sig, other); err == nil {
		t.Error("another payload has the same signature")
	}
}

func TestDecodeSigner(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(large)
	if err != nil {
		t.Fatal(err)
	}
	der := x509.MarshalPKCS1PrivateKey(small)
	for name, test := range map[string]struct{ text, err string }{
		"nothing":   {"", "no PEM block"},
		"public":    {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a private key"},
		"small":     {string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})), "1024 bits"},
		"P-384":     {string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})), "want P-256"},
		"encrypted": {"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "decrypting"},
	} {
		_, err := DecodeSigner([]byte(test.text), func() ([]byte, error) { return nil, nil })
		if err == nil || !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v, want %q", name, err, test.err)
		}
	}
}

// Whatever a registry hands out, a bundle that is opened was signed, and says what was signed.
func FuzzOpenBundle(f *testing.F) {
	s := keys(f)["P-256"]
	b, err := s.Bundle(statement(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"mediaType":"` + MediaTypeBundle + `","dsseEnvelope":{"payloadType":"` + MediaTypeStatement + `","signatures":[{}]}}`))
	want := statement(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := s.Key().OpenBundle(b)
		if err == nil && cmp.Diff(want, st) != "" {
			t.Errorf("%s was opened as %+v", b, st)
		}
	})
}
