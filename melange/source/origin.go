package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/chainguard-dev/clog"
)

// fromOrigin gets a file from where the recipe says it is.
func (s *Store) fromOrigin(ctx context.Context, want Want, part *partial) error {
	if want.URI == "" {
		return errNowhere
	}
	u, err := url.Parse(want.URI)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "http", "https":
		return s.fromServer(ctx, want, part)
	case "file":
		return fromDisk(u.Path, want, part)
	}
	return fmt.Errorf("scheme %q is none of http, https and file", u.Scheme)
}

func fromDisk(name string, want Want, part *partial) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := part.reset(); err != nil {
		return err
	}
	if _, err := io.Copy(part, f); err != nil {
		return err
	}
	if err := part.verify(want, want.URI); err != nil {
		return errors.Join(err, part.discard())
	}
	return nil
}

const (
	defaultTries   = 5
	defaultBackoff = 500 * time.Millisecond
	maxBackoff     = 30 * time.Second

	// stall is how long a server may send nothing.
	stall = time.Minute
)

// fromServer tries until the file is there or trying again is of no use. Each
// try goes on where the last one stopped.
func (s *Store) fromServer(ctx context.Context, want Want, part *partial) error {
	tries, backoff := s.Tries, s.Backoff
	if tries == 0 {
		tries = defaultTries
	}
	if backoff == 0 {
		backoff = defaultBackoff
	}
	if len(want.digests()) == 0 {
		// What is half there may be of another version: nothing could tell.
		if err := part.reset(); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		resumed, err := s.request(ctx, want.URI, part)
		if err == nil {
			err = part.verify(want, want.URI)
			var mismatch *MismatchError
			if !errors.As(err, &mismatch) {
				return err
			}
			// Two halves of different files: once more, from the start.
			if !resumed {
				return errors.Join(err, part.discard())
			}
			if err := part.reset(); err != nil {
				return err
			}
		}
		var final *finalError
		var name *net.DNSError // that there is no such host is an answer
		if errors.As(err, &final) || errors.As(err, &name) && name.IsNotFound || ctx.Err() != nil || try >= tries {
			return err
		}
		clog.WarnContext(ctx, "trying again", "uri", want.URI, "after", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// A finalError is an answer that does not change by asking again.
type finalError struct{ status string }

func (e *finalError) Error() string { return "the server answers " + e.status }

// request appends to part what is missing of the file. It reports whether a
// part that was there before was kept.
func (s *Store) request(ctx context.Context, uri string, part *partial) (resumed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("nothing came for %v", stall)) })
	defer watch.Stop()

	info, err := part.Stat()
	if err != nil {
		return false, err
	}
	have := info.Size()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return false, err
	}
	// As it is: a server that compresses on the way would spoil the digest.
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	client := s.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, cause(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && startsAt(resp, have):
	case resp.StatusCode == http.StatusOK:
		have = 0
		if err := part.reset(); err != nil {
			return false, err
		}
	case resp.StatusCode == http.StatusPartialContent, resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		// The file is shorter than what is here of it, or another.
		if err := part.reset(); err != nil {
			return false, err
		}
		return false, fmt.Errorf("the server answers %s", resp.Status)
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return false, fmt.Errorf("the server answers %s", resp.Status)
	default:
		return false, &finalError{resp.Status}
	}
	total := int64(-1)
	if resp.ContentLength >= 0 {
		total = have + resp.ContentLength
	}
	body := &progress{Reader: resp.Body, done: have, tell: func(done int64) {
		watch.Reset(stall)
		if s.Progress != nil {
			s.Progress(uri, done, total)
		}
	}}
	if _, err := io.Copy(part, body); err != nil {
		return false, cause(ctx, err)
	}
	return have > 0, nil
}

// cause prefers the reason for which a context was ended.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(err, c) {
		return c
	}
	return err
}

// startsAt reports whether a partial answer begins at the offset asked for.
func startsAt(resp *http.Response, offset int64) bool {
	text, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	start, _, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(start, 10, 64)
	return ok && err == nil && n == offset
}

type progress struct {
	io.Reader
	done int64
	tell func(done int64)
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.done += int64(n)
	p.tell(p.done)
	return n, err
}

// baseName is what a fetched file is called: the last part of its URI, with a
// query when it has one, as wget does it.
func baseName(uri string) string { return path.Base(uri) }
