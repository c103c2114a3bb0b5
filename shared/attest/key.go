package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

// Signer is a private key: ECDSA on P-256, or RSA with PKCS #1 v1.5.
type Signer struct {
	key crypto.Signer
}

// Key is the public key of a Signer.
type Key struct {
	public crypto.PublicKey
}

// LoadSigner reads a private key in PEM: as cosign generate-key-pair writes it, for which the password is asked, or
// PKCS #8, PKCS #1 or SEC 1 without encryption.
func LoadSigner(file string, password func() ([]byte, error)) (*Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	s, err := DecodeSigner(data, password)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %s: %w", file, err)
	}
	return s, nil
}

// DecodeSigner is LoadSigner of what is in memory.
func DecodeSigner(data []byte, password func() ([]byte, error)) (*Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	key, err := parsePrivateKey(block, password)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return &Signer{signer}, Key{signer.Public()}.check()
}

func parsePrivateKey(block *pem.Block, password func() ([]byte, error)) (any, error) {
	switch block.Type {
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		secret, err := password()
		if err != nil {
			return nil, err
		}
		der, err := encrypted.Decrypt(block.Bytes, secret)
		if err != nil {
			return nil, fmt.Errorf("decrypting: %w", err)
		}
		return x509.ParsePKCS8PrivateKey(der)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("a PEM block %q, not a private key", block.Type)
}

// Key is the public half.
func (s *Signer) Key() Key { return Key{s.key.Public()} }

// Sign returns the signature over the SHA-256 of the message.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	sum := sha256.Sum256(message)
	sig, err := s.key.Sign(nil, sum[:], crypto.SHA256) // without a source of random numbers ECDSA takes none
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sig, nil
}

// LoadKey reads a public key in PEM.
func LoadKey(file string) (Key, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Key{}, fmt.Errorf("reading public key: %w", err)
	}
	k, err := DecodeKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("reading public key %s: %w", file, err)
	}
	return k, nil
}

// DecodeKey is LoadKey of what is in memory.
func DecodeKey(data []byte) (Key, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return Key{}, errors.New("no PEM block in it")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, err
	}
	k := Key{public}
	return k, k.check()
}

// Encode is the key as PKIX in PEM.
func (k Key) Encode() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// hint is by which a bundle names the key: the SHA-256 of its DER form, in base64.
func (k Key) hint() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// check refuses keys that sigstore's clients do not agree about: cosign signs with those of larger curves over another
// hash than it verifies with.
func (k Key) check() error {
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return fmt.Errorf("an RSA key of %d bits: fewer than 2048", key.N.BitLen())
		}
		return nil
	case *ecdsa.PublicKey:
		if curve := key.Curve.Params(); curve.BitSize != 256 {
			return fmt.Errorf("an ECDSA key on %s: want P-256", curve.Name)
		}
		return nil
	}
	return fmt.Errorf("a %T: want an ECDSA or RSA key", k.public)
}

var errOtherSignature = errors.New("the signature is not that of the key")

// Verify tells whether the signature over the message was made with the private half.
func (k Key) Verify(message, sig []byte) error {
	sum := sha256.Sum256(message)
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) != nil {
			return errOtherSignature
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, sum[:], sig) {
			return errOtherSignature
		}
	default:
		return errOtherSignature
	}
	return nil
}
