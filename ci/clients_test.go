package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/txtar"

	"distro.internal/ci/stage0"
	"distro.internal/shared/apk"
	"distro.internal/shared/sbom"
)

// The package managers of Debian, pinned by testdata/clients as the first tools are, install in steps without a network
// what lock files name. They have made the packages themselves, in the build before; registries as theirs are served here.
// Debian has neither yarn 1 nor pnpm: those are packages of npm, made by lock files too, from the registry that npm here is
// configured for.

func TestClients(t *testing.T) {
	c := &clients{dir: t.TempDir(), config: t.TempDir(), nonce: fmt.Sprint(time.Now().UnixNano()), parts: map[string][]byte{}}
	c.repository, c.cache = clientRepository(t)
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.address = server.URL
	c.lay(t)
	c.world(t, "build", "parts-cargo", "parts-npm", "parts-pip", "yarn", "pnpm")
	c.collect(t)

	home := t.TempDir()
	writeAll(t, filepath.Join(home, "config.toml"),
		"[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nregistry = \"sparse+"+c.address+"/index/\"\n")
	t.Setenv("CARGO_HOME", home)
	t.Setenv("npm_config_registry", c.address+"/npm/")
	t.Setenv("PIP_INDEX_URL", c.address+"/simple")
	c.lay(t)
	apps := []string{"app-cargo", "app-npm", "tool-npm", "app-yarn", "app-pnpm", "app-pip"}
	c.world(t, append([]string{"build"}, apps...)...)
	c.world(t, "test", "tool-npm")
	if c.asked.Load() == 0 {
		t.Error("nothing was asked of the registries")
	}
	c.named(t)

	// Built again for another reason, everything comes from the store.
	server.Close()
	for _, app := range apps {
		file := filepath.Join(c.dir, "packages", app+".yaml")
		text, err := os.ReadFile(file)
		must(t, err)
		writeAll(t, file, strings.Replace(string(text), "pipeline:\n", "pipeline:\n  - runs: echo again\n", 1))
	}
	c.world(t, append([]string{"build"}, apps...)...)
}

// clients is a workspace and the registries that its sources come from.
type clients struct {
	dir, cache, config, repository string
	nonce, address, commit         string
	parts                          map[string][]byte // what was packed, by file name
	asked                          atomic.Int64
}

// clientRepository makes the repository with the package managers.
func clientRepository(t *testing.T) (repository, cache string) {
	dir, err := os.UserCacheDir()
	must(t, err)
	config, err := os.UserConfigDir()
	must(t, err)
	s := surroundings{cache: filepath.Join(dir, "distro"), config: filepath.Join(config, "distro"), stdout: io.Discard, stderr: io.Discard}
	w, err := openWorld(s, &workspaceFlags{dir: "..", file: "ci/testdata/clients/world.yaml", cache: s.cache})
	must(t, err)
	must(t, w.makeStage0(t.Context(), io.Discard))
	made, err := w.stage0Config()
	must(t, err)
	if _, err := os.Stat(stage0.PublicKey(made.Dir)); err != nil {
		t.Fatal(err)
	}
	return made.Dir, s.cache
}

// lay writes the workspace, with all that is known by now.
func (c *clients) lay(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "clients", "workspace.txtar"))
	must(t, err)
	fill := strings.NewReplacer("CLIENTS", c.repository, "NONCE", c.nonce, "REGISTRY", c.address, "GIT", filepath.Join(c.dir, "git"), "COMMIT", c.commit)
	for _, f := range archive.Files {
		text := partDigest.ReplaceAllStringFunc(fill.Replace(string(f.Data)), c.digest)
		writeAll(t, filepath.Join(c.dir, filepath.FromSlash(f.Name)), text)
	}
	if c.commit == "" {
		c.commit = commitAll(t, filepath.Join(c.dir, "git"))
	}
}

// partDigest is a digest of a part, as the lock files have them.
var partDigest = regexp.MustCompile(`(SHA256|SHA1|SRI512|SRI1)\(([^)]+)\)`)

func (c *clients) digest(text string) string {
	m := partDigest.FindStringSubmatch(text)
	part := c.parts[m[2]]
	switch m[1] {
	case "SHA1":
		return fmt.Sprintf("%x", sha1.Sum(part))
	case "SRI512":
		sum := sha512.Sum512(part)
		return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	case "SRI1":
		sum := sha1.Sum(part)
		return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
	}
	return fmt.Sprintf("%x", sha256.Sum256(part))
}

func writeAll(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(text), 0o644))
}

