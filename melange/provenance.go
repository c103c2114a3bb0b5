package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"distro.internal/melange/build"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/attest"
)

// A statement is to be written beside a package, when that is published.
type statement struct {
	file string
	text []byte
}

// provenance says of a package's file how it came to be. With a key it is a DSSE envelope, PACKAGE.apk.intoto.jsonl;
// without one the statement itself, PACKAGE.apk.intoto.json, which anybody may have written.
func provenance(b *build.Builder, job build.Job, content, published string, key *attest.Signer) (statement, error) {
	digest, err := sha256File(content)
	if err != nil {
		return statement{}, err
	}
	predicate, err := b.Provenance(job)
	if err != nil {
		return statement{}, fmt.Errorf("telling how %s came to be: %w", filepath.Base(published), err)
	}
	st, err := attest.NewStatement("sha256:"+digest, attest.Provenance, predicate)
	if err != nil {
		return statement{}, err
	}
	st.Subject[0].Name = filepath.Base(published)
	if key == nil {
		text, err := st.Encode()
		return statement{published + ".intoto.json", append(text, '\n')}, err
	}
	text, err := key.Envelope(st)
	return statement{published + ".intoto.jsonl", append(text, '\n')}, err
}

func (s statement) write() error {
	return atomicfile.Write(s.file, 0o644, atomicfile.Bytes(s.text))
}

// provenanceKey is the key of the packages, for what is said about them.
func provenanceKey(file string) (*attest.Signer, error) {
	if file == "" {
		return nil, nil
	}
	return attest.LoadSigner(file, func() ([]byte, error) { return nil, errors.New("keys of packages have no password") })
}

func sha256File(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
