//go:build judge

// These tests ask the real apk-tools 3. They need its binary, named by the
// environment variable APK, and root, since packages have owners.

package apk

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"distro.internal/shared/filetree"
)

type judge struct {
	*testing.T
	dir    string
	signer Signer
}

func newJudge(t *testing.T) *judge {
	j := &judge{T: t, dir: t.TempDir()}
	key, err := GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := EncodePublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	j.write("keys/judge.rsa.pub", pub)
	if j.signer, err = NewSigner("judge.rsa.pub", key); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *judge) path(name string) string { return filepath.Join(j.dir, name) }

func (j *judge) write(name string, data []byte) {
	j.Helper()
	if err := os.MkdirAll(filepath.Dir(j.path(name)), 0o755); err != nil {
		j.Fatal(err)
	}
	if err := os.WriteFile(j.path(name), data, 0o644); err != nil {
		j.Fatal(err)
	}
}

func (j *judge) read(name string) []byte {
	j.Helper()
	data, err := os.ReadFile(j.path(name))
	if err != nil {
		j.Fatal(err)
	}
	return data
}

func (j *judge) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(j.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv("APK"), append([]string{"--keys-dir", j.path("keys"), "--arch", "x86_64"}, args...)...)
	cmd.Dir = j.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (j *judge) apk(args ...string) string {
	j.Helper()
	out, err := j.try(args...)
	if err != nil {
		j.Fatalf("apk %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// publish writes packages and their signed index into repo/x86_64.
func (j *judge) publish(packages ...sample) *Index {
	j.Helper()
	var x Index
	for _, s := range packages {
		data, p := s.build(j.T, j.signer)
		j.write("repo/x86_64/"+p.FileName(), data)
		x.Packages = append(x.Packages, p)
	}
	x.Sort()
	var b bytes.Buffer
	if err := WriteIndex(&b, &x, j.signer); err != nil {
		j.Fatal(err)
	}
	j.write("repo/x86_64/APKINDEX.tar.gz", b.Bytes())
	return &x
}

func TestJudgeInstall(t *testing.T) {
	j := newJudge(t)
	x := j.publish(baseSample(), oddSample(), sample{
		p: Package{Name: "app", Version: "2.0-r0", Depends: deps("base>=1", "odd", "so:libodd.so.1")},
		entries: []filetree.Entry{
			{Path: "usr/bin/app", Mode: 0o4755, Open: filetree.Bytes([]byte("app")), Size: 3},
		},
		scripts: Scripts{".post-install": []byte("#!/bin/sh\ntrue\n")},
	})
	for _, p := range x.Packages {
		if out := j.apk("verify", "repo/x86_64/"+p.FileName()); !strings.HasSuffix(out, "OK\n") {
			t.Errorf("verify: %s", out)
		}
	}
	j.apk("verify", "repo/x86_64/APKINDEX.tar.gz")
	out := j.apk("add", "--root", j.path("root"), "--initdb", "--no-scripts", "--repository", j.path("repo"), "app")
	t.Log(out)
	// apk cannot judge what it cannot read, waits at a pipe for a writer, and
	// leaves out setgid when it makes a directory.
	os.Remove(j.path("root/var/lib/odd/fifo"))
	if out := j.apk("audit", "--root", j.path("root"), "--system", "--check-permissions"); out != "U dev/odd\nm var/lib/odd/\nX var/lib/odd/fifo\n" {
		t.Errorf("audit finds differences:\n%s", out)
	}

	// The database apk wrote is the one we write.
	var ours Installed
	for _, p := range x.Packages {
		ours.add(t, j.read("repo/x86_64/"+p.FileName()))
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		InstalledFile: func(b *bytes.Buffer) error { return ours.Write(b) },
		TriggersFile:  func(b *bytes.Buffer) error { return ours.WriteTriggers(b) },
		WorldFile:     func(b *bytes.Buffer) error { return WriteWorld(b, deps("app")) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		want := j.read("root/" + name)
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s differs (-apk's +ours)\n%s", name, cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")))
		}
	}

	theirs, err := ParseInstalled(bytes.NewReader(j.read("root/" + InstalledFile)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(j.scripts(theirs), scriptsOf(&ours)); diff != "" {
		t.Errorf("scripts differ (-apk's +ours)\n%s", diff)
	}

	// And apk works on with ours.
	var installed, scripts bytes.Buffer
	if err := ours.Write(&installed); err != nil {
		t.Fatal(err)
	}
	if err := ours.WriteScripts(&scripts); err != nil {
		t.Fatal(err)
	}
	j.write("root/"+InstalledFile, installed.Bytes())
	j.write("root/"+ScriptsFile, scripts.Bytes())
	os.Remove(j.path("root/" + ScriptsFile + ".gz"))
	os.Remove(j.path("root/usr/bin/app"))
	j.apk("fix", "--root", j.path("root"), "--no-scripts", "--repository", j.path("repo"), "app")
	if got := string(j.read("root/usr/bin/app")); got != "app" {
		t.Errorf("after fix the file holds %q", got)
	}
	if out := j.apk("info", "--root", j.path("root"), "-e", "odd"); out != "odd\n" {
		t.Errorf("info says %q", out)
	}
	j.publish(baseSample(), oddSample(), sample{
		p:       Package{Name: "app", Version: "2.0-r1", Depends: deps("odd")},
		entries: []filetree.Entry{file("usr/bin/app2", 0o755, "new")},
	})
	j.apk("upgrade", "--root", j.path("root"), "--no-scripts", "--repository", j.path("repo"))
	if out := j.apk("info", "--root", j.path("root"), "-L", "app"); !strings.Contains(out, "app-2.0-r1 contains:\nusr/bin/app2\n") {
		t.Errorf("after upgrade:\n%s", out)
	}
	if _, err := os.Stat(j.path("root/usr/bin/app")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("upgrade leaves the old file: %v", err)
	}
	j.apk("del", "--root", j.path("root"), "--no-scripts", "app")
	if out := j.apk("info", "--root", j.path("root")); out != "" {
		t.Errorf("after del there still are:\n%s", out)
	}
}

// scripts returns the scripts apk keeps, by package. In a new root it compresses them.
func (j *judge) scripts(x *Installed) map[string]Scripts {
	zr, err := gzip.NewReader(bytes.NewReader(j.read("root/" + ScriptsFile + ".gz")))
	if err != nil {
		j.Fatal(err)
	}
	if err := x.ReadScripts(zr); err != nil {
		j.Fatal(err)
	}
	return scriptsOf(x)
}

func scriptsOf(x *Installed) map[string]Scripts {
	m := make(map[string]Scripts)
	for _, p := range x.Packages {
		if len(p.Scripts) > 0 {
			m[p.Name] = p.Scripts
		}
	}
	return m
}

func TestJudgeIndex(t *testing.T) {
	j := newJudge(t)
	x := j.publish(baseSample(), oddSample(), sample{p: Package{
		Name: "Zed", Version: "1_rc2-r1", Description: "a = b # c 'd' \"e\"", URL: "https://x.test/?a=b", License: "MIT AND Zlib",
		Origin: "zed", Maintainer: "M <m@x.test>", Commit: strings.Repeat("a", 40), BuildDate: 1700000000,
		Depends: deps("a", "!b", "c<1", "so:libc.so.1=1.2.3"), Provides: deps("cmd:zed=1_rc2-r1", "virt"),
		InstallIf: deps("a", "c"), ProviderPriority: 7,
	}}, sample{p: Package{Name: "base", Version: "1.10-r0"}})
	args := []string{"index", "--no-warnings", "-o", "theirs.tar.gz"}
	for _, p := range x.Packages {
		args = append(args, "repo/x86_64/"+p.FileName())
	}
	j.apk(args...)
	theirs, err := ReadIndex(bytes.NewReader(j.read("theirs.tar.gz")), Verify{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := x.Write(&a); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Write(&b); err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("-apk's +ours\n%s", cmp.Diff(strings.Split(b.String(), "\n"), strings.Split(a.String(), "\n")))
	}
}

// Broken packages and wrong keys are refused by apk and by us alike.
func TestJudgeRefusals(t *testing.T) {
	j := newJudge(t)
	good, _ := oddSample().build(t, j.signer)
	ring, err := LoadKeyring(j.path("keys/judge.rsa.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += max(1, len(good)/400) {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		j.write("bad.apk", bad)
		_, theirs := j.try("verify", "bad.apk")
		ours := check(bad, Verify{Keyring: ring})
		// A signature section is not itself signed, so some bits in it are free.
		if theirs != nil && ours == nil || theirs == nil && ours != nil {
			t.Errorf("bit %d of byte %d of %d: apk says %v, we say %v", i%8, i, len(good), theirs, ours)
		}
	}
	for _, n := range []int{0, 1, 100, len(good) / 2, len(good) - 1} {
		j.write("bad.apk", good[:n])
		if _, err := j.try("verify", "bad.apk"); err == nil {
			t.Errorf("apk accepts %d bytes of %d", n, len(good))
		}
	}
}

func TestJudgeResign(t *testing.T) {
	j := newJudge(t)
	other := testSigner(t, "other.rsa.pub")
	data, p := oddSample().build(t, other)
	j.write("a.apk", data)
	if _, err := j.try("verify", "a.apk"); err == nil {
		t.Fatal("apk trusts a key it does not know")
	}
	var b bytes.Buffer
	if err := Resign(&b, bytes.NewReader(data), j.signer); err != nil {
		t.Fatal(err)
	}
	j.write("a.apk", b.Bytes())
	j.apk("verify", "a.apk")
	if p.Name != "odd" {
		t.Fatal(p.Name)
	}
}

func TestJudgeVersions(t *testing.T) {
	j := newJudge(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		a, b := randomVersion(r), randomVersion(r)
		for _, v := range []string{a, b} {
			_, err := j.try("version", "--check", v)
			if got := Version(v).Valid(); got != (err == nil) {
				t.Errorf("%q: valid is %v, apk says %v", v, got, err)
			}
		}
		if !Version(a).Valid() || !Version(b).Valid() {
			continue // apk does not answer
		}
		out := strings.TrimSpace(j.apk("version", "--test", a, b))
		want := map[string]int{"<": -1, "=": 0, ">": 1}[out]
		if got := Compare(Version(a), Version(b)); got != want {
			t.Errorf("%s %s %s, we say %d", a, out, b, got)
		}
	}
}

func randomVersion(r *rand.Rand) string {
	parts := []string{"1", "0", "01", "10", ".", ".2", ".02", ".0", "a", "b", "_alpha", "_rc1", "_pre", "_p", "_p0", "_git20", "_foo", "~a1", "~0f", "-r0", "-r1", "-r", "-", "A", " "}
	s := fmt.Sprint(r.IntN(3))
	for range r.IntN(6) {
		s += parts[r.IntN(len(parts))]
	}
	return strings.TrimSpace(s)
}
