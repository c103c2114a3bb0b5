package apk

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"distro.internal/shared/filetree"
)

const (
	sha1Hash   = crypto.SHA1
	sha256Hash = crypto.SHA256
)

// Verify says what makes a package or an index trustworthy. Whatever of
// Keyring and Checksum is set must hold; when neither is, nothing is trusted
// unless Insecure says so.
type Verify struct {
	Keyring   Keyring   // a signature by one of these keys
	Checksum  *Checksum // this very control section, as a verified index names it
	AllowSHA1 bool      // also accept signatures over SHA-1
	Insecure  bool      // do without a signature; hashes inside are still checked
	Limits    Limits
}

// Limits bound what a hostile file may make its reader spend. A zero field
// stands for the default.
type Limits struct {
	Control int64 // uncompressed bytes of signature and control section, held in memory; 64 MiB
	Index   int64 // uncompressed bytes of an index, held in memory; 1 GiB
	Data    int64 // uncompressed bytes of the data section; 64 GiB
	Entries int   // names in the data section; 4 Mi
}

func (l Limits) control() int64 { return orDefault(l.Control, 64<<20) }
func (l Limits) index() int64   { return orDefault(l.Index, 1<<30) }
func (l Limits) data() int64    { return orDefault(l.Data, 64<<30) }
func (l Limits) entries() int   { return orDefault(l.Entries, 4<<20) }

func orDefault[T int | int64](n, otherwise T) T {
	if n == 0 {
		return otherwise
	}
	return n
}

// A Reader reads one package file from front to back.
type Reader struct {
	Package       *Package // with its Checksum; the Size of the file is not known here
	Scripts       Scripts
	Control       map[string][]byte // the other files of the control section: ".melange.yaml"
	Signatures    []string          // names of the keys that signed it, whether trusted or not
	SignedBy      string            // the trusted key that vouched for it, if a keyring was given
	ControlSHA256 [32]byte          // of the compressed control section: what is signed

	controlTime time.Time
	members     *members
	tee         io.Writer // also gets the compressed data section
	hash        hash.Hash
	tr          *tar.Reader
	file        *fileReader // the one handed out last
	sum         Checksum
	entries     int
	limits      Limits
	err         error
}

// Open reads the signature and the control section of a package and verifies
// them. Nothing of the control section can be seen before that, and reading
// the files needs no more trust: the control section vouches for them.
func Open(r io.Reader, v Verify) (*Reader, error) {
	p, err := openPackage(r, v, nil)
	if err != nil {
		return nil, fmt.Errorf("opening package: %w", err)
	}
	return p, nil
}

// openPackage is Open that also writes the compressed control section to raw.
func openPackage(r io.Reader, v Verify, raw io.Writer) (*Reader, error) {
	m := newMembers(r)
	if magic, _ := m.buf.Peek(3); string(magic) == "ADB" {
		return nil, fmt.Errorf("a package in the format of version 3, which is not supported: %w", ErrFormat)
	}
	signatures, control, s, err := m.head(v.Limits.control(), raw)
	if err != nil {
		return nil, err
	}
	signedBy, err := v.judge(signatures, s)
	if err != nil {
		return nil, err
	}
	p := &Reader{
		Scripts: Scripts{}, Control: map[string][]byte{}, Signatures: keyNames(signatures), SignedBy: signedBy,
		ControlSHA256: [32]byte(s.sha256.Sum(nil)), members: m, limits: v.Limits,
	}
	if err := p.parseControl(control); err != nil {
		return nil, fmt.Errorf("control section: %w", err)
	}
	p.Package.Checksum = s.checksum()
	return p, nil
}

func (p *Reader) parseControl(section []byte) error {
	for f, err := range tarFiles(section) {
		if err != nil {
			return err
		}
		if !isControlName(f.name) {
			return fmt.Errorf("a file %q in it: %w", f.name, ErrFormat)
		}
		switch {
		case f.name == infoFile:
			if p.Package != nil {
				return fmt.Errorf("two files %s: %w", infoFile, ErrFormat)
			}
			if p.Package, err = ParseInfo(bytes.NewReader(f.body)); err != nil {
				return err
			}
			p.controlTime = f.time
		case isScript(f.name):
			if len(f.body) > maxScriptSize {
				return fmt.Errorf("script %s: %w of %d bytes", f.name, ErrLimit, maxScriptSize)
			}
			p.Scripts[f.name] = f.body
		default:
			p.Control[f.name] = f.body
		}
	}
	switch {
	case p.Package == nil:
		return fmt.Errorf("no file %s in it: %w", infoFile, ErrFormat)
	case p.Package.DataHash == "":
		return fmt.Errorf("it has no datahash, so it vouches for no files: %w", ErrFormat)
	}
	return nil
}

