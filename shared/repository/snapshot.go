package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
)

// A Snapshot is one state of an index, which can be told from others before it is read.
type Snapshot struct {
	// Digest is of the index as it lies in the repository. Nobody has verified it: what was once made of a
	// Text with this digest, for the same keys, is what would be made of it now.
	Digest cas.Digest

	client *Client
	source Source
	place  place
	arch   apk.Arch
}

// Snapshot asks the repository for the state of its index. It reads the index only if it is another than
// last time. A repository that has none is fs.ErrNotExist.
func (c *Client) Snapshot(ctx context.Context, s Source, arch apk.Arch) (*Snapshot, error) {
	p, err := s.place()
	if err != nil {
		return nil, err
	}
	x := &Snapshot{client: c, source: s, place: p, arch: arch}
	if p.folder != "" {
		x.Digest, err = c.folderDigest(p.file(arch, indexFile))
	} else {
		x.Digest, err = c.refresh(ctx, p, arch)
	}
	if err != nil {
		return nil, x.failed(err)
	}
	return x, nil
}

func (x *Snapshot) failed(err error) error {
	return fmt.Errorf("reading index of %s: %w", x.place.file(x.arch, ""), err)
}

// Text returns the verified text of the index, and sets Digest to that of what it has read: a repository
// in a folder may have changed meanwhile.
func (x *Snapshot) Text(ctx context.Context) (string, error) {
	b, err := x.bytes(ctx)
	if err != nil {
		return "", x.failed(err)
	}
	text, err := apk.ReadIndexText(bytes.NewReader(b), x.source.verify())
	if err != nil {
		return "", x.failed(err)
	}
	return text, nil
}

// bytes returns the index, unverified, and sets Digest to what it is.
func (x *Snapshot) bytes(ctx context.Context) (b []byte, err error) {
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
	if x.Digest, err = x.client.refresh(ctx, x.place, x.arch); err != nil {
		return nil, err
	}
	return store.ReadAll(x.Digest)
}

// folderDigest returns the digest of a file. With a cache a file that was not touched is not read again.
func (c *Client) folderDigest(name string) (cas.Digest, error) {
	if c.Cache == "" {
		b, err := os.ReadFile(name)
		return cas.DigestOf(b), err
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return cas.Digest{}, err
	}
	known, err := cas.OpenStat(filepath.Join(c.Cache, "index", "stat"))
	if err != nil {
		return cas.Digest{}, err
	}
	d, err := known.Digest(name)
	if err != nil {
		return cas.Digest{}, err
	}
	if err := known.Save(); err != nil {
		c.log("remembering %s: %v", name, err)
	}
	return d, nil
}

// A cachedIndex is what is remembered of a request for an index, to ask next time only for a newer one.
type cachedIndex struct {
	ETag     string     `json:"etag,omitempty"`
	Modified string     `json:"modified,omitempty"` // as the server wrote it
	Content  cas.Digest `json:"content"`
}

// refresh sees to it that the newest index is in the cache, unverified, and returns its digest.
func (c *Client) refresh(ctx context.Context, p place, arch apk.Arch) (cas.Digest, error) {
	store := cas.Store{Dir: c.Cache}
	name := p.url.JoinPath(string(arch), indexFile).String()
	record := filepath.Join(c.Cache, "index", cas.DigestOf([]byte(name)).Hash+".json")
	var old cachedIndex
	if b, err := os.ReadFile(record); err != nil || json.Unmarshal(b, &old) != nil || !store.Has(old.Content) {
		old = cachedIndex{}
	}
	if c.Offline {
		if old.Content.IsZero() {
			return cas.Digest{}, ErrOffline
		}
		return old.Content, nil
	}
	var body memory
	res, err := c.get(ctx, request{place: p, arch: arch, name: indexFile, known: old}, &body)
	if err != nil || res.notModified {
		return old.Content, err
	}
	d, err := store.PutBytes(body.Bytes())
	if err != nil {
		return cas.Digest{}, err
	}
	res.known.Content = d
	b, err := json.Marshal(res.known)
	if err != nil {
		return cas.Digest{}, err
	}
	return d, writeFile(record, b)
}
