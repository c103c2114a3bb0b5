package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// attested reads what lies beside a package with the libraries of those who made the formats, and prints it:
// attested KEY.pub PACKAGE.apk.
func attested(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: attested KEY.pub PACKAGE.apk")
	}
	file := ts.MkAbs(args[1])
	payload := verifyEnvelope(ts, args[0], file+".intoto.jsonl")
	st := &intoto.Statement{}
	ts.Check(protojson.Unmarshal(payload, st))
	ts.Check(st.Validate())
	digest, err := sha256File(file)
	ts.Check(err)
	if len(st.Subject) != 1 || st.Subject[0].Digest["sha256"] != digest {
		ts.Fatalf("it is about %v, not about %s", st.Subject, digest)
	}
	predicate, err := protojson.Marshal(st.Predicate)
	ts.Check(err)
	p := &provenancev1.Provenance{}
	ts.Check(protojson.Unmarshal(predicate, p))
	ts.Check(p.Validate())
	out := ts.Stdout()
	fmt.Fprintln(out, st.Type, st.PredicateType, "of", st.Subject[0].Name)
	const ours = "https://distro.internal/"
	d := p.BuildDefinition
	asked := d.ExternalParameters.Fields
	fmt.Fprintf(out, "%s by %s: recipe %s, version %s, commit %s\n", strings.TrimPrefix(d.BuildType, ours), strings.TrimPrefix(p.RunDetails.Builder.Id, ours),
		asked["recipe"].GetStringValue(), asked["version"].GetStringValue(), asked["commit"].GetStringValue())
	for _, m := range d.ResolvedDependencies {
		uri, _, _ := strings.Cut(m.Uri, "?")
		fmt.Fprintln(out, m.Name, uri, strings.Join(slices.Sorted(maps.Keys(m.Digest)), " "))
	}
}

// verifyEnvelope returns what is signed in an envelope.
func verifyEnvelope(ts *testscript.TestScript, key, file string) []byte {
	text, err := os.ReadFile(ts.MkAbs(key))
	ts.Check(err)
	block, _ := pem.Decode(text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	ts.Check(err)
	envelopes, err := dsse.NewEnvelopeVerifier(packageKey{public.(*rsa.PublicKey)})
	ts.Check(err)
	var e dsse.Envelope
	text, err = os.ReadFile(file)
	ts.Check(err)
	ts.Check(json.Unmarshal(text, &e))
	_, err = envelopes.Verify(context.Background(), &e)
	ts.Check(err)
	payload, err := e.DecodeB64Payload()
	ts.Check(err)
	return payload
}

// packageKey verifies signatures as packages have them: RSA with PKCS #1 v1.5.
type packageKey struct{ *rsa.PublicKey }

func (k packageKey) Verify(_ context.Context, data, sig []byte) error {
	sum := sha256.Sum256(data)
	return rsa.VerifyPKCS1v15(k.PublicKey, crypto.SHA256, sum[:], sig)
}

func (packageKey) KeyID() (string, error) { return "", nil }

func (k packageKey) Public() crypto.PublicKey { return k.PublicKey }
