package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"distro.internal/shared/apk"
)

// A sample is the distribution of this repository, made by these tests as "make world" makes it: in
// the repository's own folder, with the user's cache and key.
type sample struct {
	surroundings surroundings
	flags        workspaceFlags
	*world
}

// TestSample proves that what the world command makes is right: everything is built, run on
// both architectures, given to programs that others wrote, and built again to be the same.
func TestSample(t *testing.T) {
	s := sample{flags: workspaceFlags{dir: "..", file: "ci/world.yaml"}}
	cache, err := os.UserCacheDir()
	must(t, err)
	config, err := os.UserConfigDir()
	must(t, err)
	s.surroundings.cache = filepath.Join(cache, "distro")
	s.surroundings.config = filepath.Join(config, "distro")
	s.flags.cache = s.surroundings.cache
	s.command(t, "build")
	s.world, err = openForReading(t.Context(), s.surroundings, &s.flags)
	must(t, err)

	t.Run("Again", s.again)
	t.Run("Repository", s.repositoryHolds)
	t.Run("Images", s.imagesRun)
	t.Run("Shells", s.shells)
	t.Run("Judges", s.judged)
	t.Run("Verify", func(t *testing.T) { t.Log(lastLine(s.command(t, "verify"))) })
}

// command runs the world command and returns what it says.
func (s *sample) command(t testing.TB, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	with := s.surroundings
	with.stdout, with.stderr = &out, &out
	args = append(args, "-C", s.flags.dir)
	if code := execute(t.Context(), with, args); code != 0 {
		t.Fatalf("world %s: exit code %d\n%s", strings.Join(args, " "), code, &out)
	}
	return out.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// again builds what is built. How long that takes is told, and not judged: the machine may be busy.
func (s *sample) again(t *testing.T) {
	began := time.Now()
	said := s.command(t, "build")
	t.Logf("the second build took %v", time.Since(began).Round(time.Millisecond))
	if !strings.Contains(said, "nothing to do") {
		t.Errorf("the second build said\n%s", said)
	}
}

// repositoryHolds reads every index and every file of every package as a client would that knows the public key only.
func (s *sample) repositoryHolds(t *testing.T) {
	keyring, err := apk.LoadKeyring(s.path(filepath.Join(s.config.Keys, "distro.rsa.pub")))
	must(t, err)
	for _, arch := range s.config.Archs {
		dir := s.out("repository", arch)
		index := readIndex(t, filepath.Join(dir, "APKINDEX.tar.gz"), keyring)
		files := 0
		for _, p := range index.Packages {
			n, err := readPackage(filepath.Join(dir, p.FileName()), p, keyring)
			if err != nil {
				t.Errorf("%s: %s: %v", arch, p.FileName(), err)
			}
			files += n
		}
		if len(index.Packages) == 0 || files == 0 {
			t.Errorf("%s: %d packages with %d files", arch, len(index.Packages), files)
		}
		t.Logf("%s: %d packages with %d files", arch, len(index.Packages), files)
	}
}

func readIndex(t *testing.T, file string, keyring apk.Keyring) *apk.Index {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	index, err := apk.ReadIndex(f, apk.Verify{Keyring: keyring})
	must(t, err)
	return index
}

// readPackage reads a package to its end, which is where its digests are known to be right.
func readPackage(file string, want *apk.Package, keyring apk.Keyring) (files int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() != want.Size {
		return 0, fmt.Errorf("it has %d bytes, and %d in the index", info.Size(), want.Size)
	}
	r, err := apk.Open(f, apk.Verify{Keyring: keyring, Checksum: &want.Checksum})
	if err != nil {
		return 0, err
	}
	for {
		_, content, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return files, err
		}
		files++
	}
}