func commitAll(t *testing.T, dir string) string {
	repo, err := git.PlainInit(dir, false)
	must(t, err)
	tree, err := repo.Worktree()
	must(t, err)
	_, err = tree.Add(".")
	must(t, err)
	who := &object.Signature{Name: "Upstream", Email: "upstream@example.com", When: time.Unix(1e9, 0).UTC()}
	commit, err := tree.Commit("Whisper", &git.CommitOptions{Author: who, Committer: who})
	must(t, err)
	return commit.String()
}

// world runs the world command in the workspace, with the packages that are unpacked already.
func (c *clients) world(t *testing.T, args ...string) {
	t.Helper()
	s := sample{flags: workspaceFlags{dir: c.dir}, surroundings: surroundings{cache: c.cache, config: c.config}}
	s.command(t, args...)
}

// collect takes the parts out of the packages that they were built into.
func (c *clients) collect(t *testing.T) {
	for _, name := range []string{"parts-cargo", "parts-npm", "parts-pip"} {
		maps.Copy(c.parts, c.files(t, name, "parts"))
	}
	if len(c.parts) != 6 {
		t.Fatalf("there are %d parts", len(c.parts))
	}
}

// files are those of a folder of a package, by name.
func (c *clients) files(t *testing.T, name, folder string) map[string][]byte {
	f, err := os.Open(filepath.Join(c.dir, "out", "repository", "x86_64", name+"-1-r0.apk"))
	must(t, err)
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Insecure: true})
	must(t, err)
	files := map[string][]byte{}
	for {
		e, content, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		if data, err := io.ReadAll(content); err == nil && e.IsRegular() && path.Dir(e.Path) == folder {
			files[path.Base(e.Path)] = data
		}
	}
}

// named looks at what the bills of materials of the packages say that the package managers were given: what each lock
// file names, but for what npm leaves out on this machine.
func (c *clients) named(t *testing.T) {
	vcs := "?vcs_url=git%2Bfile:%2F%2F" + strings.ReplaceAll(filepath.Join(c.dir, "git"), "/", "%2F") + "%40" + c.commit
	for app, want := range map[string][]string{
		"app-cargo": {
			"pkg:cargo/greet@1.2.3 SHA256:SHA256(greet-1.2.3.crate)",
			"pkg:cargo/whisper-words@0.7.0" + vcs, "pkg:cargo/whisper@0.7.0" + vcs,
		},
		"app-npm": {"pkg:npm/%40some/shout@2.0.0 SHA1", "pkg:npm/greet@1.2.3 SHA512"},
		"app-pip": {
			"pkg:pypi/greet@1.2.3 SHA256:SHA256(greet-1.2.3-py3-none-any.whl)",
			"pkg:pypi/shout-it@2.0 SHA256:SHA256(shout_it-2.0-py3-none-any.whl)",
		},
		"app-pnpm": {"pkg:npm/%40some/shout@2.0.0 SHA512", "pkg:npm/greet@1.2.3 SHA512"},
		"app-yarn": {"pkg:npm/%40some/shout@2.0.0 SHA1", "pkg:npm/greet@1.2.3 SHA512"},
		"tool-npm": {"pkg:npm/%40some/shout@2.0.0 SHA512", "pkg:npm/greet@1.2.3 SHA512", "pkg:npm/tool@3.0.0 SHA512"},
	} {
		for i := range want {
			want[i] = partDigest.ReplaceAllStringFunc(want[i], c.digest)
		}
		d, err := sbom.Decode(bytes.NewReader(c.files(t, app, "var/lib/db/sbom")[app+"-1-r0.spdx.json"]))
		must(t, err)
		var got []string
		for _, e := range d.Elements {
			if e.Purpose != "LIBRARY" {
				continue
			}
			line := e.Refs[0].Locator
			for _, sum := range e.Checksums {
				if line += " " + sum.Algorithm; sum.Algorithm == "SHA256" {
					line += ":" + sum.Value
				}
			}
			got = append(got, line)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s names\n%s\nwant\n%s", app, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// ServeHTTP is three registries: of crates with a sparse index, of npm, and of Python in both forms.
func (c *clients) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.asked.Add(1)
	file := path.Base(r.URL.Path)
	switch {
	case r.URL.Path == "/index/config.json":
		fmt.Fprintf(w, `{"dl": "%s/crates/{crate}-{version}.crate", "api": null}`, c.address)
		return
	case r.URL.Path == "/npm/@some/shout/-/shout-2.0.0.tgz", r.URL.Path == "/elsewhere/shout":
		file = "some-shout-2.0.0.tgz"
	case r.URL.Path == "/simple/shout-it/":
		const name = "shout_it-2.0-py3-none-any.whl"
		fmt.Fprintf(w, `<!DOCTYPE html><html><body><a href="../../files/%s#sha256=%s">%[1]s</a><br></body></html>`, name, c.digest("SHA256("+name+")"))
		return
	}
	part, ok := c.parts[file]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(part)
}
