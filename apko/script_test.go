package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"distro.internal/apko/testrepo"
	"distro.internal/shared/apk"
	"distro.internal/shared/ldcache"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"apko": main})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
			e.Defer(server.Close)
			e.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
			modern := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
			e.Defer(modern.Close)
			e.Setenv("REFERRERS", strings.TrimPrefix(modern.URL, "http://")) // a registry that lists referrers
			closed := httptest.NewServer(guarded(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
			e.Defer(closed.Close)
			e.Setenv("GUARDED", strings.TrimPrefix(closed.URL, "http://"))
			e.Setenv("HOME", e.WorkDir)
			files := httptest.NewServer(guarded(http.FileServer(http.Dir(e.WorkDir))))
			e.Defer(files.Close)
			e.Setenv("SERVER", strings.TrimPrefix(files.URL, "http://"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"repository": repositoryCmd, "tree": treeCmd, "validate": validateCmd, "damage": damageCmd,
			"keypair": keypairCmd, "linkercache": linkerCacheCmd, "truststore": trustStoreCmd, "newc": newcCmd,
		},
	})
}

// guarded serves only those who know the password.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// repositoryCmd writes a repository: repository DIR TEXT ARCH...
func repositoryCmd(ts *testscript.TestScript, _ bool, args []string) {
	var archs []apk.Arch
	for _, a := range args[2:] {
		archs = append(archs, apk.Arch(a))
	}
	ts.Check(testrepo.Write(ts.MkAbs(args[0]), ts.ReadFile(args[1]), archs...))
}

// keypairCmd writes a private key, and its public key beside it: keypair rsa|ecdsa|cosign FILE. cosign's is encrypted
// with $COSIGN_PASSWORD.
func keypairCmd(ts *testscript.TestScript, _ bool, args []string) {
	var key crypto.Signer
	var err error
	if args[0] == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	if args[0] == "cosign" {
		der, err = encrypted.Encrypt(der, []byte(ts.Getenv("COSIGN_PASSWORD")))
		ts.Check(err)
		block = &pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: der}
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(block), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]+".pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644))
}

// treeCmd prints what is in the layers of one architecture's image in a layout, a line per entry, and with a path the
// content of that file: tree LAYOUT ARCH [PATH]
func treeCmd(ts *testscript.TestScript, _ bool, args []string) {
	var list strings.Builder
	if len(args) == 3 {
		contentOf(ts, ts.MkAbs(args[0]), args[1], args[2], &list)
	} else {
		members(ts, ts.MkAbs(args[0]), args[1], func(layer int, h *tar.Header, _ io.Reader) {
			if n := strings.Count(list.String(), "--\n"); n < layer {
				list.WriteString("--\n")
			}
			list.WriteString(line(h))
		})
	}
	_, err := io.WriteString(ts.Stdout(), list.String())
	ts.Check(err)
}

func contentOf(ts *testscript.TestScript, dir, arch, file string, w io.Writer) {
	members(ts, dir, arch, func(_ int, h *tar.Header, content io.Reader) {
		if h.Name == file {
			_, err := io.Copy(w, content)
			ts.Check(err)
		}
	})
}

// members shows what is in the layers of one architecture's image in a layout.
func members(ts *testscript.TestScript, dir, arch string, show func(layer int, h *tar.Header, content io.Reader)) {
	for i, layer := range layersOf(ts, dir, arch) {
		f, err := os.Open(filepath.Join(dir, "blobs/sha256", layer))
		ts.Check(err)
		defer f.Close()
		for tr := tar.NewReader(decompressed(ts, f)); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			ts.Check(err)
			show(i, h, tr)
		}
	}
}

// decompressed reads gzip or zstd, whatever it is.
func decompressed(ts *testscript.TestScript, r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	magic, err := b.Peek(4)
	ts.Check(err)
	if string(magic) == "\x28\xb5\x2f\xfd" {
		z, err := zstd.NewReader(b)
		ts.Check(err)
		return z
	}
	z, err := gzip.NewReader(b)
	ts.Check(err)
	return z
}

