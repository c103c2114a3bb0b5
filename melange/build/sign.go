package build

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
)

// A Seal is a signer with what tells its key from others of the same name. The
// zero value leaves packages without a signature.
type Seal struct {
	apk.Signer
	identity string
}

// key names the seal's key in full.
func (s Seal) key() string {
	if s.Signer == nil {
		return "none"
	}
	return s.KeyName() + " " + s.identity
}

// NewSeal tries the signer once: the signature of a fixed text identifies its key.
func NewSeal(s apk.Signer) (Seal, error) {
	proof, err := s.Sign(make([]byte, 32))
	if err != nil {
		return Seal{}, fmt.Errorf("trying key %s: %w", s.KeyName(), err)
	}
	return Seal{s, hex.EncodeToString(proof)}, nil
}

// Sign makes the .apk file of a package, in the store, and returns its metadata
// with its final size. RSA signatures by one key are equal, so each package is
// signed once.
func (b *Builder) Sign(ctx context.Context, p Package, s Seal) (info *apk.Package, file string, err error) {
	key := cas.NewKey("sign/1")
	key.Add("control", p.Control.String())
	key.Add("data", p.Data.String())
	key.Add("key", s.key())
	signed, err := b.signed(ctx, key, p, s)
	if err != nil {
		return nil, "", fmt.Errorf("signing %s: %w", p.Name, err)
	}
	final := *p.Package
	final.Size = signed.Size
	return &final, b.Store.Path(signed), nil
}

func (b *Builder) signed(ctx context.Context, key *cas.Key, p Package, s Seal) (cas.Digest, error) {
	if r, err := b.Store.Result(key.Digest()); err == nil {
		d, _ := r.Output("apk")
		return d, nil
	} else if !absent(err) {
		return cas.Digest{}, err
	}
	var signature bytes.Buffer
	if s.Signer != nil {
		if err := apk.SignControl(&signature, s, p.ControlSum[:], time.Unix(p.BuildDate, 0).UTC()); err != nil {
			return cas.Digest{}, err
		}
	}
	control, err := b.Store.Open(p.Control)
	if err != nil {
		return cas.Digest{}, err
	}
	defer control.Close()
	data, err := b.Store.Open(p.Data)
	if err != nil {
		return cas.Digest{}, err
	}
	defer data.Close()
	file, err := b.Store.Put(ctx, io.MultiReader(&signature, control, data))
	if err != nil {
		return cas.Digest{}, err
	}
	return file, b.Store.SetResult(key.Digest(), &cas.Result{Outputs: []cas.Output{{Name: "apk", Digest: file}}})
}
