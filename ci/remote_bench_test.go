package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkRemote is the first build of somebody with nothing but a checkout and the first tools, when the server has
// everything of the distribution of this repository, which must be made; beside it, of somebody who has everything. The
// limit is to write what that build publishes, each file through to the disk.
func BenchmarkRemote(b *testing.B) {
	cache, err := os.UserCacheDir()
	must(b, err)
	config, err := os.UserConfigDir()
	must(b, err)
	dir, err := os.MkdirTemp("", "casd-")
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	c, err := startCasd(casdRoot(b), dir)
	must(b, err)
	b.Cleanup(c.kill)
	s := sample{flags: workspaceFlags{dir: ".."}, surroundings: surroundings{cache: filepath.Join(cache, "distro"), config: filepath.Join(config, "distro")}}
	b.Log(s.command(b, "remote", "fill", c.address))

	first := b.TempDir()
	b.Log(s.checkout(b, first).command(b, "build", "--remote-cache", c.address)) // images are shared by who has made them
	for name, cache := range map[string]string{"fetch": "", "have": filepath.Join(first, "cache")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				other := s.checkout(b, b.TempDir())
				if cache != "" {
					other.surroundings.cache = cache
				}
				b.StartTimer()
				said := other.command(b, "build", "--remote-cache", c.address)
				if strings.Contains(said, "built   x86_64/") {
					b.Fatal(said)
				}
				b.Log(said)
			}
		})
	}
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			n := copySynced(b, filepath.Join(first, "out"), b.TempDir())
			b.SetBytes(n)
		}
	})
}

// checkout lays the workspace into another folder, for somebody with an empty cache.
func (s sample) checkout(b *testing.B, dir string) *sample {
	for _, name := range []string{"packages", "images"} {
		must(b, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(s.flags.dir, name))))
	}
	must(b, copyTo(filepath.Join(dir, "ci", "world.yaml"), filepath.Join(s.flags.dir, "ci", "world.yaml")))
	tools, err := filepath.Abs(filepath.Join(s.flags.dir, "out", "stage0"))
	must(b, err)
	must(b, os.MkdirAll(filepath.Join(dir, "out"), 0o755))
	must(b, os.Symlink(tools, filepath.Join(dir, "out", "stage0")))
	other := s
	other.flags.dir, other.surroundings.cache = dir, filepath.Join(dir, "cache")
	return &other
}

// copySynced copies the files of a folder and returns how many bytes they have.
func copySynced(b *testing.B, from, to string) (n int64) {
	must(b, filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.CreateTemp(to, "copy-")
		if err != nil {
			return err
		}
		defer out.Close()
		written, err := io.Copy(out, in)
		n += written
		if err == nil {
			err = out.Sync()
		}
		return err
	}))
	return n
}
