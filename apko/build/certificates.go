package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/rootfs"
	"github.com/pavlo-v-chernykh/keystore-go/v4"
)

// The bundles of certificate authorities that programs read. The first is the one that is made when there is none.
var bundles = []string{
	"etc/ssl/certs/ca-certificates.crt",
	"var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem",
	"kaniko/ssl/certs/ca-certificates.crt",
}

// trustStore is where Java looks for certificate authorities, in a format of its own. The password is everybody's.
const (
	trustStore         = "etc/ssl/certs/java/cacerts"
	trustStorePassword = "changeit"
)

// authority is a certificate to be trusted.
type authority struct {
	alias string // in Java's store
	der   []byte
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
}

// parseAuthority reads exactly one certificate in PEM. Its alias is the name with its fingerprint.
func parseAuthority(name string, text []byte) (authority, bool) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return authority{}, false
	}
	if another, _ := pem.Decode(rest); another != nil {
		return authority{}, false
	}
	sum := sha256.Sum256(block.Bytes)
	return authority{strings.ToLower(name) + "-" + hex.EncodeToString(sum[:]), block.Bytes}, true
}

// certificates adds authorities to the bundles and to Java's store: those of packages that provide one of the given
// names, then those of the image file.
func (r *root) certificates(c image.Certificates) error {
	if err := r.generate(rootfs.Certificates); err != nil {
		return err
	}
	added, err := r.certificatesOf(c.Providers)
	if err != nil {
		return err
	}
	for _, cert := range c.Additional {
		a, ok := parseAuthority(cert.Name, []byte(cert.Content))
		if !ok {
			return fmt.Errorf("certificate %s: not exactly one certificate in PEM", cert.Name)
		}
		fingerprint := a.alias[len(cert.Name):]
		if err := r.file("usr/local/share/ca-certificates/"+cert.Name+fingerprint+".crt", 0o644, a.pem()); err != nil {
			return err
		}
		added = append(added, a)
	}
	if len(added) == 0 {
		return nil
	}
	if err := r.addToBundles(added); err != nil {
		return err
	}
	if err := r.addToTrustStore(added); err != nil {
		return fmt.Errorf("adding to /%s: %w", trustStore, err)
	}
	return nil
}

// certificatesOf reads the certificates of the packages that provide one of the names, in the order of their paths.
func (r *root) certificatesOf(providers []string) ([]authority, error) {
	if len(providers) == 0 {
		return nil, nil
	}
	var list []authority
	for _, dir := range []string{"usr/local/share/ca-certificates", "usr/share/ca-certificates"} {
		for e := range r.Tree.Below(dir) {
			at, ok := r.Files[e.Path]
			provides := func(name string) bool { return r.parts[at.Package].Package.Satisfies(apk.Dependency{Name: name}) }
			ext := path.Ext(e.Path)
			if !ok || ext != ".crt" && ext != ".pem" || !e.Mode.IsRegular() || !slices.ContainsFunc(providers, provides) {
				continue
			}
			content, err := r.read(e.Path)
			if err != nil {
				return nil, err
			}
			a, ok := parseAuthority("pkg", content)
			if !ok {
				return nil, fmt.Errorf("/%s: not exactly one certificate in PEM", e.Path)
			}
			list = append(list, a)
		}
	}
	return list, nil
}

func (r *root) addToBundles(added []authority) error {
	for i, name := range bundles {
		if i > 0 && !r.has(name) {
			continue
		}
		bundle, err := r.read(name)
		if err != nil {
			return err
		}
		if len(bundle) > 0 && bundle[len(bundle)-1] != '\n' {
			bundle = append(bundle, '\n')
		}
		for _, a := range added {
			if !bytes.Contains(bundle, bytes.TrimSpace(a.pem())) {
				bundle = append(bundle, a.pem()...)
			}
		}
		if err := r.put(rootfs.Rewrite(r.Tree, name, 0o644, bundle, r.when)); err != nil {
			return err
		}
	}
	return nil
}

// addToTrustStore adds to Java's store, where there is one. Its entries come in the order of their aliases.
func (r *root) addToTrustStore(added []authority) error {
	have, err := r.read(trustStore)
	if err != nil || have == nil {
		return err
	}
	store := keystore.New(keystore.WithOrderedAliases())
	if err := store.Load(bytes.NewReader(have), []byte(trustStorePassword)); err != nil {
		return err
	}
	for _, a := range added {
		entry := keystore.TrustedCertificateEntry{
			CreationTime: r.when, Certificate: keystore.Certificate{Type: "X.509", Content: a.der},
		}
		if err := store.SetTrustedCertificateEntry(a.alias, entry); err != nil {
			return err
		}
	}
	var changed bytes.Buffer
	if err := store.Store(&changed, []byte(trustStorePassword)); err != nil {
		return err
	}
	return r.put(rootfs.Rewrite(r.Tree, trustStore, 0o644, changed.Bytes(), r.when))
}

// checksums writes beside each store of certificates what sha256sum would check it with, so that one can tell later
// whether somebody changed it.
func (r *root) checksums() error {
	for _, name := range append(slices.Clone(bundles), trustStore) {
		content, err := r.read(name)
		if err != nil {
			return err
		}
		if content == nil {
			continue
		}
		sum := sha256.Sum256(content)
		line := hex.EncodeToString(sum[:]) + "  " + path.Base(name) + "\n"
		if err := r.file(path.Dir(name)+"/."+path.Base(name)+".sha256", 0o444, []byte(line)); err != nil {
			return err
		}
	}
	return nil
}
