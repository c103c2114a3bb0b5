// Package attest says things about artifacts under a signature, and checks what was said: in-toto statements in DSSE
// envelopes inside sigstore bundles, and the older simple signing payloads of container images. Both are what cosign
// reads and writes with a key; no service is asked and none is told.
//
// It knows formats and keys. What a statement is about, and where it is kept, others know. Everything it makes is
// deterministic: the same key and the same statement give the same bytes (ECDSA signs as RFC 6979 says), so that what
// is signed again need not be stored again.
//
// sigstore's own libraries would bring the transparency log, certificates, protocol buffers and some two hundred modules
// for what is a page of JSON here. What is hard about keys, their encryption, comes from the library that cosign itself uses.
package attest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Media types and names of formats.
const (
	MediaTypeBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	MediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	MediaTypeStatement     = "application/vnd.in-toto+json" // also the payload type of its envelope

	statementType = "https://in-toto.io/Statement/v1"
)

// Types of predicates.
const (
	Signed     = "https://sigstore.dev/cosign/sign/v1" // nothing but that the artifact is the signer's
	SPDX       = "https://spdx.dev/Document"
	Provenance = "https://slsa.dev/provenance/v1"
)

// Statement is an in-toto statement: it says of its subjects what the predicate says.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is an artifact, known by its digests: {"sha256": hex}.
type Subject struct {
	Name   string            `json:"name,omitempty"`
	Digest map[string]string `json:"digest"`
}

// SubjectOf is the subject with a digest as OCI writes it: "sha256:...".
func SubjectOf(digest string) Subject {
	algorithm, hex, _ := strings.Cut(digest, ":")
	return Subject{Digest: map[string]string{algorithm: hex}}
}

// NewStatement says what the predicate, which is JSON or becomes it, says about the digest.
func NewStatement(digest, predicateType string, predicate any) (Statement, error) {
	text, err := marshal(predicate)
	if err != nil {
		return Statement{}, fmt.Errorf("encoding predicate %s: %w", predicateType, err)
	}
	return Statement{Type: statementType, Subject: []Subject{SubjectOf(digest)}, PredicateType: predicateType, Predicate: text}, nil
}

// Encode is the statement as JSON.
func (s Statement) Encode() ([]byte, error) { return marshal(s) }

// About reports whether the digest is that of a subject.
func (s Statement) About(digest string) bool {
	algorithm, hex, _ := strings.Cut(digest, ":")
	for _, subject := range s.Subject {
		if hex != "" && subject.Digest[algorithm] == hex {
			return true
		}
	}
	return false
}

// bundle is a sigstore bundle of version 0.3 that a key signed: no certificate, no entry of a log.
type bundle struct {
	MediaType string   `json:"mediaType"`
	Material  material `json:"verificationMaterial"`
	Envelope  envelope `json:"dsseEnvelope"`
}

type material struct {
	PublicKey *keyHint `json:"publicKey,omitempty"`
}

type keyHint struct {
	Hint string `json:"hint"`
}

// envelope is a DSSE envelope. Payload and signatures are base64 in JSON.
type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig []byte `json:"sig"`
}

// signed is what a DSSE signature is over: the "pre-authentication encoding" of its specification, version 1.
func (e envelope) signed() []byte {
	var b bytes.Buffer
	b.WriteString("DSSEv1 " + strconv.Itoa(len(e.PayloadType)) + " " + e.PayloadType + " " + strconv.Itoa(len(e.Payload)) + " ")
	b.Write(e.Payload)
	return b.Bytes()
}

// Envelope signs the statement, in nothing but a DSSE envelope.
func (s *Signer) Envelope(st Statement) ([]byte, error) {
	e, err := s.envelope(st)
	if err != nil {
		return nil, err
	}
	return marshal(e)
}

func (s *Signer) envelope(st Statement) (e envelope, err error) {
	if e.Payload, err = st.Encode(); err != nil {
		return e, err
	}
	e.PayloadType = MediaTypeStatement
	sig, err := s.Sign(e.signed())
	e.Signatures = []signature{{sig}}
	return e, err
}

