package repository

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/cas"
	"distro.internal/shared/eviction"
)

// indexFile is where apk looks for an index.
const indexFile = "APKINDEX.tar.gz"

// A Client reads repositories. Any number of goroutines may use one, and any number of processes one cache.
//
// The cache holds each package once, whatever repository it came from, under the digest of its content;
// no name in it tells an address. Folders are read in place.
type Client struct {
	Cache string // directory; needed for repositories that are no folders
	Access
	HTTP       *http.Client  // nil: the default one
	Offline    bool          // use what is in the cache, and fail at once where it is not
	AllowOlder bool          // take a state of a repository that is older than one seen before
	Backoff    time.Duration // before the first repetition of a request, then doubled; 0: half a second
	Patience   time.Duration // with a server that says nothing; 0: a minute
	Limits     Limits
	Log        func(message string)
}

// Limits bound what a hostile repository may make its reader spend. A zero field stands for the default.
type Limits struct {
	apk.Limits
	Response int64 // bytes of an answer; 256 MiB for an index, what the index says or 64 GiB for a package
}

func (l Limits) response(otherwise int64) int64 {
	if l.Response == 0 {
		return otherwise
	}
	return l.Response
}

// ErrOffline is the cause when something is not in the cache and the network may not be used.
var ErrOffline = errors.New("not in the cache, and offline")

// Index returns the verified index of one architecture. A repository that has none is fs.ErrNotExist.
func (c *Client) Index(ctx context.Context, s Source, arch apk.Arch) (*apk.Index, error) {
	x, err := c.Snapshot(ctx, s, arch)
	if err != nil {
		return nil, err
	}
	b, err := x.bytes(ctx)
	if err != nil {
		return nil, x.failed(err)
	}
	index, err := apk.ReadIndex(bytes.NewReader(b), x.verify())
	if err != nil {
		return nil, x.failed(err)
	}
	if err := x.Accept(index.Generation); err != nil {
		return nil, err
	}
	return index, nil
}

// writeFile writes a file that others see old or new, never half.
func writeFile(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	return atomicfile.WriteSynced(name, 0o644, atomicfile.Bytes(b))
}

// Fetch returns the file of the package: in the cache, or in place where the repository is a folder. It is
// the one that p, from a verified index, names by its checksum, all of it having been verified when it
// came into the cache. Who reads it verifies it again in passing, with that checksum.
func (c *Client) Fetch(ctx context.Context, s Source, p *apk.Package) (string, error) {
	at, err := s.place()
	if err != nil {
		return "", err
	}
	file, err := c.fetch(ctx, s, at, p)
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", at.file(s.archOf(p), p.FileName()), err)
	}
	return file, nil
}

// archOf is the folder that the package lies in.
func (s Source) archOf(p *apk.Package) apk.Arch {
	if s.Arch != "" && (p.Arch == "noarch" || p.Arch == "") {
		return s.Arch
	}
	return p.Arch
}

func (c *Client) fetch(ctx context.Context, s Source, at place, p *apk.Package) (string, error) {
	if p.Checksum.IsZero() {
		return "", errors.New("the index has no checksum for it")
	}
	if at.folder != "" {
		file := at.file(s.archOf(p), p.FileName())
		return file, verifyHead(file, p, c.Limits.Limits)
	}
	store := cas.Store{Dir: c.Cache}
	key := packageKey(p)
	if file, ok := c.cached(store, key, p); ok {
		return file, nil
	}
	if c.Offline {
		return "", ErrOffline
	}
	partial, err := openPartial(filepath.Join(c.Cache, "partial", hex.EncodeToString(p.Checksum[:])))
	if err != nil {
		return "", err
	}
	defer partial.close()
	if file, ok := c.cached(store, key, p); ok { // another process was faster
		return file, partial.remove()
	}
	if err := c.download(ctx, request{place: at, arch: s.archOf(p), name: p.FileName()}, partial, p); err != nil {
		return "", err
	}
	return adopt(ctx, store, key, partial)
}

// packageKey is what the cache remembers a package's file by.
func packageKey(p *apk.Package) cas.Digest {
	k := cas.NewKey("apk file/1")
	k.Add("checksum", p.Checksum.String())
	return k.Digest()
}

func (c *Client) cached(store cas.Store, key cas.Digest, p *apk.Package) (string, bool) {
	r, err := store.Result(key)
	if err != nil || len(r.Outputs) != 1 {
		return "", false
	}
	file := store.Path(r.Outputs[0].Digest)
	if verifyHead(file, p, c.Limits.Limits) != nil {
		os.Remove(file)
		return "", false
	}
	return file, true
}

