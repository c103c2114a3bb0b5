// Package reapi keeps blobs and results where others find them too: on a server that speaks the Remote Execution API v2
// (build.bazel.remote.execution.v2, and google.bytestream for what is large). There are many of them, and nothing of ours
// runs on any. What is used of the protocol is its content addressable storage and its action cache, as all servers have
// them since version 2.0 of it.
//
// A Client is the Remote of a cas.Layered. It tells the truth about what went wrong and leaves it to that one what follows
// from it. Where servers differ it takes the answer that is no help for none: a result of which an output is gone, and one
// of a failure, which some record, is none at all.
package reapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"distro.internal/shared/cas"
)

// A Client speaks to one server. It may be used by many at once.
type Client struct {
	conn     *grpc.ClientConn
	instance string
	headers  metadata.MD
	timeout  time.Duration
	retries  int

	first   sync.Mutex
	known   *Capabilities
	unknown error // why they are not known
}

// What is sent at once. A server's own limit for batches counts when it is smaller.
const (
	batchMost   = 1 << 20 // bytes of content in a batch: what is larger is streamed
	chunk       = 1 << 20 // bytes of a streamed blob in a message
	digestsMost = 10000   // in one question
	messageMost = 16 << 20
)

// recordMost is how long the record of a result may be, in bytes.
const recordMost = 8 << 20

// Capabilities are what a server says of itself.
type Capabilities struct {
	API     [2]string `json:"api"`     // lowest and highest version
	Writes  bool      `json:"writes"`  // the action cache takes results from clients, says the server
	Batch   int64     `json:"batch"`   // bytes of content in a batch
	Digests []string  `json:"digests"` // functions
}

// Capabilities asks the server what it is, once.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	c.first.Lock()
	defer c.first.Unlock()
	if c.known == nil && c.unknown == nil {
		k, err := c.capabilities(ctx)
		if err != nil && ctx.Err() == nil {
			c.unknown = err
		}
		if err != nil {
			return k, err
		}
		c.known = &k
	}
	if c.unknown != nil {
		return Capabilities{}, c.unknown
	}
	return *c.known, nil
}

func (c *Client) capabilities(ctx context.Context) (k Capabilities, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var said *repb.ServerCapabilities
	err = c.call(ctx, request{what: "capabilities"}, func(ctx context.Context, _ func()) (err error) {
		said, err = repb.NewCapabilitiesClient(c.conn).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: c.instance})
		return err
	})
	if err != nil {
		return k, fmt.Errorf("asking for its capabilities: %w", err)
	}
	caches, low, high := said.GetCacheCapabilities(), said.GetLowApiVersion(), said.GetHighApiVersion()
	k.API = [2]string{fmt.Sprintf("%d.%d", low.GetMajor(), low.GetMinor()), fmt.Sprintf("%d.%d", high.GetMajor(), high.GetMinor())}
	k.Writes, k.Batch = caches.GetActionCacheUpdateCapabilities().GetUpdateEnabled(), batchMost
	if n := caches.GetMaxBatchTotalSizeBytes(); n > 0 && n < k.Batch {
		k.Batch = n
	}
	for _, f := range caches.GetDigestFunctions() {
		k.Digests = append(k.Digests, f.String())
	}
	if low.GetMajor() > 2 || high.GetMajor() < 2 || !slices.Contains(caches.GetDigestFunctions(), repb.DigestFunction_SHA256) {
		return k, fmt.Errorf("%w: it speaks versions %s to %s, with digests %v", cas.ErrLost, k.API[0], k.API[1], k.Digests)
	}
	return k, nil
}

// Result finds what the action of a key gave; fs.ErrNotExist when that is not known, or when not all of it is there.
func (c *Client) Result(ctx context.Context, key *cas.Key) (*cas.Result, error) {
	if _, err := c.Capabilities(ctx); err != nil {
		return nil, err
	}
	a, err := actionOf(key)
	if err != nil {
		return nil, err
	}
	r, err := c.result(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("looking for the result of action %s: %w", a.digest, err)
	}
	return r, nil
}

