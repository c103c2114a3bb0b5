package stage0

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// connections is how many apt-helpers fetch at a time: apt itself opens one
// connection to each host.
const connections = 4

// batchSize is about how many bytes one apt-helper fetches, so that progress is
// seen and that few are lost when one fails.
const batchSize = 16 << 20

// Download brings every package of the lock into the cache and returns their
// files in the order of the lock. What is in the cache is not fetched again.
func Download(ctx context.Context, c Config) ([]string, error) {
	files := make([]string, len(c.Lock.Pins))
	var missing []wanted
	for i, p := range c.Lock.Pins {
		files[i] = filepath.Join(c.Cache, p.SHA256)
		if info, err := os.Stat(files[i]); err != nil || info.Size() != p.Size {
			missing = append(missing, wanted{path: p.Path, sha256: p.SHA256, size: p.Size})
		}
	}
	if len(missing) == 0 {
		return files, nil
	}
	absent, err := c.Apt.fetch(ctx, missing, c.Cache, func(done, total int64) { c.progress(StageDownload, done, total) })
	if err != nil {
		return nil, err
	}
	if len(absent) > 0 {
		return nil, &VanishedError{Suite: c.Lock.Suite, Paths: absent}
	}
	return files, nil
}

// A VanishedError names pinned packages that Debian's archive has no more: it
// keeps only the newest version of each.
type VanishedError struct {
	Suite string
	Paths []string
}

func (e *VanishedError) Error() string {
	return fmt.Sprintf("fetching packages of Debian %s: the archive has no longer %s: %v",
		e.Suite, strings.Join(e.Paths, ", "), errStale)
}

// Unwrap tells that the lock is to be made anew.
func (e *VanishedError) Unwrap() error { return errStale }

// wanted is a file of the archive.
type wanted struct {
	path, sha256 string
	size         int64
}

// fetch brings files of the archive into dir, named by their digests. It asks
// the machine's mirrors in turn, and returns the paths that none of them has.
func (a Apt) fetch(ctx context.Context, files []wanted, dir string, progress func(done, total int64)) (absent []string, err error) {
	mirrors, err := a.mirrors(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(dir, ".fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	var done, total atomic.Int64
	for _, f := range files {
		total.Add(f.size)
	}
	var failure error
	for _, m := range mirrors {
		r, err := newRoot(ctx, filepath.Join(work, "apt"), m, "deb")
		if err != nil {
			return nil, err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(connections)
		failures := make([]error, len(files))
		for i, batch := range batches(files) {
			g.Go(func() error {
				failures[i] = r.download(gctx, batch, work)
				for _, f := range batch {
					if keep(filepath.Join(work, f.sha256), filepath.Join(dir, f.sha256), f) == nil {
						progress(done.Add(f.size), total.Load())
					}
				}
				return gctx.Err()
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		files = stillWanted(files, dir)
		if len(files) == 0 {
			return nil, nil
		}
		failure = errors.Join(append(failures, failure)...)
	}
	for _, f := range files {
		if failure == nil || !strings.Contains(failure.Error(), f.path+"  404") {
			return nil, fmt.Errorf("fetching %s: %w", f.path, cmp.Or(failure, fs.ErrNotExist))
		}
		absent = append(absent, f.path)
	}
	return absent, nil
}

// download has apt fetch files into dir. Some may be there when it fails.
func (r *root) download(ctx context.Context, files []wanted, dir string) error {
	args := []string{"-q", "download-file"}
	for _, f := range files {
		args = append(args, r.uri+"/"+f.path, filepath.Join(dir, f.sha256), "SHA256:"+f.sha256)
	}
	_, err := r.run(ctx, helper, args...)
	return err
}

// keep moves a fetched file to its place when it is the one that was wanted.
func keep(from, to string, want wanted) error {
	if err := verify(from, want.sha256); err != nil {
		return err
	}
	if err := os.Chmod(from, 0o644); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// verify reports whether a file has the digest.
func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the SHA-256 %s, not %s", file, got, want)
	}
	return nil
}

func stillWanted(files []wanted, dir string) (missing []wanted) {
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(dir, f.sha256)); err != nil {
			missing = append(missing, f)
		}
	}
	return missing
}

// batches cuts a list of files into parts of about batchSize bytes.
func batches(files []wanted) [][]wanted {
	var all [][]wanted
	size := int64(batchSize)
	for _, f := range files {
		if size >= batchSize {
			all, size = append(all, nil), 0
		}
		last := len(all) - 1
		all[last] = append(all[last], f)
		size += f.size
	}
	return all
}