func line(h *tar.Header) string {
	s := fmt.Sprintf("%c %04o %d:%d %d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Name)
	switch h.Typeflag {
	case tar.TypeSymlink:
		s += " -> " + h.Linkname
	case tar.TypeLink:
		s += " = " + h.Linkname
	}
	return s + "\n"
}

// layersOf reads a layout as its specification says, without our own code.
func layersOf(ts *testscript.TestScript, dir, arch string) []string {
	type descriptor struct {
		Digest   string
		Platform struct{ Architecture, Variant string }
	}
	read := func(file string, v any) {
		b, err := os.ReadFile(filepath.Join(dir, file))
		ts.Check(err)
		ts.Check(json.Unmarshal(b, v))
	}
	blob := func(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }
	var index, manifest struct{ Manifests, Layers []descriptor }
	read("index.json", &index)
	read(blob(index.Manifests[0].Digest), &index)
	var layers []string
	for _, m := range index.Manifests {
		if m.Platform.Architecture+m.Platform.Variant != arch {
			continue
		}
		read(blob(m.Digest), &manifest)
		for _, l := range manifest.Layers {
			layers = append(layers, strings.TrimPrefix(l.Digest, "sha256:"))
		}
	}
	if layers == nil {
		ts.Fatalf("no image for %s in %s", arch, dir)
	}
	return layers
}

// linkerCacheCmd prints the dynamic linker's cache of one architecture's image in a layout: linkercache LAYOUT ARCH
func linkerCacheCmd(ts *testscript.TestScript, _ bool, args []string) {
	var content strings.Builder
	contentOf(ts, ts.MkAbs(args[0]), args[1], "etc/ld.so.cache", &content)
	cache, err := ldcache.Parse([]byte(content.String()))
	ts.Check(err)
	for _, e := range cache.Entries {
		fmt.Fprintf(ts.Stdout(), "%s %#x => %s\n", strings.TrimSpace(e.Soname+" "+e.Subdir), e.Flags, e.Path)
	}
}

// trustStoreCmd prints the certificates in Java's store: truststore FILE
func trustStoreCmd(ts *testscript.TestScript, _ bool, args []string) {
	store := keystore.New(keystore.WithOrderedAliases())
	ts.Check(store.Load(strings.NewReader(ts.ReadFile(args[0])), []byte("changeit")))
	for _, alias := range store.Aliases() {
		e, err := store.GetTrustedCertificateEntry(alias)
		ts.Check(err)
		cert, err := x509.ParseCertificate(e.Certificate.Content)
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), alias, cert.Subject)
	}
}

// newcCmd prints what is in a cpio archive, read as the kernel's documentation describes the format: newc FILE
func newcCmd(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	take := func(n int) string {
		got := text[:n]
		text = text[n:]
		return got
	}
	for at := 0; ; {
		start := len(text)
		if take(6) != "070701" {
			ts.Fatalf("no header at %d", at)
		}
		var f [13]uint64
		for i := range f {
			n, err := strconv.ParseUint(take(8), 16, 32)
			ts.Check(err)
			f[i] = n
		}
		name := strings.TrimSuffix(take(int(f[11])), "\x00")
		take(-(start - len(text)) & 3)
		content := take(int(f[6]))
		take(-len(content) & 3)
		at += start - len(text)
		switch {
		case name == "TRAILER!!!":
			if text != "" {
				ts.Fatalf("%d bytes follow the end", len(text))
			}
			return
		case f[1]&0o170000 == 0o120000:
			name += " -> " + content
		case f[9]+f[10] > 0:
			name += fmt.Sprintf(" %d,%d", f[9], f[10])
		}
		fmt.Fprintf(ts.Stdout(), "%06o %d %d:%d %d %s\n", f[1], f[4], f[2], f[3], f[6], name)
	}
}

// validateCmd recomputes every digest of an image in a layout or, with a reference, in a registry.
func validateCmd(ts *testscript.TestScript, _ bool, args []string) {
	if ref, err := name.ParseReference(args[0]); err == nil && strings.Contains(args[0], ":") {
		index, err := remote.Index(ref)
		ts.Check(err)
		ts.Check(validate.Index(index))
		return
	}
	index, err := layout.ImageIndexFromPath(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(validate.Index(index))
}

// damageCmd changes a byte in the middle of every file below a folder that is not tiny.
func damageCmd(ts *testscript.TestScript, _ bool, args []string) {
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil || len(b) < 100 {
			return err
		}
		b[len(b)/2] ^= 1
		if err := os.Chmod(file, 0o644); err != nil {
			return err
		}
		return os.WriteFile(file, b, 0o644)
	})
	ts.Check(err)
}
