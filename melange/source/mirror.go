package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// A DigestMirror is a folder, or the address of one on an HTTP server, that
// holds files by digest: sha256/HEX and sha512/HEX. A Store's folder is one; so
// is the cache that another melange keeps, where they are sha256:HEX.
type DigestMirror struct {
	Address string
	HTTP    *http.Client // nil: one that goes by the proxies of the environment
}

func (m DigestMirror) String() string {
	if u, err := url.Parse(m.Address); err == nil {
		return u.Redacted()
	}
	return m.Address
}

// Fetch writes the wanted file, which nobody has verified.
func (m DigestMirror) Fetch(ctx context.Context, want Want, w io.Writer) error {
	for _, d := range want.digests() {
		r, err := m.open(ctx, d.algorithm, strings.ToLower(d.hex))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("mirror %v: %w", m, err)
		}
		_, err = io.Copy(w, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("mirror %v: %w", m, err)
		}
		return nil
	}
	return fs.ErrNotExist
}

func (m DigestMirror) open(ctx context.Context, algorithm, digest string) (io.ReadCloser, error) {
	if !strings.Contains(m.Address, "://") {
		f, err := os.Open(filepath.Join(m.Address, algorithm, digest))
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.Open(filepath.Join(m.Address, algorithm+":"+digest))
		}
		return f, err
	}
	address, err := url.JoinPath(m.Address, algorithm, digest)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := m.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound, http.StatusGone:
		err = fs.ErrNotExist
	default:
		err = fmt.Errorf("the server answers %s", resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}
