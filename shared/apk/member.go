package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// compression is the gzip level of everything we write. The bytes of every
// package depend on it, and on the compressor's version.
const compression = 6

// epoch is the time of what has no time of its own.
var epoch = time.Unix(0, 0)

// newGzip returns a compressor on one goroutine whose output depends on
// nothing but what is written to it.
func newGzip(w io.Writer) *gzip.Writer {
	z, err := gzip.NewWriterLevel(w, compression)
	if err != nil {
		panic(err) // the level is a constant
	}
	z.ModTime = epoch
	return z
}

// members reads the gzip members of a file one after another. It takes from
// the file by the block and yet knows exactly which bytes belong to which
// member.
type members struct {
	tap tap
	buf *bufio.Reader
	zip *gzip.Reader

	left    int64 // uncompressed bytes that this member may still have
	limit   int64
	settled bool // the sink has all of this member
}

func newMembers(r io.Reader) *members {
	m := &members{tap: tap{r: r}, settled: true}
	m.buf = bufio.NewReaderSize(&m.tap, 64<<10)
	return m
}

// next goes on to the next member, whose compressed bytes will all have been
// written to sink when Read returns io.EOF. It returns io.EOF when there is none.
func (m *members) next(sink io.Writer, limit int64) error {
	if !m.settled {
		return errors.New("reading on before the end of a gzip member")
	}
	if _, err := m.buf.Peek(1); err != nil {
		return err
	}
	m.tap.sink, m.left, m.limit, m.settled = sink, limit, limit, false
	var err error
	if m.zip == nil {
		m.zip, err = gzip.NewReader(m.buf)
	} else {
		err = m.zip.Reset(m.buf)
	}
	if err != nil {
		return gzipError(err)
	}
	m.zip.Multistream(false)
	return nil
}

// Read reads from the present member.
func (m *members) Read(p []byte) (int, error) {
	if m.settled {
		return 0, io.EOF
	}
	if m.left < 0 {
		return 0, fmt.Errorf("%w of %d bytes", ErrLimit, m.limit)
	}
	// One byte more than allowed is asked for, to tell full from too much.
	if int64(len(p)) > m.left+1 {
		p = p[:m.left+1]
	}
	n, err := m.zip.Read(p)
	m.left -= int64(n)
	switch {
	case m.left < 0:
		return 0, fmt.Errorf("%w of %d bytes", ErrLimit, m.limit)
	case err == io.EOF:
		m.tap.settle(m.buf.Buffered())
		m.settled = true
	case err != nil:
		err = gzipError(err)
	}
	return n, err
}

// end makes sure that nothing follows the last member.
func (m *members) end() error {
	switch _, err := m.buf.Peek(1); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("something follows the last section: %w", ErrFormat)
	default:
		return err
	}
}

