// Package cas keeps content under its own name, and the results of actions under the digest of what was
// asked. It knows digests, blobs and results; what the blobs mean and what an action does, others know.
//
// A Store is a directory that any number of processes use at the same time:
//
//	sha256/ab/<hash>   a blob
//	ac/ab/<hash>       the result of the action of that digest, as JSON
//	tmp/               what is being written; it gets its name when it is whole, a blob also when it is on the disk
//	lock               held shared while something is found and marked as used, exclusively while GC removes
//
// A file's modification time is the time of its last use, which is what GC goes by.
package cas

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Store is a directory of blobs and action results. It is made when first written to.
type Store struct {
	Dir string
}

// ErrCorrupt is the cause when stored content is not what its name says.
var ErrCorrupt = errors.New("content does not match its digest")

// Path is where the blob lies or would lie. Reading it there goes without verification.
func (s Store) Path(d Digest) string { return s.name("sha256", d) }

func (s Store) name(kind string, d Digest) string {
	if d.check() != nil {
		return filepath.Join(s.Dir, kind, "invalid")
	}
	return filepath.Join(s.Dir, kind, d.Hash[:2], d.Hash)
}

// Has reports whether the blob is here, and marks it as used: GC leaves it alone for a while.
func (s Store) Has(d Digest) bool {
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return false
	}
	defer unlock()
	return s.use(d)
}

// use is Has under the lock.
func (s Store) use(d Digest) bool {
	info, err := os.Stat(s.Path(d))
	if err != nil || !info.Mode().IsRegular() || info.Size() != d.Size {
		return false
	}
	markUsed(s.Path(d), info)
	return true
}

// markUsed is allowed to fail: in a store that is only readable nothing is collected either.
func markUsed(file string, info fs.FileInfo) {
	if now := time.Now(); now.Sub(info.ModTime()) > stampEvery {
		os.Chtimes(file, time.Time{}, now)
	}
}

// stampEvery is how coarse the time of last use is, to spare the disk a write with every look.
const stampEvery = time.Minute

// Stamp names the state of the store's folders: as long as it is the same nothing was added and nothing removed.
// It is empty while they have just changed, for then they may change once more and look the same.
func (s Store) Stamp() string {
	h := sha256.New()
	now := time.Now()
	for _, kind := range []string{"ac", "sha256"} {
		for i := range 256 {
			var st unix.Stat_t
			err := unix.Stat(filepath.Join(s.Dir, kind, fmt.Sprintf("%02x", i)), &st)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil || now.Sub(time.Unix(st.Mtim.Unix())) < atRest {
				return ""
			}
			fmt.Fprintln(h, kind, i, st.Dev, st.Ino, st.Mtim.Nano(), st.Ctim.Nano())
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Put stores what r holds.
func (s Store) Put(ctx context.Context, r io.Reader) (Digest, error) {
	return s.put(ctx, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	}, func(Digest) error { return nil })
}

// Take stores what write writes, which must be the blob that d names; else nothing is stored, and the error is
// ErrCorrupt.
func (s Store) Take(ctx context.Context, d Digest, write func(io.Writer) error) error {
	_, err := s.put(ctx, write, func(got Digest) error {
		if got != d {
			return fmt.Errorf("it is %s: %w", got, ErrCorrupt)
		}
		return nil
	})
	return err
}

// put stores what write writes, if check has nothing against it.
func (s Store) put(ctx context.Context, write func(io.Writer) error, check func(Digest) error) (Digest, error) {
	f, err := s.temp()
	if err != nil {
		return Digest{}, err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	w := &measured{ctx: ctx, w: f, h: sha256.New()}
	err = write(w)
	d := Digest{Hash: hex.EncodeToString(w.h.Sum(nil)), Size: w.n}
	if err == nil {
		err = check(d)
	}
	if err == nil {
		err = finish(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return Digest{}, fmt.Errorf("storing content: %w", err)
	}
	if s.Has(d) {
		return d, nil
	}
	return d, s.rename(f.Name(), s.Path(d))
}

// PutBytes stores content that is in memory.
func (s Store) PutBytes(b []byte) (Digest, error) {
	if d := DigestOf(b); s.Has(d) {
		return d, nil
	}
	return s.Put(context.Background(), bytes.NewReader(b))
}

// PutFile stores the content of a file.
func (s Store) PutFile(name string) (Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	return s.Put(context.Background(), f)
}

func (s Store) temp() (*os.File, error) {
	dir := filepath.Join(s.Dir, "tmp")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "blob-")
}

// finish brings what was written to the disk, before a name can lead to it, and keeps it from being
// changed by accident.
func finish(f *os.File) error {
	return errors.Join(f.Chmod(0o444), f.Sync())
}

func (s Store) rename(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Open opens the blob for reading. The last Read returns io.EOF only if all that was read has the
// digest; else ErrCorrupt, and the blob is removed. A Seek that leaves the straight way from start to end
// reads and verifies everything first. An absent blob is fs.ErrNotExist.
func (s Store) Open(d Digest) (io.ReadSeekCloser, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.Path(d))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	b := &blob{file: f, store: s, digest: d, hash: sha256.New()}
	if info.Size() != d.Size {
		defer f.Close()
		return nil, b.corrupt()
	}
	markUsed(f.Name(), info)
	return b, nil
}

// ReadAll returns the verified content of the blob.
func (s Store) ReadAll(d Digest) ([]byte, error) {
	r, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, 0, d.Size+bytes.MinRead)
	w := bytes.NewBuffer(b)
	_, err = w.ReadFrom(r)
	return w.Bytes(), err
}

// blob hashes what is read in passing.
type blob struct {
	file     *os.File
	store    Store
	digest   Digest
	hash     hash.Hash // of what was read so far
	verified bool      // all of it was read and is right
}

func (b *blob) Read(p []byte) (int, error) {
	n, err := b.file.Read(p)
	if b.verified {
		return n, err
	}
	b.hash.Write(p[:n])
	if err == io.EOF {
		if hex.EncodeToString(b.hash.Sum(nil)) != b.digest.Hash {
			return n, b.corrupt()
		}
		b.verified = true
	}
	return n, err
}

func (b *blob) Seek(offset int64, whence int) (int64, error) {
	if b.verified {
		return b.file.Seek(offset, whence)
	}
	at, err := b.file.Seek(0, io.SeekCurrent)
	if err != nil || (offset == 0 && whence == io.SeekCurrent) {
		return at, err
	}
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	b.hash.Reset()
	if offset == 0 && whence == io.SeekStart {
		return 0, nil
	}
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{b}); err != nil {
		return 0, err
	}
	if whence == io.SeekCurrent {
		offset, whence = at+offset, io.SeekStart
	}
	return b.file.Seek(offset, whence)
}

func (b *blob) Close() error { return b.file.Close() }

// corrupt takes the bad content away, so that the next Put can bring it back.
func (b *blob) corrupt() error {
	os.Remove(b.file.Name())
	return fmt.Errorf("reading blob %s: %w", b.digest, ErrCorrupt)
}

// measured takes the digest of what is written, and ends when its context does.
type measured struct {
	ctx context.Context
	w   io.Writer
	h   hash.Hash
	n   int64
}

func (m *measured) Write(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(p)
	m.h.Write(p[:n])
	m.n += int64(n)
	return n, err
}

// lock holds the store's lock in the given way until unlock is called.
func (s Store) lock(how int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return func() {}, nil // somebody else's store, of which we can remove nothing
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return func() { f.Close() }, nil
}
