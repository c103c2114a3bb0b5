package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"distro.internal/melange/testshell"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
)

// A place is a workspace with a cache of its own.
type place struct {
	t   *testing.T
	dir string
}

// newPlace lays a workspace where any user can get at it.
func newPlace(t *testing.T) place {
	t.Helper()
	dir, err := os.MkdirTemp("", "place-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), layWorkspace(filepath.Join("testdata", "workspace"), dir)); err != nil {
		t.Fatal(err)
	}
	return place{t, dir}
}

// world is the command with some arguments, in the place.
func (p place) world(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(testshell.Shared(), "world"), args...)
	c.Dir, c.Env = p.dir, os.Environ()
	for name, value := range storyEnv(p.dir) {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

func (p place) run(c *exec.Cmd) {
	p.t.Helper()
	if out, err := c.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", c, err, out)
	}
}

// made lists what came of a build: indexes, packages and images, with digests. Of an index counts what is in it: its
// generation's number tells how often something was published before.
func (p place) made() []string {
	p.t.Helper()
	var all []string
	for _, pattern := range []string{"repository/[a-z]*/*", "images/*/index.json", "images/*.json"} {
		files, err := filepath.Glob(filepath.Join(p.dir, "out", pattern))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				p.t.Fatal(err)
			}
			if filepath.Base(file) == "APKINDEX.tar.gz" {
				data = p.uncounted(data)
			}
			all = append(all, strings.TrimPrefix(file, p.dir)+" "+cas.DigestOf(data).String())
		}
	}
	return all
}

// uncounted is the text of an index without the number of its generation.
func (p place) uncounted(data []byte) []byte {
	p.t.Helper()
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Verify{Insecure: true})
	if err != nil {
		p.t.Fatal(err)
	}
	index.Generation = 0
	var text bytes.Buffer
	if err := index.Write(&text); err != nil {
		p.t.Fatal(err)
	}
	return text.Bytes()
}

// edit replaces text of a file.
func (p place) edit(name, old, replacement string) {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	text, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		p.t.Fatalf("%s has no %q", name, old)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(replacement), 1), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// TestSameEverywhere builds in several ways, and wants every byte equal.
func TestSameEverywhere(t *testing.T) {
	ways := []struct {
		name, umask string
		uid         int
		jobs        string
		age         time.Duration // of the workspace's files
	}{
		{"as it comes", "022", -1, "-j1", 0},
		{"four at a time, others shut out", "077", -1, "-j4", 0},
		{"files of another year, open to all", "000", -1, "-j2", 9000 * time.Hour},
		{"as another user", "027", 54321, "-j4", 0},
	}
	var first []string
	for _, way := range ways {
		if way.uid >= 0 && os.Geteuid() != 0 {
			continue // only root can become somebody else
		}
		p := newPlace(t)
		p.prepare(way.uid, time.Now().Add(-way.age))
		c := p.world()
		world := c.Path
		as, err := exec.LookPath("as")
		if err != nil {
			t.Fatal(err)
		}
		c.Path, c.Args = as, []string{"as", way.umask, fmt.Sprint(way.uid), world, "build", way.jobs}
		p.run(c)
		made := p.made()
		if first == nil {
			first = made
		}
		if len(made) != 2+10+2+8 {
			t.Errorf("%s: %d files are made: %q", way.name, len(made), made)
		}
		if d := cmp.Diff(first, made); d != "" {
			t.Errorf("%s: made otherwise:\n%s", way.name, d)
		}
	}
}

