package reapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"distro.internal/shared/cas"
)

// errSilent is the end of a call in which the server has said nothing for too long.
var errSilent = errors.New("it has been silent for too long")

// call makes a call, and makes it again when it might succeed later. The call tells by alive that something of it got
// through: however long it takes as a whole, it must not stand still. The error is fs.ErrNotExist when the server does not
// have what it was asked for, and cas.ErrLost when there is no use in asking it for anything else.
func (c *Client) call(ctx context.Context, r request, do func(ctx context.Context, alive func()) error) error {
	ctx, err := c.outgoing(ctx, r)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := c.once(ctx, do)
		if errors.Is(err, cas.ErrReadOnly) {
			return err
		}
		switch status.Code(err) {
		case codes.OK:
			return err
		case codes.NotFound:
			return fmt.Errorf("%w: %s", fs.ErrNotExist, words(err))
		case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.DeadlineExceeded:
			if ctx.Err() == nil && try < c.retries {
				wait(ctx, try)
				continue
			}
			return fmt.Errorf("%w: %s", cas.ErrLost, words(err))
		case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
			return fmt.Errorf("%w: %s", cas.ErrLost, words(err))
		}
		return err
	}
}

// words are what an error of gRPC says, in its own.
func words(err error) string {
	s := status.Convert(err)
	return fmt.Sprintf("%s: %s", s.Code(), s.Message())
}

func (c *Client) once(ctx context.Context, do func(ctx context.Context, alive func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(c.timeout, func() { cancel(errSilent) })
	defer timer.Stop()
	err := do(ctx, func() { timer.Reset(c.timeout) })
	if err != nil && context.Cause(ctx) == errSilent {
		return status.Error(codes.DeadlineExceeded, fmt.Sprintf("%v: %v", errSilent, c.timeout))
	}
	return err
}

// The first time between two tries of a call, and the longest.
const (
	firstWait = 100 * time.Millisecond
	mostWait  = 5 * time.Second
)

// wait lets some time pass: twice as much with every try, and not the same for all who wait.
func wait(ctx context.Context, try int) {
	d := min(firstWait<<min(try, 10), mostWait)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
