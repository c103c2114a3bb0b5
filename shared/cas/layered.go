package cas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Layers
//
// A team and its CI make the same things. What one of them has made the others need not make: a store may have another
// one behind it, which all of them reach. What is asked for is looked for here, then there; what is made is kept here,
// then handed on.
//
// Of a result that is found there only the record comes over: which outputs there are. Most of them nobody wants ever. The
// trees of a build are the example: who finds the packages that were made of them needs to know the trees' digests, to
// know the packages' key, and not one byte of the trees. What is wanted is brought when it is wanted, see Bring.
//
// The other store is a help and never a condition. That it is slow, broken, full, lying or gone makes a build slower,
// and is told once: whatever comes out of it passes its digest before it has a name here, and whatever does not come out
// of it is as if nobody had made it. It may be that a result was there a moment ago and its outputs are not now; so who
// finds one must be ready to make it all the same.
//
// That the content is what its digest says does not make the result right: who may write there decides what all the
// others get. That only a few may is the server's business, and an answer that this must be so, no trouble.

// A Layered is a folder with, perhaps, a shared store behind it.
type Layered struct {
	Store
	Behind *Shared // nil: nothing
}

// A Shared is a store that others use as well.
type Shared struct {
	Remote   Remote
	ReadOnly bool // nothing is handed on

	// Tell is told of the first trouble, and when the store is given up. It may be nil.
	Tell func(error)

	mu       sync.Mutex
	told     bool
	readOnly bool // the server says so
	lost     bool // it does not answer: it is not asked again
}

// A Remote is the store behind, by the protocol that it is reached with.
type Remote interface {
	// Result finds what the action of a key gave. None, or one of which an output is gone, is fs.ErrNotExist.
	Result(context.Context, *Key) (*Result, error)
	// Fetch writes a blob. Nobody has verified it.
	Fetch(context.Context, Digest, io.Writer) error
	// Share records what the action of a key gave, after all that it names, which is in the store. ErrReadOnly when that
	// is for others to do.
	Share(context.Context, *Key, *Result, Store) error
}

// The two errors of a Remote that change what is asked of it.
var (
	ErrReadOnly = errors.New("it may be read here, and not written")
	ErrLost     = errors.New("it cannot be used")
)

// Find returns what the action of a key gave, wherever it is known; fs.ErrNotExist when it is not.
func (l Layered) Find(ctx context.Context, key *Key) (*Result, error) {
	action := key.Digest()
	r, err := l.Result(action)
	if !errors.Is(err, fs.ErrNotExist) || l.Behind.off() {
		return r, err
	}
	r, remoteErr := l.Behind.Remote.Result(ctx, key)
	if remoteErr != nil {
		return nil, errors.Join(err, l.Behind.trouble(ctx, remoteErr))
	}
	if err := l.record(action, r); err != nil {
		return nil, err
	}
	if _, err := l.PutBytes(key.Encode()); err != nil {
		return nil, err
	}
	r.Fetched = true
	return r, nil
}

// Bring makes sure that blobs are in the folder; fs.ErrNotExist when one is nowhere, or not what it should be.
func (l Layered) Bring(ctx context.Context, blobs ...Digest) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(bringers)
	wanted := map[Digest]bool{}
	for _, d := range blobs {
		if wanted[d] || l.Has(d) {
			continue
		}
		wanted[d] = true
		g.Go(func() error { return l.bring(ctx, d) })
	}
	return g.Wait()
}

// bringers is how many blobs are on their way at a time: of small ones the way is all that they cost.
const bringers = 8

func (l Layered) bring(ctx context.Context, d Digest) error {
	absent := fmt.Errorf("blob %s: %w", d, fs.ErrNotExist)
	if l.Behind.off() {
		return absent
	}
	err := l.Take(ctx, d, func(w io.Writer) error { return l.Behind.Remote.Fetch(ctx, d, w) })
	if err != nil {
		return errors.Join(absent, l.Behind.trouble(ctx, fmt.Errorf("fetching blob %s: %w", d, err)))
	}
	return nil
}

// Keep records what the action of a key gave, with the key, and hands it on. All outputs must be in the folder.
func (l Layered) Keep(ctx context.Context, key *Key, r *Result) error {
	if _, err := l.PutBytes(key.Encode()); err != nil {
		return err
	}
	if err := l.SetResult(key.Digest(), r); err != nil {
		return err
	}
	if l.Behind.off() || l.Behind.closed() {
		return nil
	}
	if err := l.Behind.Remote.Share(ctx, key, r, l.Store); err != nil {
		return l.Behind.trouble(ctx, err)
	}
	return nil
}

// off tells whether there is nothing to ask.
func (s *Shared) off() bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// closed tells whether nothing can be handed on.
func (s *Shared) closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ReadOnly || s.readOnly
}

// trouble takes in that something went wrong. The error that it returns is that of the context, if it has ended: then
// nobody knows whether the store would have answered.
func (s *Shared) trouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, ErrReadOnly):
		s.readOnly = true
		return nil
	case errors.Is(err, ErrLost):
		if s.lost {
			return nil
		}
		s.lost = true
		err = fmt.Errorf("going on without the remote cache: %w", err)
	case s.told:
		return nil
	default:
		err = fmt.Errorf("the remote cache is in trouble: %w", err)
	}
	s.told = true
	if s.Tell != nil {
		s.Tell(err)
	}
	return nil
}
