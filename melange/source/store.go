package source

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"distro.internal/melange/recipe"
)

// A Store keeps sources in a folder. Any number of goroutines and of processes
// may use one folder at a time.
type Store struct {
	Dir     string
	Mirrors []Mirror     // asked in turn, before the place that the recipe names
	HTTP    *http.Client // nil: one that goes by the proxies of the environment
	Offline bool         // fetch nothing

	// FilesOnly leaves history out: a git source is the files of the commit, without a .git.
	FilesOnly bool

	Tries   int           // of an HTTP server that fails; 0 = 5
	Backoff time.Duration // before the second try, doubled for each that follows; 0 = 500 ms

	// Environ is that of the go command, which knows by it where modules come
	// from. Nil: this process's.
	Environ []string

	// Progress, when set, is told how far a file has come. total is -1 when the
	// server does not say. Several files may be under way.
	Progress func(uri string, done, total int64)

	pip pipAnswer
}

// Want names a file by content. At least one of the digests is given.
type Want struct {
	SHA256, SHA512 string // hex; empty when not known
	SHA1           string // as old lock files have it; only where no other digest is known
	URI            string // where the recipe says it is
}

// A digest is one of the names of a file.
type digest struct {
	algorithm string // "sha256": the folder of such names
	name      string // "SHA-256": for people
	hex       string
	hash      func() hash.Hash
}

// digests are those that are known of a file, the one first that each file of the store has.
func (w Want) digests() []digest {
	all := []digest{
		{"sha256", "SHA-256", w.SHA256, sha256.New}, {"sha512", "SHA-512", w.SHA512, sha512.New}, {"sha1", "SHA-1", w.SHA1, sha1.New},
	}
	return slices.DeleteFunc(all, func(d digest) bool { return d.hex == "" })
}

// A Mirror has files by digest. What it writes is verified by its caller.
type Mirror interface {
	// Fetch writes the wanted file. The error is fs.ErrNotExist when the mirror
	// has it not; one that wraps it tells why, for when nobody else has it either.
	Fetch(ctx context.Context, want Want, w io.Writer) error
}

// A MismatchError is a file that is not the one that was wanted.
type MismatchError struct {
	From      string // URI, or the mirror
	Algorithm string // "SHA-256"
	Want, Got string // hex
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s has the %s %s, expected was %s", e.From, e.Algorithm, e.Got, e.Want)
}

// errOffline is the cause when something would have to be fetched.
var errOffline = errors.New("it is not in the store, and nothing is fetched now")

// File returns the path of a file in the store, which it fetches first when it
// is not there. The file must not be written to. A source without any digest is
// fetched each time.
func (s *Store) File(ctx context.Context, src recipe.Source) (string, error) {
	want := Want{SHA256: src.SHA256, SHA512: src.SHA512, URI: src.URI}
	if name, ok := s.lookup(want); ok {
		return name, nil
	}
	name, err := s.fetch(ctx, want)
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", src.URI, err)
	}
	return name, nil
}

// path is where a file of a digest lies.
func (s *Store) path(algorithm, digest string) string { return filepath.Join(s.Dir, algorithm, digest) }

// lookup finds a file that was verified when it was put there.
func (s *Store) lookup(want Want) (string, bool) {
	for _, d := range want.digests() {
		name := s.path(d.algorithm, d.hex)
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			return name, true
		}
	}
	return "", false
}

// fetch gets a file from the first place that has it.
func (s *Store) fetch(ctx context.Context, want Want) (string, error) {
	if s.Offline {
		return "", errOffline
	}
	part, err := s.partial(ctx, want)
	if err != nil {
		return "", err
	}
	defer part.Close()
	// Another process may have been at it while this one waited for the lock.
	if name, ok := s.lookup(want); ok {
		return name, part.discard()
	}
	var failures []error
	if len(want.digests()) > 0 {
		for _, m := range s.Mirrors {
			err := s.fromMirror(ctx, m, want, part)
			if err == nil {
				return s.adopt(part, want)
			}
			if err != fs.ErrNotExist { // who plainly has it not, has nothing to tell
				failures = append(failures, err)
			}
		}
	}
	if err := s.fromOrigin(ctx, want, part); err != nil {
		return "", errors.Join(append(failures, err)...)
	}
	return s.adopt(part, want)
}

func (s *Store) fromMirror(ctx context.Context, m Mirror, want Want, part *partial) error {
	if err := part.reset(); err != nil {
		return err
	}
	err := m.Fetch(ctx, want, part)
	if err == nil {
		err = part.verify(want, fmt.Sprintf("the file of mirror %v", m))
	}
	if err == nil {
		return nil
	}
	if failed := part.reset(); failed != nil {
		return errors.Join(err, failed)
	}
	return err
}

// A partial is a file on its way into the store. It is locked: one process at
// a time works on it, and the next goes on where one that died has stopped.
type partial struct {
	*os.File
}

func (s *Store) partial(ctx context.Context, want Want) (*partial, error) {
	dir := filepath.Join(s.Dir, "partial")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(want.SHA256 + "\n" + want.SHA512 + "\n" + want.SHA1 + "\n" + want.URI))
	name := filepath.Join(dir, hex.EncodeToString(sum[:]))
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, err
		}
		if err := lock(ctx, f); err != nil {
			return nil, errors.Join(fmt.Errorf("waiting for another process to fetch it: %w", err), f.Close())
		}
		// Who held the lock may have moved the file away: then this is no longer it.
		mine, err1 := f.Stat()
		there, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return &partial{f}, nil
		}
		f.Close()
	}
}