// Next goes on to the next file of the data section and returns it with its
// content. The content ends in an error instead of io.EOF when its checksum is
// wrong. Next itself returns io.EOF only after the whole data section was found
// to be the one that the control section names: until then nothing that
// was read may be taken for good.
//
// As apk does, it passes over names that begin with a dot.
func (p *Reader) Next() (*filetree.Entry, io.Reader, error) {
	if p.err != nil {
		return nil, nil, p.err
	}
	e, content, err := p.next()
	if err == io.EOF {
		err = p.finish()
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading files of %s: %w", p.Package.Name, err)
	}
	p.err = err
	return e, content, err
}

func (p *Reader) next() (*filetree.Entry, io.Reader, error) {
	if err := p.skipContent(); err != nil {
		return nil, nil, err
	}
	for {
		h, err := nextHeader(p.tr)
		if err != nil {
			return nil, nil, err
		}
		if p.entries++; p.entries > p.limits.entries() {
			return nil, nil, fmt.Errorf("%w of %d files", ErrLimit, p.limits.entries())
		}
		if strings.HasPrefix(h.Name, ".") {
			continue
		}
		e, err := filetree.FromHeader(h)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if e == nil {
			continue
		}
		content, err := p.open(e, h)
		return e, content, err
	}
}

// skipContent brings the reader to the next header. What the caller has not
// read of a file is still checked.
func (p *Reader) skipContent() error {
	if p.tr == nil {
		p.hash = sha256.New()
		sink := io.Writer(p.hash)
		if p.tee != nil {
			sink = io.MultiWriter(p.hash, p.tee)
		}
		if err := p.members.next(sink, p.limits.data()); err != nil {
			if err == io.EOF {
				err = fmt.Errorf("no data section: %w", io.ErrUnexpectedEOF)
			}
			return err
		}
		p.tr = tar.NewReader(p.members)
	}
	if p.file == nil {
		return nil
	}
	_, err := io.Copy(io.Discard, p.file)
	p.file = nil
	return err
}

// open returns the content of the entry just read.
func (p *Reader) open(e *filetree.Entry, h *tar.Header) (io.Reader, error) {
	p.sum = Checksum{}
	recorded, ok := h.PAXRecords[checksumRecord]
	if ok {
		n, err := hex.Decode(p.sum[:], []byte(recorded[:min(len(recorded), 40)]))
		if err != nil || n != len(p.sum) || len(recorded) != 40 {
			return nil, fmt.Errorf("%s: checksum %q: %w", e.Path, recorded, ErrFormat)
		}
	}
	if e.Link != "" && !e.HardLink && ok && p.sum != sha1.Sum([]byte(e.Link)) {
		return nil, fmt.Errorf("%s: %w", e.Path, ErrFileSum)
	}
	if !e.IsRegular() {
		return bytes.NewReader(nil), nil
	}
	p.file = &fileReader{r: p.tr, path: e.Path}
	if ok {
		p.file.sum, p.file.hash = p.sum, sha1.New()
	}
	return p.file, nil
}

// Sum is the SHA-1 recorded for the entry that Next returned last: of a file's
// content or a symbolic link's target. It is zero where nothing is recorded,
// as for directories.
func (p *Reader) Sum() Checksum { return p.sum }

// finish reads what is left behind the last file and judges the whole section.
func (p *Reader) finish() error {
	if _, err := io.Copy(io.Discard, p.members); err != nil {
		return err
	}
	if got := hex.EncodeToString(p.hash.Sum(nil)); got != p.Package.DataHash {
		return ErrDataHash
	}
	if err := p.members.end(); err != nil {
		return err
	}
	return io.EOF
}

// A fileReader reads one file and compares its checksum at the end.
type fileReader struct {
	r    io.Reader
	path string
	hash hash.Hash // nil: no checksum recorded
	sum  Checksum
	err  error
}

func (f *fileReader) Read(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.r.Read(b)
	if f.hash != nil {
		f.hash.Write(b[:n])
		if err == io.EOF && Checksum(f.hash.Sum(nil)) != f.sum {
			err = fmt.Errorf("%s: %w", f.path, ErrFileSum)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}