func (c *Client) result(ctx context.Context, a action) (*cas.Result, error) {
	var said *repb.ActionResult
	err := c.call(ctx, request{a.digest, a.kind}, func(ctx context.Context, _ func()) (err error) {
		said, err = repb.NewActionCacheClient(c.conn).GetActionResult(ctx, &repb.GetActionResultRequest{
			InstanceName: c.instance, ActionDigest: message(a.digest), InlineOutputFiles: []string{recordFile},
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	name, text, err := recordOf(said)
	if err != nil {
		return nil, err
	}
	if cas.DigestOf(text) != name {
		if text, err = c.record(ctx, name); err != nil {
			return nil, fmt.Errorf("reading its record: %w", err)
		}
	}
	r, err := cas.ParseResult(text)
	if err != nil {
		return nil, fmt.Errorf("its record: %w", err)
	}
	return r, c.whole(ctx, r)
}

// record reads the record of a result.
func (c *Client) record(ctx context.Context, name cas.Digest) ([]byte, error) {
	if name.Size > recordMost {
		return nil, fmt.Errorf("it has %d bytes", name.Size)
	}
	var b bytes.Buffer
	if err := c.Fetch(ctx, name, &b); err != nil {
		return nil, err
	}
	if cas.DigestOf(b.Bytes()) != name {
		return nil, fmt.Errorf("blob %s: %w", name, cas.ErrCorrupt)
	}
	return b.Bytes(), nil
}

// whole tells whether all outputs of a result are there. Servers that promise it for what is in their action cache are
// not all servers.
func (c *Client) whole(ctx context.Context, r *cas.Result) error {
	blobs := make([]cas.Digest, len(r.Outputs))
	for i, o := range r.Outputs {
		blobs[i] = o.Digest
	}
	missing, err := c.missing(ctx, blobs)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of its outputs are gone: %w", len(missing), fs.ErrNotExist)
	}
	return nil
}

// missing tells which blobs the server does not have. Those that it has it keeps for a while, having been asked.
func (c *Client) missing(ctx context.Context, blobs []cas.Digest) ([]cas.Digest, error) {
	var all []cas.Digest
	for some := range slices.Chunk(distinct(blobs), digestsMost) {
		var said *repb.FindMissingBlobsResponse
		err := c.call(ctx, request{what: "missing"}, func(ctx context.Context, _ func()) (err error) {
			said, err = repb.NewContentAddressableStorageClient(c.conn).FindMissingBlobs(ctx,
				&repb.FindMissingBlobsRequest{InstanceName: c.instance, BlobDigests: messages(some)})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("asking for blobs that it has: %w", err)
		}
		for _, m := range said.MissingBlobDigests {
			d, err := digest(m)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
	}
	return all, nil
}

// Share uploads what a result names and the server does not have, and then the result.
func (c *Client) Share(ctx context.Context, key *cas.Key, r *cas.Result, from cas.Store) error {
	can, err := c.Capabilities(ctx)
	if err != nil {
		return err
	}
	if !can.Writes {
		return cas.ErrReadOnly
	}
	a, err := actionOf(key)
	if err == nil {
		err = c.share(ctx, a, r, from, can.Batch)
	}
	if err != nil {
		return fmt.Errorf("sharing the result of action %s: %w", a.digest, err)
	}
	return nil
}

func (c *Client) share(ctx context.Context, a action, r *cas.Result, from cas.Store, batch int64) error {
	said, record, err := resultOf(r)
	if err != nil {
		return err
	}
	a.blobs[cas.DigestOf(record)] = record
	blobs := slices.Collect(maps.Keys(a.blobs))
	for _, o := range r.Outputs {
		blobs = append(blobs, o.Digest)
	}
	missing, err := c.missing(ctx, blobs)
	if err != nil {
		return err
	}
	u := &upload{Client: c, request: request{a.digest, a.kind}, most: batch, open: func(d cas.Digest) (io.ReadSeekCloser, error) {
		if text, ok := a.blobs[d]; ok {
			return memory{bytes.NewReader(text)}, nil
		}
		return from.Open(d)
	}}
	if err := u.all(ctx, missing); err != nil {
		return err
	}
	return c.call(ctx, request{a.digest, a.kind}, func(ctx context.Context, _ func()) error {
		_, err := repb.NewActionCacheClient(c.conn).UpdateActionResult(ctx, &repb.UpdateActionResultRequest{
			InstanceName: c.instance, ActionDigest: message(a.digest), ActionResult: said,
		})
		return refused(err)
	})
}

// refused turns the answers to a write that one may not make into the one error for it.
func refused(err error) error {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("%w: %w", cas.ErrReadOnly, err)
	}
	return err
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// A request is what a call is for, as servers show it in their logs.
type request struct {
	action cas.Digest
	what   string
}

// requestHeader is where servers look for it.
const requestHeader = "build.bazel.remote.execution.v2.requestmetadata-bin"

func (c *Client) outgoing(ctx context.Context, r request) (context.Context, error) {
	text, err := proto.Marshal(&repb.RequestMetadata{
		ToolDetails: &repb.ToolDetails{ToolName: "world"}, ActionId: r.action.Hash, ActionMnemonic: r.what,
	})
	md := c.headers.Copy()
	md.Set(requestHeader, string(text))
	return metadata.NewOutgoingContext(ctx, md), err
}
