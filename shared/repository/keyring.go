package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"distro.internal/shared/apk"
)

// maxKey is far more than any public key has.
const maxKey = 64 << 10

// Keyring reads public keys: files, or https URLs that somebody has named. A key that was fetched once is not fetched
// again, so that whoever comes to rule the server later cannot put another in its place.
func (c *Client) Keyring(ctx context.Context, keys ...string) (apk.Keyring, error) {
	files := make([]string, len(keys))
	for i, key := range keys {
		files[i] = key
		if !strings.Contains(key, "://") {
			continue
		}
		at, err := placeOf(key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("key: %w", err)
		case at.folder != "":
			files[i] = at.folder
			continue
		case at.url.Scheme != "https":
			return nil, fmt.Errorf("key %s: who stands between here and the server could give another: name a file or an https URL", at.file("", ""))
		}
		if files[i], err = c.key(ctx, at); err != nil {
			return nil, fmt.Errorf("getting key %s: %w", at.file("", ""), err)
		}
	}
	return apk.LoadKeyring(files...)
}

// key returns a file that holds the key of an https URL.
func (c *Client) key(ctx context.Context, at place) (string, error) {
	sum := sha256.Sum256([]byte(at.url.String()))
	file := filepath.Join(c.Cache, "keys", hex.EncodeToString(sum[:8]), path.Base(at.url.Path))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if c.Offline {
		return "", ErrOffline
	}
	dir := *at.url
	dir.Path, dir.RawPath = path.Dir(dir.Path), ""
	var content memory
	if _, err := c.get(ctx, request{place: place{url: &dir, user: at.user}, name: path.Base(at.url.Path), max: maxKey}, &content); err != nil {
		return "", err
	}
	if _, err := apk.DecodePublicKey(content.Bytes()); err != nil {
		return "", err
	}
	return file, writeFile(file, content.Bytes())
}
