package source

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Decompress returns the content of a stream that is compressed with gzip,
// bzip2, xz, lzma or zstd, told apart by how it begins, or that is not
// compressed. The reader must be closed.
//
// For xz it uses the program of that name where the machine has it, which is
// several times as fast as what is written in Go.
func Decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, xzWorthwhile)
	magic, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		return gzip.NewReader(br)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(br)), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return unxz(ctx, br)
	case bytes.HasPrefix(magic, []byte("]\x00\x00")):
		z, err := lzma.NewReader(br)
		return io.NopCloser(z), err
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(br)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

// xzWorthwhile is the compressed size from which starting a program is less
// work than decompressing here.
const xzWorthwhile = 128 << 10

func unxz(ctx context.Context, br *bufio.Reader) (io.ReadCloser, error) {
	_, err := br.Peek(xzWorthwhile)
	small := err == io.EOF
	program, err := exec.LookPath("xz")
	if small || err != nil {
		z, err := xz.NewReader(br)
		return io.NopCloser(z), err
	}
	return startFilter(ctx, br, program, "--decompress", "--stdout")
}

// A filter is a program whose output is read while it is fed.
type filter struct {
	cmd    *exec.Cmd
	out    io.Reader
	stderr bytes.Buffer
	stop   context.CancelFunc
	ended  error // what Read returns after the end of the output; nil before
}

func startFilter(ctx context.Context, in io.Reader, program string, args ...string) (*filter, error) {
	ctx, stop := context.WithCancel(ctx)
	f := &filter{cmd: exec.CommandContext(ctx, program, args...), stop: stop}
	f.cmd.Stdin, f.cmd.Stderr = in, &f.stderr
	var err error
	if f.out, err = f.cmd.StdoutPipe(); err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	return f, nil
}

// Read returns io.EOF only when the program has said that all was well.
func (f *filter) Read(b []byte) (int, error) {
	if f.ended != nil {
		return 0, f.ended
	}
	n, err := f.out.Read(b)
	if err == io.EOF {
		f.ended = io.EOF
		if err := f.cmd.Wait(); err != nil {
			f.ended = fmt.Errorf("%s: %w: %s", f.cmd.Args[0], err, bytes.TrimSpace(f.stderr.Bytes()))
		}
		return n, f.ended
	}
	return n, err
}

// Close ends the program when it still runs.
func (f *filter) Close() error {
	f.stop()
	if f.ended == nil {
		f.ended = errClosed
		f.cmd.Wait() // killed: it has nothing to say
	}
	return nil
}

var errClosed = errors.New("read after Close")
