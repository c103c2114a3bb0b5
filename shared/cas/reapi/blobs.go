package reapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/status"

	"distro.internal/shared/cas"
)

// Fetch writes a blob, a message at a time. A stream that breaks goes on where it broke. What was written is for the
// caller to verify; it is of no use after an error.
func (c *Client) Fetch(ctx context.Context, d cas.Digest, w io.Writer) error {
	if d.Size == 0 {
		return nil // every server has it, says the protocol, and not every server does
	}
	at := int64(0)
	return c.call(ctx, request{what: "fetch"}, func(ctx context.Context, alive func()) error {
		stream, err := bytestream.NewByteStreamClient(c.conn).Read(ctx, &bytestream.ReadRequest{
			ResourceName: c.resource("blobs/" + d.String()), ReadOffset: at,
		})
		if err != nil {
			return err
		}
		for {
			m, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			alive()
			n, err := w.Write(m.Data)
			at += int64(n)
			if err != nil {
				return err
			}
			if at > d.Size {
				return fmt.Errorf("blob %s: there is more of it: %w", d, cas.ErrCorrupt)
			}
		}
	})
}

// resource is a name of the stream service.
func (c *Client) resource(name string) string {
	if c.instance == "" {
		return name
	}
	return c.instance + "/" + name
}

// An upload brings blobs to the server: the small ones in batches, the others as streams. No blob is in memory as a whole
// that does not fit into a batch.
type upload struct {
	*Client
	request request
	most    int64 // bytes in a batch
	open    func(cas.Digest) (io.ReadSeekCloser, error)
}

func (u *upload) all(ctx context.Context, blobs []cas.Digest) error {
	var batch []cas.Digest
	size := int64(0)
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := u.batch(ctx, batch)
		batch, size = nil, 0
		return err
	}
	for _, d := range distinct(blobs) {
		if d.Size > u.most/2 {
			if err := u.stream(ctx, d); err != nil {
				return fmt.Errorf("uploading blob %s: %w", d, err)
			}
			continue
		}
		if size+d.Size > u.most || len(batch) == batchBlobs {
			if err := send(); err != nil {
				return err
			}
		}
		batch, size = append(batch, d), size+d.Size
	}
	return send()
}

// batchBlobs keeps what is said of the blobs of a batch small beside them.
const batchBlobs = 1000

func (u *upload) batch(ctx context.Context, blobs []cas.Digest) error {
	m := &repb.BatchUpdateBlobsRequest{InstanceName: u.instance}
	for _, d := range blobs {
		text, err := u.read(d)
		if err != nil {
			return err
		}
		m.Requests = append(m.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: message(d), Data: text})
	}
	return u.call(ctx, u.request, func(ctx context.Context, _ func()) error {
		said, err := repb.NewContentAddressableStorageClient(u.conn).BatchUpdateBlobs(ctx, m)
		if err != nil {
			return refused(err)
		}
		for _, one := range said.Responses {
			if err := status.ErrorProto(one.Status); err != nil {
				return refused(err)
			}
		}
		return nil
	})
}

func (u *upload) read(d cas.Digest) ([]byte, error) {
	r, err := u.open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// stream uploads one blob. Every try begins anew: few servers can do otherwise.
func (u *upload) stream(ctx context.Context, d cas.Digest) error {
	r, err := u.open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	return u.call(ctx, u.request, func(ctx context.Context, alive func()) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return refused(u.write(ctx, d, r, alive))
	})
}

func (u *upload) write(ctx context.Context, d cas.Digest, r io.Reader, alive func()) error {
	stream, err := bytestream.NewByteStreamClient(u.conn).Write(ctx)
	if err != nil {
		return err
	}
	name := u.resource(fmt.Sprintf("uploads/%s/blobs/%s", uuid(), d))
	buf := make([]byte, chunk)
	for at := int64(0); at < d.Size; {
		n, err := io.ReadFull(r, buf[:min(chunk, d.Size-at)])
		if err != nil {
			return err
		}
		err = stream.Send(&bytestream.WriteRequest{ResourceName: name, WriteOffset: at, Data: buf[:n], FinishWrite: at+int64(n) == d.Size})
		if err == io.EOF {
			break // the server has ended it: it tells why, or has the blob from somebody else
		} else if err != nil {
			return err
		}
		alive()
		at, name = at+int64(n), ""
	}
	said, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if said.CommittedSize != d.Size {
		return fmt.Errorf("it has taken %d of %d bytes", said.CommittedSize, d.Size)
	}
	return nil
}

// uuid names an upload: random, as in RFC 9562.
func uuid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