// prepare gives all files to a user, and a time.
func (p place) prepare(uid int, when time.Time) {
	err := filepath.WalkDir(p.dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && uid >= 0 {
			err = os.Lchown(file, uid, uid)
		}
		return errors.Join(err, os.Chtimes(file, when, when))
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// kills is how often TestKilled ends a build before its time.
const kills = 20

// TestKilled kills builds at any moment. After each kill the repository is
// whole and nothing is left of the build; in the end all is as in a place where
// nothing but the last build has happened, after what the others published.
func TestKilled(t *testing.T) {
	undisturbed, p := newPlace(t), newPlace(t)
	for _, q := range []place{undisturbed, p} {
		q.edit("packages/lib.yaml", "cat words", "sleep 0.1\n      cat words")
		q.edit("packages/app.yaml", "mkdir -p", "sleep 0.1\n      mkdir -p")
	}
	began := time.Now()
	undisturbed.run(undisturbed.world("build"))
	whole := time.Since(began)

	inside := 0
	for i := range kills {
		p.edit("packages/lib/words", "words", fmt.Sprintf("words of %d,", i))
		if p.kill(time.Duration(rand.Int64N(int64(whole))), i%2 == 0) {
			inside++
		}
		p.checkRepository()
		p.checkNothingLeft()
	}
	if inside == 0 {
		t.Errorf("none of %d builds had an environment when it was killed, within %v", kills, whole)
	}
	if err := copyTo(filepath.Join(p.dir, "packages/lib/words"), "testdata/workspace/packages/lib/words"); err != nil {
		t.Fatal(err)
	}
	undisturbed.startFrom(p)
	undisturbed.run(undisturbed.world("build"))
	p.run(p.world("build"))
	p.checkRepository()
	if left, err := os.ReadDir(filepath.Join(p.dir, ".cache/distro/work")); err != nil || len(left) > 0 {
		t.Errorf("after the last build there are still folders of others: %v, %v", left, err)
	}
	if d := cmp.Diff(undisturbed.made(), p.made()); d != "" {
		t.Errorf("after %d kills, made otherwise:\n%s", kills, d)
	}
}

// startFrom makes it a place in which nothing was made yet, but what q has published.
func (p place) startFrom(q place) {
	p.t.Helper()
	for _, made := range []string{"out", ".cache/distro"} {
		if err := os.RemoveAll(filepath.Join(p.dir, made)); err != nil {
			p.t.Fatal(err)
		}
	}
	from := filepath.Join(q.dir, "out/repository")
	if _, err := os.Stat(from); err != nil {
		return // every build was killed before
	}
	if err := os.CopyFS(filepath.Join(p.dir, "out/repository"), os.DirFS(from)); err != nil {
		p.t.Fatal(err)
	}
}

// kill starts a build and kills it, with or without its process group. It tells
// whether steps were just running.
func (p place) kill(after time.Duration, group bool) (inside bool) {
	p.t.Helper()
	c := p.world("build")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(after)
	running, err := straysOf(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	pid := c.Process.Pid
	if group {
		pid = -pid
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	err = c.Wait()
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); err != nil && ok && !status.Signaled() {
		p.t.Fatalf("the build failed by itself: %v\n%s", err, &out)
	}
	return running != ""
}

// checkRepository wants that every index is signed, and every package in it there and whole.
func (p place) checkRepository() {
	p.t.Helper()
	keyring, err := apk.LoadKeyring(filepath.Join(p.dir, ".config/distro/distro.rsa.pub"))
	if err != nil {
		p.t.Fatal(err)
	}
	indexes, err := filepath.Glob(filepath.Join(p.dir, "out/repository/*/APKINDEX.tar.gz"))
	if err != nil {
		p.t.Fatal(err)
	}
	if len(indexes) != 0 && len(indexes) != 2 {
		p.t.Errorf("indexes of %d architectures: %q", len(indexes), indexes)
	}
	for _, file := range indexes {
		data, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		index, err := apk.ReadIndex(bytes.NewReader(data), apk.Verify{Keyring: keyring})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, info := range index.Packages {
			if err := readWhole(filepath.Join(filepath.Dir(file), info.FileName()), info, keyring); err != nil {
				p.t.Errorf("package %s of the index: %v", info.Name, err)
			}
		}
	}
}

// readWhole verifies a package by the index and by its signature, to its end.
func readWhole(file string, info *apk.Package, keyring apk.Keyring) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	if stat.Size() != info.Size {
		return fmt.Errorf("%d bytes, the index says %d", stat.Size(), info.Size)
	}
	r, err := apk.Open(f, apk.Verify{Keyring: keyring, Checksum: &info.Checksum})
	for err == nil {
		_, _, err = r.Next()
	}
	if err != io.EOF {
		return err
	}
	return nil
}

// checkNothingLeft wants that processes and mounts are gone with the build: as
// soon as the kernel gets to it.
func (p place) checkNothingLeft() {
	p.t.Helper()
	left := ""
	for range 100 {
		var err error
		if left, err = straysOf(p.dir); err != nil {
			p.t.Fatal(err)
		} else if left == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.t.Errorf("left behind:\n%s", left)
}
