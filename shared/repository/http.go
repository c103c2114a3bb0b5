package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
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

// A request is for one file of a repository.
type request struct {
	place
	arch  apk.Arch
	name  string
	max   int64       // bytes that the file may have
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

// get downloads the file. It goes on where the line broke, asks mirrors in turn, and repeats what may go
// better next time.
func (c *Client) get(ctx context.Context, r request, w sink) (response, error) {
	wait := c.Backoff
	if wait == 0 {
		wait = 500 * time.Millisecond
	}
	validator := ""
	addresses := c.addresses(r.place)
	for attempt := 1; ; attempt++ {
		var problem error       // of the repository itself, rather than of a mirror
		var after time.Duration // what a server asks for
		temporary := false
		for _, at := range addresses {
			res, err := c.try(ctx, at, r, w, &validator)
			if err == nil {
				res.known.From = at.from(r.place)
				return res, nil
			}
			if ctx.Err() != nil {
				return response{}, context.Cause(ctx)
			}
			if problem == nil {
				problem = err
			}
			var again *temporaryError
			if errors.As(err, &again) {
				temporary, after = true, max(after, again.after)
			}
			if len(addresses) > 1 {
				c.log("%s: %v", at.file(r.arch, r.name), err)
				validator = ""
			}
			if validator == "" { // nobody could tell whether the rest belongs to what is here
				if err := w.reset(); err != nil {
					return response{}, err
				}
			}
		}
		if !temporary || attempt == attempts {
			return response{}, problem
		}
		pause := max(wait, after)
		c.log("%s: %v; trying again in %v", r.file(r.arch, r.name), problem, pause)
		select {
		case <-ctx.Done():
			return response{}, context.Cause(ctx)
		case <-time.After(pause):
		}
		wait *= 2
	}
}

// from is what a place is called in a record: nothing, if it is the repository's own.
func (p place) from(own place) string {
	if p == own {
		return ""
	}
	return p.file("", "")
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

// errSilent is the cause when a server says nothing for too long.
var errSilent = errors.New("nothing came for too long")

// try makes one request. validator is what the server calls the content that w has the beginning of.
func (c *Client) try(ctx context.Context, at place, r request, w sink, validator *string) (response, error) {
	patience := cmp.Or(c.Patience, time.Minute)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(patience, func() { cancel(errSilent) })
	defer silence.Stop()
	failed := func(err error) error {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		return &temporaryError{err: withoutAddress(err)}
	}
	have := w.size()
	req, err := c.request(ctx, at, r, have, *validator)
	if err != nil {
		return response{}, err
	}
	res, err := c.client().Do(req)
	var stranger *tls.CertificateVerificationError
	switch {
	case errors.As(err, &stranger), errors.Is(err, errDowngrade):
		return response{}, withoutAddress(err)
	case err != nil:
		return response{}, failed(err)
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
	body := patient{io.LimitReader(res.Body, r.max-w.size()+1), silence, patience}
	if _, err := io.Copy(w, body); err != nil {
		return response{}, failed(err)
	}
	if w.size() > r.max {
		return response{}, errors.Join(fmt.Errorf("%w of %d bytes", apk.ErrLimit, r.max), w.reset())
	}
	return response{known: known}, nil
}

func (c *Client) request(ctx context.Context, at place, r request, have int64, validator string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.url.JoinPath(string(r.arch), r.name).String(), nil)
	if err != nil {
		return nil, errors.New("the address is no URL")
	}
	c.authorize(req, at)
	switch known := r.known; {
	case have > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		if validator != "" {
			req.Header.Set("If-Range", validator)
		}
	case known.From != at.from(r.place): // what another called it says nothing here
	case known.ETag != "":
		req.Header.Set("If-None-Match", known.ETag)
	case known.Modified != "":
		req.Header.Set("If-Modified-Since", known.Modified)
	}
	// What is compressed already must come as it is: its bytes are what is hashed.
	req.Header.Set("Accept-Encoding", "identity")
	return req, nil
}

// patient puts off the end of patience whenever something comes.
type patient struct {
	io.Reader
	silence  *time.Timer
	patience time.Duration
}

func (p patient) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.silence.Reset(p.patience)
	return n, err
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

var errDowngrade = errors.New("server leads from https to http")

// client follows redirections, but not into the open, and shows no login to whom it is not for.
func (c *Client) client() *http.Client {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("redirected too often")
		}
		if req.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https" {
			return errDowngrade
		}
		if req.URL.Host != via[0].URL.Host {
			req.Header.Del("Authorization")
		}
		return nil
	}
	return &client
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
