package apk

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Signer signs sections. A key may live in a file, behind a command or in
// a hardware module; only its name and its signatures are needed here.
type Signer interface {
	KeyName() string // file name of the public key: "distro.rsa.pub"
	Sign(sha256 []byte) ([]byte, error)
}

// A Keyring holds the public keys that are trusted, by file name.
type Keyring map[string]*rsa.PublicKey

// LoadKeyring reads public keys from files. The name of a file is the name of
// its key; two files of one name must hold the same key.
func LoadKeyring(files ...string) (Keyring, error) {
	ring := make(Keyring, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading public key: %w", err)
		}
		key, err := DecodePublicKey(data)
		if err != nil {
			return nil, fmt.Errorf("reading public key %s: %w", file, err)
		}
		name := filepath.Base(file)
		if other, ok := ring[name]; ok && !other.Equal(key) {
			return nil, fmt.Errorf("reading public key %s: another key is already called %s", file, name)
		}
		ring[name] = key
	}
	return ring, nil
}

// DefaultKeyBits is the size of a new key when none is asked for.
const DefaultKeyBits = 4096

// minKeyBits is the smallest key that is made or trusted.
const minKeyBits = 2048

// GenerateKey makes a key for signing; bits 0 means DefaultKeyBits.
func GenerateKey(bits int) (*rsa.PrivateKey, error) {
	if bits == 0 {
		bits = DefaultKeyBits
	}
	if bits < minKeyBits {
		return nil, fmt.Errorf("generating a key of %d bits: fewer than %d", bits, minKeyBits)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// LoadSigner reads a private key from a file. The public key is called as the
// file, with ".pub" appended.
func LoadSigner(file string) (Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading private key: %w", err)
	}
	key, err := DecodePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("reading private key %s: %w", file, err)
	}
	return NewSigner(filepath.Base(file)+".pub", key)
}

// NewSigner returns a signer whose public key goes by the given name.
func NewSigner(keyName string, key *rsa.PrivateKey) (Signer, error) {
	if keyName == "" || strings.ContainsAny(keyName, "/\n\x00") {
		return nil, fmt.Errorf("key name %q: not a file name", keyName)
	}
	return &signer{keyName, key}, nil
}

type signer struct {
	name string
	key  *rsa.PrivateKey
}

func (s *signer) KeyName() string { return s.name }

func (s *signer) Sign(sha256 []byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sha256)
}

// EncodePrivateKey returns the key as PKCS #1 in PEM.
func EncodePrivateKey(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// EncodePublicKey returns the key as PKIX in PEM.
func EncodePublicKey(key *rsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// DecodePrivateKey reads an RSA key in PEM, PKCS #1 or PKCS #8.
func DecodePrivateKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errors.New("encrypted with a passphrase")
		}
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*rsa.PrivateKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("a %T, not an RSA key", key)
	}
	return nil, fmt.Errorf("a PEM block %q, not an RSA private key", block.Type)
}

// DecodePublicKey reads an RSA key in PEM, PKIX or PKCS #1.
func DecodePublicKey(data []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	key, err := parsePublicKey(block)
	if err != nil {
		return nil, err
	}
	if n := key.N.BitLen(); n < minKeyBits {
		return nil, fmt.Errorf("a key of %d bits: fewer than %d", n, minKeyBits)
	}
	return key, nil
}

func parsePublicKey(block *pem.Block) (*rsa.PublicKey, error) {
	switch block.Type {
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*rsa.PublicKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("a %T, not an RSA key", key)
	}
	return nil, fmt.Errorf("a PEM block %q, not a public key", block.Type)
}