// lock takes the lock of a file, and stops waiting for it when the context ends.
func lock(ctx context.Context, f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *partial) reset() error   { return p.Truncate(0) }
func (p *partial) discard() error { return os.Remove(p.Name()) }

// verify reports whether the file is the one that is wanted.
func (p *partial) verify(want Want, from string) error {
	for _, d := range want.digests() {
		got, err := p.digest(d.hash())
		if err != nil {
			return err
		}
		if !strings.EqualFold(got, d.hex) {
			return &MismatchError{From: from, Algorithm: d.name, Want: d.hex, Got: got}
		}
	}
	return nil
}

func (p *partial) digest(h hash.Hash) (string, error) {
	if _, err := io.Copy(h, io.NewSectionReader(p.File, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("reading %s: %w", p.Name(), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// adopt gives a verified file its names in the store, by each known digest and
// always by its SHA-256.
func (s *Store) adopt(p *partial, want Want) (string, error) {
	if want.SHA256 == "" {
		got, err := p.digest(sha256.New())
		if err != nil {
			return "", err
		}
		want.SHA256 = got
	}
	if err := p.Sync(); err != nil {
		return "", err
	}
	name := s.path("sha256", want.SHA256)
	for _, d := range want.digests() {
		if err := os.MkdirAll(filepath.Join(s.Dir, d.algorithm), 0o755); err != nil {
			return "", err
		}
		if d.algorithm == "sha256" {
			continue // the name that the file gets in the end
		}
		if err := os.Link(p.Name(), s.path(d.algorithm, d.hex)); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	if err := os.Rename(p.Name(), name); err != nil {
		return "", err
	}
	// Not before: under its first name, others open it for writing to wait for its lock.
	return name, p.Chmod(0o444)
}

// Prepared is what Prepare has put together.
type Prepared struct {
	// Newest is the time of the newest file of the sources: a function of their
	// content. Zero when there are none.
	Newest time.Time

	Layout Layout // of what lock files among the sources name
}

// parallel is how many sources are fetched at a time.
const parallel = 4

// Fetch brings the sources into the store, all at a time, as far as they can be told without each other.
func (s *Store) Fetch(ctx context.Context, sources []recipe.Source) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, src := range sources {
		g.Go(func() error { return located(src, s.get(ctx, src)) })
	}
	return g.Wait()
}

// Prepare fetches the sources, and puts them into the workspace, one after another. What lock files name comes after
// all others, and into the folder of caches, which Layout tells of; without one it is only fetched.
func (s *Store) Prepare(ctx context.Context, sources []recipe.Source, workspace, caches string) (Prepared, error) {
	if err := s.Fetch(ctx, sources); err != nil {
		return Prepared{}, err
	}
	root, err := os.OpenRoot(workspace)
	if err != nil {
		return Prepared{}, err
	}
	defer root.Close()
	p := Prepared{Layout: Layout{Caches: caches}}
	for _, src := range sources {
		if src.Locked() {
			continue
		}
		newest, err := s.place(ctx, src, root)
		if err != nil {
			return Prepared{}, located(src, err)
		}
		if newest.After(p.Newest) {
			p.Newest = newest
		}
	}
	for _, src := range sources {
		if !src.Locked() {
			continue
		}
		if err := s.placeLocked(ctx, src, root, &p.Layout); err != nil {
			return Prepared{}, located(src, err)
		}
	}
	p.Layout.settle()
	return p, nil
}

// located says of an error where in the recipe its source stands.
func located(src recipe.Source, err error) error {
	if err == nil || src.Pos.Line == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", src.Pos, err)
}

// get fetches what can be fetched before other sources are in place.
func (s *Store) get(ctx context.Context, src recipe.Source) error {
	if src.Locked() {
		return nil
	}
	var err error
	switch src.Kind {
	case recipe.SourceFetch:
		_, err = s.File(ctx, src)
	case recipe.SourceGit:
		_, err = s.commit(ctx, src)
		for _, p := range src.CherryPicks {
			if err == nil {
				_, err = s.pickRepository(ctx, src, p)
			}
		}
	case recipe.SourceModule:
		_, err = s.module(ctx, src)
	default:
		err = fmt.Errorf("unknown kind of source %q", src.Kind)
	}
	return err
}

// place puts a source that was fetched into the workspace, and returns the time
// of its newest file.
func (s *Store) place(ctx context.Context, src recipe.Source, workspace *os.Root) (time.Time, error) {
	if err := workspace.MkdirAll(src.Directory, 0o755); err != nil {
		return time.Time{}, err
	}
	dir, err := workspace.OpenRoot(src.Directory)
	if err != nil {
		return time.Time{}, err
	}
	defer dir.Close()
	switch src.Kind {
	case recipe.SourceGit:
		return s.placeCommit(ctx, src, dir)
	case recipe.SourceModule:
		return s.placeModule(ctx, src, dir)
	}
	name, err := s.File(ctx, src)
	if err != nil {
		return time.Time{}, err
	}
	if !src.Extract {
		return time.Time{}, copyInto(dir, baseName(src.URI), name)
	}
	newest, err := unpack(ctx, name, dir, src.Strip)
	if err != nil {
		return time.Time{}, fmt.Errorf("unpacking %s: %w", src.URI, err)
	}
	return newest, nil
}