// Bundle signs the statement, in an envelope that says by whose key.
func (s *Signer) Bundle(st Statement) ([]byte, error) {
	e, err := s.envelope(st)
	if err != nil {
		return nil, err
	}
	hint, err := s.Key().hint()
	if err != nil {
		return nil, err
	}
	return marshal(bundle{MediaType: MediaTypeBundle, Material: material{&keyHint{hint}}, Envelope: e})
}

// OpenBundle returns the statement of a bundle that the key signed.
func (k Key) OpenBundle(b []byte) (Statement, error) {
	st, err := k.openBundle(b)
	if err != nil {
		return Statement{}, fmt.Errorf("reading bundle: %w", err)
	}
	return st, nil
}

func (k Key) openBundle(b []byte) (st Statement, err error) {
	var read bundle
	if err := json.Unmarshal(b, &read); err != nil {
		return st, err
	}
	if read.MediaType != MediaTypeBundle && !strings.HasPrefix(read.MediaType, "application/vnd.dev.sigstore.bundle+json;version=0.") {
		return st, fmt.Errorf("its media type is %q", read.MediaType)
	}
	if read.Envelope.PayloadType != MediaTypeStatement {
		return st, fmt.Errorf("what is signed in it is %q, no statement", read.Envelope.PayloadType)
	}
	if err := k.anyOf(read.Envelope); err != nil {
		return st, err
	}
	if err := json.Unmarshal(read.Envelope.Payload, &st); err != nil {
		return st, fmt.Errorf("statement: %w", err)
	}
	if !strings.HasPrefix(st.Type, "https://in-toto.io/Statement/v") {
		return st, fmt.Errorf("statement of type %q", st.Type)
	}
	return st, nil
}

// anyOf wants one signature of the key.
func (k Key) anyOf(e envelope) error {
	err := errors.New("nobody signed it")
	for _, s := range e.Signatures {
		if err = k.Verify(e.signed(), s.Sig); err == nil {
			return nil
		}
	}
	return err
}

// simpleSigning is the payload of cosign's older signatures.
type simpleSigning struct {
	Critical critical  `json:"critical"`
	Optional *struct{} `json:"optional"`
}

type critical struct {
	Identity struct {
		Reference string `json:"docker-reference"`
	} `json:"identity"`
	Image struct {
		Digest string `json:"docker-manifest-digest"`
	} `json:"image"`
	Type string `json:"type"`
}

const simpleSigningType = "cosign container image signature"

// SimpleSigning is the payload that says that the image of the digest is to be found in the repository
// ("registry.example/team/nginx"), and its signature in base64.
func (s *Signer) SimpleSigning(repository, digest string) (payload []byte, sig string, err error) {
	var p simpleSigning
	p.Critical.Identity.Reference, p.Critical.Image.Digest, p.Critical.Type = repository, digest, simpleSigningType
	if payload, err = marshal(p); err != nil {
		return nil, "", err
	}
	raw, err := s.Sign(payload)
	return payload, base64.StdEncoding.EncodeToString(raw), err
}

// CheckSimpleSigning tells whether the payload is about the digest and the signature that of the key.
func (k Key) CheckSimpleSigning(payload []byte, sig, digest string) error {
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil {
		return fmt.Errorf("reading signature: %w", err)
	}
	if err := k.Verify(payload, raw); err != nil {
		return err
	}
	var p simpleSigning
	if err := json.Unmarshal(payload, &p); err != nil {
		return fmt.Errorf("reading what is signed: %w", err)
	}
	if p.Critical.Type != simpleSigningType || p.Critical.Image.Digest != digest {
		return fmt.Errorf("what is signed is the %s of %s", p.Critical.Type, p.Critical.Image.Digest)
	}
	return nil
}

// marshal is JSON without a line end and with < and > as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
