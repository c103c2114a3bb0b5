package repository

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/apk"
)

// HTTPClient returns a client that trusts the certificates (PEM) besides those of the system.
func HTTPClient(certificates []byte) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(certificates) {
		return nil, errors.New("reading certificates: none is there in PEM")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}

// A request is for one file of a repository.
type request struct {
	place
	arch  apk.Arch
	name  string
	known cachedIndex // ask only for what is newer
}

type response struct {
	notModified bool
	known       cachedIndex // without the content
}

// A sink takes what is downloaded. One that has something already is continued.
type sink interface {
	io.Writer
	size() int64
	reset() error
}

// memory is a sink for what is small.
type memory struct{ bytes.Buffer }

func (m *memory) size() int64  { return int64(m.Len()) }
func (m *memory) reset() error { m.Reset(); return nil }

// attempts is how often a request is made when the server or the line is at fault.
const attempts = 5

// get downloads the file. It goes on where the line broke, and repeats what may go better next time.
func (c *Client) get(ctx context.Context, r request, w sink) (response, error) {
	wait := c.Backoff
	if wait == 0 {
		wait = 500 * time.Millisecond
	}
	validator := ""
	for attempt := 1; ; attempt++ {
		res, err := c.try(ctx, r, w, &validator)
		var again *temporaryError
		if err == nil || ctx.Err() != nil || attempt == attempts || !errors.As(err, &again) {
			return res, err
		}
		if validator == "" { // nobody could tell whether the rest belongs to what is here
			if err := w.reset(); err != nil {
				return response{}, err
			}
		}
		pause := max(wait, again.after)
		c.log("%s: %v; trying again in %v", r.file(r.arch, r.name), err, pause)
		select {
		case <-ctx.Done():
			return response{}, context.Cause(ctx)
		case <-time.After(pause):
		}
		wait *= 2
	}
}

func (c *Client) log(format string, args ...any) {
	if c.Log != nil {
		c.Log(fmt.Sprintf(format, args...))
	}
}

// A temporaryError may be gone next time.
type temporaryError struct {
	err   error
	after time.Duration // what the server asks for
}

func (e *temporaryError) Error() string { return e.err.Error() }
func (e *temporaryError) Unwrap() error { return e.err }

// try makes one request. validator is what the server calls the content that w has the beginning of.
func (c *Client) try(ctx context.Context, r request, w sink, validator *string) (response, error) {
	u := r.url.JoinPath(string(r.arch), r.name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return response{}, errors.New("the address is no URL")
	}
	c.authorize(req, r.place)
	have := w.size()
	switch {
	case have > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		if *validator != "" {
			req.Header.Set("If-Range", *validator)
		}
	case r.known.ETag != "":
		req.Header.Set("If-None-Match", r.known.ETag)
	case r.known.Modified != "":
		req.Header.Set("If-Modified-Since", r.known.Modified)
	}
	// What is compressed already must come as it is: its bytes are what is hashed.
	req.Header.Set("Accept-Encoding", "identity")
	res, err := c.client().Do(req)
	var stranger *tls.CertificateVerificationError
	switch {
	case errors.As(err, &stranger):
		return response{}, withoutAddress(err)
	case err != nil:
		return response{}, &temporaryError{err: withoutAddress(err)}
	}
	defer res.Body.Close()
	known := cachedIndex{ETag: res.Header.Get("ETag"), Modified: res.Header.Get("Last-Modified")}
	whole, err := begin(res, w, have)
	if err != nil || whole {
		return response{notModified: res.StatusCode == http.StatusNotModified, known: known}, err
	}
	*validator = known.ETag
	if strings.HasPrefix(*validator, "W/") || *validator == "" {
		*validator = known.Modified
	}
	if _, err := io.Copy(w, res.Body); err != nil {
		return response{}, &temporaryError{err: withoutAddress(err)}
	}
	return response{known: known}, nil
}

// begin looks at the status and brings w to where the body begins. whole means that no body is needed.
func begin(res *http.Response, w sink, have int64) (whole bool, err error) {
	switch res.StatusCode {
	case http.StatusOK:
		return false, w.reset()
	case http.StatusPartialContent:
		if from, ok := rangeStart(res.Header.Get("Content-Range")); !ok || from != have {
			return false, errors.Join(fmt.Errorf("server answered with the range %q", res.Header.Get("Content-Range")), w.reset())
		}
		return false, nil
	case http.StatusNotModified:
		return true, nil
	case http.StatusRequestedRangeNotSatisfiable:
		if size, ok := strings.CutPrefix(res.Header.Get("Content-Range"), "bytes */"); ok && size == strconv.FormatInt(have, 10) && have > 0 {
			return true, nil
		}
		return false, errors.Join(&temporaryError{err: errors.New(res.Status)}, w.reset())
	case http.StatusNotFound, http.StatusGone:
		return false, fmt.Errorf("server answered %s: %w", res.Status, fs.ErrNotExist)
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return false, &temporaryError{fmt.Errorf("server answered %s", res.Status), retryAfter(res)}
	}
	err = fmt.Errorf("server answered %s", res.Status)
	if res.StatusCode >= 500 {
		return false, &temporaryError{err, retryAfter(res)}
	}
	return false, err
}

// maxRetryAfter bounds the patience that a server may ask for.
const maxRetryAfter = time.Minute

func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxRetryAfter)
}

// rangeStart reads "bytes 5-9/10".
func rangeStart(s string) (int64, bool) {
	s, ok := strings.CutPrefix(s, "bytes ")
	first, _, found := strings.Cut(s, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	return n, ok && found && err == nil
}

func (c *Client) client() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return http.DefaultClient
}

func (c *Client) authorize(req *http.Request, p place) {
	if p.user != nil {
		password, _ := p.user.Password()
		req.SetBasicAuth(p.user.Username(), password)
		return
	}
	if l, ok := c.Credentials.find(p.url); ok {
		req.SetBasicAuth(l.User, l.Password)
	}
}

// withoutAddress takes the address out of an error: it may hold a token, and whoever reads the error is
// told the rest of it anyway.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
