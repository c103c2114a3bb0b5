package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
)

// A Snapshot is one state of an index, which can be told from others before it is read.
type Snapshot struct {
	// Digest is of the index as it lies in the repository. Nobody has verified it: what was once made of an
	// index with this digest, for the same keys, is what would be made of it now.
	Digest cas.Digest

	client  *Client
	source  Source
	place   place
	arch    apk.Arch
	content []byte // of an index in a folder, if it had to be read to know its digest

	record string      // file of what is remembered of this index; empty: nothing is
	seen   int         // the generation that was remembered before the repository was asked
	answer cachedIndex // what to remember of this state once it is accepted
}

// ErrOlder is the cause when a repository shows a state before one that it has shown already: it was put
// back behind its publisher's back, by who can keep others from getting what is new. All programs have the flag.
var ErrOlder = errors.New("an older state than was seen before (--allow-older-index takes it)")

// Snapshot asks the repository for the state of its index. It reads the index only if it is another than
// last time. A repository that has none is fs.ErrNotExist.
func (c *Client) Snapshot(ctx context.Context, s Source, arch apk.Arch) (*Snapshot, error) {
	p, err := s.place()
	if err != nil {
		return nil, err
	}
	x := &Snapshot{client: c, source: s, place: p, arch: arch}
	if err := x.look(ctx); err != nil {
		return nil, x.failed(err)
	}
	return x, nil
}

func (x *Snapshot) failed(err error) error {
	return fmt.Errorf("reading index of %s: %w", x.place.file(x.arch, ""), err)
}

// look finds out which state there is. What the server sends lies in the cache then, unverified.
func (x *Snapshot) look(ctx context.Context) (err error) {
	if x.record, err = x.recordFile(); err != nil {
		return err
	}
	old := readRecord(x.record)
	x.seen = old.Generation
	if x.place.folder != "" {
		x.Digest, x.content, err = x.client.folderIndex(x.place.file(x.arch, indexFile))
		return err
	}
	if x.answer, err = x.client.refresh(ctx, x.place, x.arch, old); err == nil {
		x.Digest = x.answer.Content
	}
	return err
}

// Seen is the newest generation that this repository was known to have before it was asked.
func (x *Snapshot) Seen() int { return x.seen }

// Open returns the verified index to read, and sets Digest to what it is: a repository in a folder may have
// changed meanwhile. Who has read it still has to Accept its generation.
func (x *Snapshot) Open(ctx context.Context) (*apk.IndexReader, error) {
	b, err := x.bytes(ctx)
	if err != nil {
		return nil, x.failed(err)
	}
	r, err := apk.OpenIndex(b, x.verify())
	if err != nil {
		return nil, x.failed(err)
	}
	return r, nil
}

// verify is how the index is verified.
func (x *Snapshot) verify() apk.Verify {
	return apk.Verify{Keyring: x.source.Keyring, Insecure: x.source.Insecure, Limits: x.client.Limits.Limits}
}

// bytes returns the index, unverified, and sets Digest to what it is.
func (x *Snapshot) bytes(ctx context.Context) (b []byte, err error) {
	if b, x.content = x.content, nil; b != nil {
		return b, nil
	}
	if x.place.folder != "" {
		b, err = os.ReadFile(x.place.file(x.arch, indexFile))
		x.Digest = cas.DigestOf(b)
		return b, err
	}
	store := cas.Store{Dir: x.client.Cache}
	b, err = store.ReadAll(x.Digest)
	if err == nil {
		return b, nil
	}
	// Damaged, or collected between two steps: it is not there any more, so it will be fetched anew.
	if err := x.look(ctx); err != nil {
		return nil, err
	}
	return store.ReadAll(x.Digest)
}

// Accept takes this state for the present one of its repository, given the generation that its verified
// index is of. One that is older than what was seen before is ErrOlder, and what was seen stays remembered;
// unless the client allows it.
func (x *Snapshot) Accept(generation int) error {
	if generation < x.seen && !x.client.AllowOlder {
		state := fmt.Sprintf("generation %d", generation)
		if generation == 0 {
			state = "no generation"
		}
		return x.failed(fmt.Errorf("%s after generation %d: %w", state, x.seen, ErrOlder))
	}
	x.answer.Generation = generation
	if x.record == "" || readRecord(x.record) == x.answer {
		return nil
	}
	if err := x.remember(); err != nil {
		return x.failed(err)
	}
	return nil
}