// gzipError gives the decompressor's own errors our name; those of the file
// beneath stay what they are.
func gzipError(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// A tap passes what is read through it on to a sink once it has been used:
// its reader asks for more only when it has used up all it got before.
type tap struct {
	r      io.Reader
	sink   io.Writer
	unused []byte // read, not yet known to be used
}

func (t *tap) Read(p []byte) (int, error) {
	t.settle(0)
	n, err := t.r.Read(p)
	t.unused = append(t.unused, p[:n]...)
	return n, err
}

// settle passes on everything but the last n bytes, which the reader still holds.
func (t *tap) settle(n int) {
	used := len(t.unused) - n
	if t.sink != nil {
		t.sink.Write(t.unused[:used])
	}
	t.unused = append(t.unused[:0], t.unused[used:]...)
}

// A signature is one of the files of a signature section.
type signature struct {
	name  string // .SIGN.RSA256.distro.rsa.pub
	bytes []byte
}

const (
	signPrefix = ".SIGN."
	signSHA1   = signPrefix + "RSA."
	signSHA256 = signPrefix + "RSA256."
)

// sums are the digests of a compressed section.
type sums struct {
	sha1   hash.Hash
	sha256 hash.Hash
	raw    io.Writer // also gets the bytes, unless nil
}

func newSums() *sums { return &sums{sha1: sha1.New(), sha256: sha256.New()} }

func (s *sums) Write(p []byte) (int, error) {
	s.sha1.Write(p)
	s.sha256.Write(p)
	if s.raw != nil {
		s.raw.Write(p)
	}
	return len(p), nil
}

func (s *sums) checksum() Checksum { return Checksum(s.sha1.Sum(nil)) }

// head reads the signature sections, if there are any, and the section behind
// them, uncompressed and unverified.
func (m *members) head(limit int64, raw io.Writer) ([]signature, []byte, *sums, error) {
	var signatures []signature
	for {
		s := newSums()
		var compressed bytes.Buffer
		if raw != nil {
			s.raw = &compressed
		}
		err := m.next(s, limit)
		if err == io.EOF {
			err = fmt.Errorf("no section after the signature: %w", ErrFormat)
			if signatures == nil {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil {
			return nil, nil, nil, err
		}
		body, err := io.ReadAll(m)
		if err != nil {
			return nil, nil, nil, err
		}
		limit -= int64(len(body))
		if !bytes.HasPrefix(body, []byte(signPrefix)) {
			if raw != nil {
				compressed.WriteTo(raw)
			}
			return signatures, body, s, nil
		}
		more, err := readSignatures(body)
		if err != nil {
			return nil, nil, nil, err
		}
		signatures = append(signatures, more...)
	}
}

// readSignatures reads the files of a signature section.
func readSignatures(section []byte) ([]signature, error) {
	var signatures []signature
	for f, err := range tarFiles(section) {
		if err != nil {
			return nil, fmt.Errorf("signature section: %w", err)
		}
		if !strings.HasPrefix(f.name, signPrefix) {
			return nil, fmt.Errorf("a file %q in the signature section: %w", f.name, ErrFormat)
		}
		signatures = append(signatures, signature{f.name, f.body})
	}
	return signatures, nil
}

// judge checks a section against what it must be vouched for by, and returns
// the key that does, if a keyring was given.
func (v Verify) judge(signatures []signature, s *sums) (signedBy string, err error) {
	if v.Checksum != nil && *v.Checksum != s.checksum() {
		return "", fmt.Errorf("%w: it is %s, not %s", ErrChecksum, s.checksum(), *v.Checksum)
	}
	if v.Insecure || v.Checksum != nil && v.Keyring == nil {
		return "", nil
	}
	return v.signer(signatures, s)
}

// signer returns the first trusted key that signed the section.
func (v Verify) signer(signatures []signature, s *sums) (string, error) {
	sha1Only := false
	for _, sig := range signatures {
		name, ok := keyName(sig.name)
		if !ok {
			continue
		}
		key := v.Keyring[name]
		if key == nil {
			continue
		}
		hash, sum := sha256Hash, s.sha256.Sum(nil)
		if strings.HasPrefix(sig.name, signSHA1) {
			if !v.AllowSHA1 {
				sha1Only = true
				continue
			}
			hash, sum = sha1Hash, s.sha1.Sum(nil)
		}
		if rsa.VerifyPKCS1v15(key, hash, sum, sig.bytes) != nil {
			return "", fmt.Errorf("%w: of key %s", ErrSignature, name)
		}
		return name, nil
	}
	names := keyNames(signatures)
	switch {
	case sha1Only:
		return "", fmt.Errorf("%w: signed over SHA-1 only", ErrUntrusted)
	case names == nil:
		return "", fmt.Errorf("%w: it has no signature", ErrUntrusted)
	}
	return "", fmt.Errorf("%w: signed by %s", ErrUntrusted, strings.Join(names, ", "))
}

func keyNames(signatures []signature) []string {
	var names []string
	for _, sig := range signatures {
		if name, ok := keyName(sig.name); ok {
			names = append(names, name)
		}
	}
	return names
}

// keyName returns the key that a signature file is named after, if it is of a
// kind we can check.
func keyName(file string) (string, bool) {
	for _, prefix := range []string{signSHA256, signSHA1} {
		if name, ok := strings.CutPrefix(file, prefix); ok && name != "" {
			return name, true
		}
	}
	return "", false
}

// A controlFile is a small file of a signature section, control section or index.
type controlFile struct {
	name string
	mode int64
	time time.Time
	body []byte // part of the section's bytes when read
}

// tarFiles yields the files of a section that is in memory. It accepts plain
// files only.
func tarFiles(section []byte) iter.Seq2[controlFile, error] {
	return func(yield func(controlFile, error) bool) {
		r := bytes.NewReader(section)
		tr := tar.NewReader(r)
		for {
			h, err := nextHeader(tr)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(controlFile{}, err)
				return
			}
			if h.Typeflag != tar.TypeReg {
				yield(controlFile{}, fmt.Errorf("%q is no plain file: %w", h.Name, ErrFormat))
				return
			}
			start := len(section) - r.Len()
			if h.Size > int64(r.Len()) {
				yield(controlFile{}, fmt.Errorf("%q: %w", h.Name, io.ErrUnexpectedEOF))
				return
			}
			end := start + int(h.Size)
			if !yield(controlFile{h.Name, h.Mode, h.ModTime, section[start:end:end]}, nil) {
				return
			}
		}
	}
}

// nextHeader is tar's Next without the sparse files, whose few bytes can claim
// to be very many.
func nextHeader(tr *tar.Reader) (*tar.Header, error) {
	h, err := tr.Next()
	if err == io.EOF {
		return nil, io.EOF
	}
	if errors.Is(err, tar.ErrHeader) {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err != nil {
		return nil, err
	}
	sparse := h.Typeflag == tar.TypeGNUSparse
	for record := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(record, "GNU.sparse.")
	}
	if sparse {
		return nil, fmt.Errorf("%q is a sparse file: %w", h.Name, ErrFormat)
	}
	return h, nil
}

// Whether the tar archive ends with a section or goes on in the next one.
const (
	goesOn = false
	ends   = true
)

// writeMember writes a section of plain files owned by root, and returns the
// digests of its compressed bytes.
func writeMember(w io.Writer, files []controlFile, mtime time.Time, last bool) (Checksum, [32]byte, error) {
	s := newSums()
	zw := newGzip(io.MultiWriter(w, s))
	tw := tar.NewWriter(zw)
	for _, f := range files {
		h := &tar.Header{
			Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.body)),
			Uname: "root", Gname: "root", ModTime: mtime,
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := tw.WriteHeader(h); err != nil {
			return Checksum{}, [32]byte{}, fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := tw.Write(f.body); err != nil {
			return Checksum{}, [32]byte{}, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	end := tw.Flush
	if last {
		end = tw.Close
	}
	if err := end(); err != nil {
		return Checksum{}, [32]byte{}, err
	}
	if err := zw.Close(); err != nil {
		return Checksum{}, [32]byte{}, err
	}
	return s.checksum(), [32]byte(s.sha256.Sum(nil)), nil
}
