//go:build judge

// This test asks the real apk-tools 3. It needs its binary, named by the environment variable APK, and root, since
// packages have owners.

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"distro.internal/apko/testrepo"
	"distro.internal/shared/apk"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

const (
	firstGeneration = `generation 1
P:base
V:1-r0
dir etc 755
file etc/motd 644 hello
link bin usr/bin

P:lib
V:1-r0
p:so:lib.so.1=1.0
file usr/lib/lib.so.1 755 L1

P:app
V:1-r0
D:base so:lib.so.1
file usr/bin/app 4755 A1
hard usr/bin/app2 usr/bin/app
script .trigger #!/bin/false
`
	secondGeneration = `generation 2
P:base
V:1-r0
dir etc 755
file etc/motd 644 hello
link bin usr/bin

P:lib
V:2-r0
p:so:lib.so.1=1.1
file usr/lib/lib.so.1 755 L2

P:app
V:2-r0
D:base so:lib.so.1 more
file usr/bin/app 755 A2

P:more
V:1-r0
file usr/share/more 644 M

P:extra
V:1-r0
D:app
file usr/share/extra 644 E

P:extra-doc
V:1-r0
i:extra app
file usr/share/doc/extra 644 D
`
)

// TestJudgeUpgrades lets apk live in an image: look around, upgrade to the next generation, add, remove, and repair.
func TestJudgeUpgrades(t *testing.T) {
	dir := t.TempDir()
	repo, root := filepath.Join(dir, "repo"), filepath.Join(dir, "root")
	publish := func(text string) {
		t.Helper()
		if err := testrepo.Write(repo, text, "x86_64"); err != nil {
			t.Fatal(err)
		}
	}
	publish(firstGeneration)
	server := httptest.NewServer(http.FileServer(http.Dir(repo)))
	defer server.Close()
	config := filepath.Join(dir, "image.yaml")
	text := "contents:\n  repositories: [\"" + server.URL + "\"]\n  keyring: [" + filepath.Join(repo, "keys", testrepo.KeyName) + "]\n  packages: [app]\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	unpackImage(t, config, root)
	for _, step := range []struct{ args, want string }{
		{"info", "app\nbase\nlib\n"},
		{"audit --system", ""},
		{"update", "generation 1 [" + server.URL},
		{"version", "Installed:"},
		{"upgrade --simulate", "OK"},
	} {
		judge(t, root, step.args, step.want)
	}
	publish(secondGeneration)
	for _, step := range []struct{ args, want string }{
		{"update", "generation 2 [" + server.URL},
		{"version", "app-1-r0"},
		{"upgrade", "Upgrading app (1-r0 -> 2-r0)"},
		{"info", "app\nbase\nlib\nmore\n"},
		{"audit --system", ""},
		{"add extra", "Installing extra-doc (1-r0)"},
		{"audit --system", ""},
	} {
		judge(t, root, step.args, step.want)
	}
	wantFile(t, root, "usr/bin/app", "A2")
	wantFile(t, root, "usr/bin/app2", "")
	if err := os.WriteFile(filepath.Join(root, "usr/bin/app"), []byte("changed"), 0o755); err != nil {
		t.Fatal(err)
	}
	judge(t, root, "audit --system", "U usr/bin/app\n")
	judge(t, root, "fix app", "OK")
	judge(t, root, "audit --system", "")
	wantFile(t, root, "usr/bin/app", "A2")
	judge(t, root, "del extra", "Purging extra-doc (1-r0)")
	judge(t, root, "del app", "Purging lib (2-r0)")
	judge(t, root, "info", "")
	wantFile(t, root, "usr/bin/app", "")
	db, err := os.ReadFile(filepath.Join(root, "lib/apk/db/installed"))
	if err != nil {
		t.Fatal(err)
	}
	if x, err := apk.ParseInstalled(bytes.NewReader(db)); err != nil || len(x.Packages) != 0 {
		t.Errorf("what apk left, read by us: %v, %v", x, err)
	}
}

// judge runs apk in the root. No want means no answer.
func judge(t *testing.T, root, args, want string) {
	t.Helper()
	switch verb, _, _ := strings.Cut(args, " "); verb {
	case "upgrade", "add", "fix", "del":
		args += " --no-scripts" // there is no shell
	}
	args = "--root " + root + " " + args
	out, err := exec.Command(os.Getenv("APK"), strings.Fields(args)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) || want == "" && len(out) > 0 {
		t.Fatalf("apk %s: %v, want %q\n%s", args, err, want, out)
	}
}

func wantFile(t *testing.T, root, name, want string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if (err != nil) != (want == "") || string(b) != want {
		t.Errorf("%s: %q, %v, want %q", name, b, err, want)
	}
}

// unpackImage builds the one image of a file, and unpacks its one layer as others do.
func unpackImage(t *testing.T, config, root string) {
	t.Helper()
	out := filepath.Join(filepath.Dir(config), "out")
	m := machine{out: t.Output(), err: t.Output(), env: func(name string) string { return map[string]string{"HOME": filepath.Dir(config)}[name] }}
	if code := m.program("build", config, "image:1", out, "--arch", "x86_64", "--vcs=false").Run(t.Context()); code != 0 {
		t.Fatalf("apko build: exit status %d", code)
	}
	index, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for list.Manifests[0].MediaType.IsIndex() {
		if index, err = index.ImageIndex(list.Manifests[0].Digest); err != nil {
			t.Fatal(err)
		}
		if list, err = index.IndexManifest(); err != nil {
			t.Fatal(err)
		}
	}
	image, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	files, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	tar := exec.Command("tar", "--extract", "--preserve-permissions", "--numeric-owner", "--directory", root)
	tar.Stdin = files
	if msg, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
}