// remember keeps the answer, unless somebody else has meanwhile got a newer one.
func (x *Snapshot) remember() error {
	dir := filepath.Dir(x.record)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	lock, err := openLocked(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if readRecord(x.record).Generation > x.answer.Generation && !x.client.AllowOlder {
		return nil
	}
	b, err := json.Marshal(x.answer)
	if err != nil {
		return err
	}
	return writeFile(x.record, b)
}

// recordFile is where the client remembers the index. A folder that was made anew at the same place is
// another repository, which begins to count anew.
func (x *Snapshot) recordFile() (string, error) {
	if x.client.Cache == "" {
		return "", nil
	}
	name := ""
	if x.place.folder == "" {
		name = x.place.url.JoinPath(string(x.arch), indexFile).String()
	} else {
		dir, err := filepath.Abs(x.place.folder)
		if err != nil {
			return "", err
		}
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
			return "", &fs.PathError{Op: "stat", Path: dir, Err: err}
		}
		name = fmt.Sprintf("%s %d %d.%d", filepath.Join(dir, string(x.arch)), st.Ino, st.Btime.Sec, st.Btime.Nsec)
	}
	return filepath.Join(x.client.Cache, "index", cas.DigestOf([]byte(name)).Hash+".json"), nil
}

// folderIndex returns the digest of a file, and its content if that was read. With a cache a file that was not
// touched is not read again.
func (c *Client) folderIndex(name string) (d cas.Digest, content []byte, err error) {
	read := func() (cas.Digest, error) {
		content, err = os.ReadFile(name)
		return cas.DigestOf(content), err
	}
	if c.Cache == "" {
		d, err = read()
		return d, content, err
	}
	name, err = filepath.Abs(name)
	if err != nil {
		return cas.Digest{}, nil, err
	}
	known, err := cas.OpenStat(filepath.Join(c.Cache, "index", "stat"))
	if err != nil {
		return cas.Digest{}, nil, err
	}
	if d, err = known.DigestBy(name, read); err != nil {
		return cas.Digest{}, nil, err
	}
	if err := known.Save(); err != nil {
		c.log("remembering %s: %v", name, err)
	}
	return d, content, nil
}

// A cachedIndex is what is remembered of an index: the last state that was accepted, and, to ask next time
// only for a newer one, what the server called it.
type cachedIndex struct {
	ETag       string     `json:"etag,omitempty"`
	Modified   string     `json:"modified,omitempty"` // as the server wrote it
	From       string     `json:"from,omitempty"`     // the mirror that said so
	Content    cas.Digest `json:"content,omitzero"`   // not of a folder
	Generation int        `json:"generation,omitempty"`
}

// readRecord returns what is remembered; there being nothing, or nothing of use, is the zero value.
func readRecord(file string) cachedIndex {
	var r cachedIndex
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, &r) != nil {
		return cachedIndex{}
	}
	return r
}

// maxIndex is far more than the compressed index of any distribution has.
const maxIndex = 256 << 20

// refresh sees to it that the newest index is in the cache, unverified, and tells what to remember of it.
func (c *Client) refresh(ctx context.Context, p place, arch apk.Arch, old cachedIndex) (cachedIndex, error) {
	store := cas.Store{Dir: c.Cache}
	if !store.Has(old.Content) {
		old = cachedIndex{}
	}
	if c.Offline {
		if old.Content.IsZero() {
			return cachedIndex{}, ErrOffline
		}
		return old, nil
	}
	var body memory
	res, err := c.get(ctx, request{place: p, arch: arch, name: indexFile, max: c.Limits.response(maxIndex), known: old}, &body)
	if err != nil || res.notModified {
		return old, err
	}
	res.known.Content, err = store.PutBytes(body.Bytes())
	return res.known, err
}
