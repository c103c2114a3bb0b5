package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"distro.internal/apko/build"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/attest"
	"github.com/spf13/cobra"
)

// attaching are the flags that say what is put beside an image.
type attaching struct {
	key  string
	what []string
}

// What can be attached.
const (
	attachSBOM       = "sbom"
	attachProvenance = "provenance"
)

func (o *attaching) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.key, "sign-key", "", "sign the image and what is attached with this key: cosign's, with COSIGN_PASSWORD, or one in PEM (P-256 or RSA)")
	f.StringVar(&o.key, "signing-key", "", "the same as --sign-key")
	f.StringSliceVar(&o.what, "attach", nil, "what to attach to the image and to those of all architectures: sbom, provenance")
}

// signer is the key of the flags; nil when none is given.
func (o *attaching) signer(m *machine) (*attest.Signer, error) {
	for _, what := range o.what {
		if what != attachSBOM && what != attachProvenance {
			return nil, fmt.Errorf("--attach %s: want sbom or provenance", what)
		}
	}
	if o.key == "" {
		return nil, nil
	}
	return attest.LoadSigner(o.key, func() ([]byte, error) { return []byte(m.env("COSIGN_PASSWORD")), nil })
}

// described is an image of a result, or the index of them all, with what there is to say about it.
type described struct {
	oci.Descriptor
	created    time.Time
	sbom       []byte
	provenance attest.Build
}

// attached is the finished index with everything about it that the flags ask for, as it is to be found in the repository.
func (o *attaching) attached(r *finished, s *attest.Signer, repository string) (*oci.Index, error) {
	all, err := o.describe(r)
	if err != nil {
		return nil, err
	}
	index := r.Index
	for _, d := range all {
		list, err := o.artifacts(d, s, repository)
		if err != nil {
			return nil, fmt.Errorf("describing %s: %w", d.Digest, err)
		}
		index = index.With(list...)
	}
	return index, nil
}

func (o *attaching) describe(r *finished) ([]described, error) {
	if len(r.Archs) == 0 || len(o.what) == 0 && o.key == "" {
		return nil, nil
	}
	distribution := r.Archs[0].System.ID
	whole, err := build.Provenance(r.config, r.lock, distribution)
	if err != nil {
		return nil, err
	}
	list := []described{{r.Index.Descriptor, r.Created, r.SBOM, whole}}
	for _, a := range r.Archs {
		lock, err := r.lock.Only([]apk.Arch{a.Name})
		if err != nil {
			return nil, err
		}
		one, err := build.Provenance(r.config, lock, distribution)
		if err != nil {
			return nil, err
		}
		list = append(list, described{a.Image.Manifest, r.Created, a.SBOM, one})
	}
	return list, nil
}

// artifacts are what is attached to one image. A signed bill of materials is there as itself too, for readers who look for
// its own type, and a signature in both of cosign's forms, the older of which is all that many admission controllers know.
func (o *attaching) artifacts(d described, s *attest.Signer, repository string) ([]*oci.Artifact, error) {
	var list []*oci.Artifact
	add := func(a *oci.Artifact, err error) error { list = append(list, a); return err }
	created := map[string]string{"org.opencontainers.image.created": d.created.UTC().Format(time.RFC3339)}
	if slices.Contains(o.what, attachSBOM) {
		if err := add(oci.NewArtifact(d.Descriptor, "application/spdx+json", d.sbom, created)); err != nil {
			return nil, err
		}
		if s != nil {
			if err := add(signedStatement(d, s, attest.SPDX, json.RawMessage(d.sbom))); err != nil {
				return nil, err
			}
		}
	}
	if slices.Contains(o.what, attachProvenance) {
		if err := add(provenance(d, s, created)); err != nil {
			return nil, err
		}
	}
	if s == nil {
		return list, nil
	}
	if err := add(signedStatement(d, s, attest.Signed, struct{}{})); err != nil {
		return nil, err
	}
	payload, sig, err := s.SimpleSigning(repository, d.Digest)
	if err != nil {
		return nil, err
	}
	return list, add(oci.NewSignatures(d.Descriptor, oci.Signature{
		MediaType: attest.MediaTypeSimpleSigning, Payload: payload, Annotation: signatureAnnotation, Value: sig,
	}))
}

// signatureAnnotation holds the older signatures of cosign.
const signatureAnnotation = "dev.cosignproject.cosign/signature"

// provenance is the statement, in a bundle when it is signed.
func provenance(d described, s *attest.Signer, created map[string]string) (*oci.Artifact, error) {
	if s != nil {
		return signedStatement(d, s, attest.Provenance, d.provenance)
	}
	st, err := attest.NewStatement(d.Digest, attest.Provenance, d.provenance)
	if err != nil {
		return nil, err
	}
	text, err := st.Encode()
	if err != nil {
		return nil, err
	}
	return oci.NewArtifact(d.Descriptor, attest.MediaTypeStatement, text, created)
}

// signedStatement is a bundle with the annotations by which cosign chooses without reading it.
func signedStatement(d described, s *attest.Signer, predicateType string, predicate any) (*oci.Artifact, error) {
	st, err := attest.NewStatement(d.Digest, predicateType, predicate)
	if err != nil {
		return nil, err
	}
	bundle, err := s.Bundle(st)
	if err != nil {
		return nil, err
	}
	return oci.NewArtifact(d.Descriptor, attest.MediaTypeBundle, bundle, map[string]string{
		"org.opencontainers.image.created":  d.created.UTC().Format(time.RFC3339),
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": predicateType,
	})
}