// verifyHead looks at what costs next to nothing: the size, and that the control section is the right
// one. The data section is vouched for by it, and compared by every reader.
func verifyHead(file string, p *apk.Package, l apk.Limits) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if p.Size != 0 && info.Size() != p.Size {
		return fmt.Errorf("%d bytes long, not %d: %w", info.Size(), p.Size, apk.ErrChecksum)
	}
	_, err = apk.Open(f, apk.Verify{Checksum: &p.Checksum, Limits: l})
	return err
}

// verifyAll reads the whole package.
func verifyAll(f io.Reader, p *apk.Package, l apk.Limits) error {
	r, err := apk.Open(f, apk.Verify{Checksum: &p.Checksum, Limits: l})
	for err == nil {
		_, _, err = r.Next()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// maxPackage is what a package may have whose size the index does not say.
const maxPackage = 64 << 30

// download completes the partial file and verifies it. What an earlier run left is taken up again; should
// the whole then be wrong, everything is fetched anew once.
func (c *Client) download(ctx context.Context, r request, partial *partial, p *apk.Package) error {
	if r.max = p.Size; r.max == 0 || c.Limits.Response != 0 && c.Limits.Response < r.max {
		r.max = c.Limits.response(maxPackage)
	}
	if partial.size() > r.max {
		if err := partial.reset(); err != nil {
			return err
		}
	}
	resumed := partial.size() > 0
	for {
		if _, err := c.get(ctx, r, partial); err != nil {
			return err
		}
		_, err := partial.file.Seek(0, io.SeekStart)
		if err == nil {
			err = verifyAll(partial.file, p, c.Limits.Limits)
		}
		if err == nil && p.Size != 0 && partial.size() != p.Size {
			err = fmt.Errorf("%d bytes long, not %d: %w", partial.size(), p.Size, apk.ErrChecksum)
		}
		if err == nil {
			return nil
		}
		if err := errors.Join(err, partial.reset()); !resumed {
			return err
		}
		resumed = false
	}
}

// adopt makes the verified partial file a blob of the store.
func adopt(ctx context.Context, store cas.Store, key cas.Digest, partial *partial) (string, error) {
	if _, err := partial.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	d, err := store.Put(ctx, partial.file)
	if err != nil {
		return "", err
	}
	if err := store.SetResult(key, &cas.Result{Outputs: []cas.Output{{Name: "apk", Digest: d}}}); err != nil {
		return "", err
	}
	return store.Path(d), partial.remove()
}

// A Wanted is a package to fetch.
type Wanted struct {
	Source  Source
	Package *apk.Package
}

// FetchAll fetches packages, several at a time, and returns their files in the order of wanted.
func (c *Client) FetchAll(ctx context.Context, wanted []Wanted) ([]string, error) {
	const parallel = 8
	files := make([]string, len(wanted))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, w := range wanted {
		g.Go(func() (err error) {
			files[i], err = c.Fetch(ctx, w.Source, w.Package)
			return err
		})
	}
	return files, g.Wait()
}

// GC removes from the cache what was not used for olderThan, and then as much as must go for it to hold
// at most maxBytes, as cas.Store.GC does; also downloads that nobody has gone on with since.
func (c *Client) GC(olderThan time.Duration, maxBytes int64) (eviction.Collected, error) {
	if err := c.dropPartials(max(olderThan, cas.Grace)); err != nil {
		return eviction.Collected{}, err
	}
	return cas.Store{Dir: c.Cache}.GC(olderThan, maxBytes)
}

func (c *Client) dropPartials(olderThan time.Duration) error {
	files, err := filepath.Glob(filepath.Join(c.Cache, "partial", "*"))
	for _, name := range files {
		info, statErr := os.Stat(name)
		if statErr != nil || time.Since(info.ModTime()) < olderThan {
			continue
		}
		p, openErr := openPartial(name)
		if openErr != nil {
			return openErr
		}
		err = errors.Join(err, p.remove())
		p.close()
	}
	return err
}

// A partial is a file that is being downloaded, by one process at a time.
type partial struct {
	file *os.File
}

func openPartial(name string) (*partial, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return nil, err
	}
	for {
		f, err := openLocked(name)
		if err != nil {
			return nil, err
		}
		// Whoever had the lock may have finished and removed the file.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &partial{f}, nil
		}
		f.Close()
	}
}

// openLocked opens a file, making it if need be, when nobody else has it locked.
func openLocked(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	return f, nil
}

// Write appends.
func (p *partial) Write(b []byte) (int, error) { return p.file.WriteAt(b, p.size()) }

func (p *partial) size() int64 {
	info, err := p.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func (p *partial) reset() error { return p.file.Truncate(0) }

func (p *partial) remove() error { return os.Remove(p.file.Name()) }

func (p *partial) close() { p.file.Close() }
