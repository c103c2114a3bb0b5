package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"distro.internal/shared/filetree"
)

// checksumRecord is the PAX record that holds the SHA-1 of a file's content,
// or of a link's target, in hex.
const checksumRecord = "APK-TOOLS.checksum.SHA1"

// DataInfo describes a data section that was written.
type DataInfo struct {
	Hash          string // SHA-256 of its compressed bytes, hex; Package.DataHash
	Size          int64  // compressed bytes
	InstalledSize int64  // bytes in regular files, hard links counted once; 0 only if there are no entries
	Tree          string // digest of what it leaves on a disk; see ContentDigest
}

// WriteData writes the data section: the files of a tree, parents first, hard
// links after the file they name. Its bytes depend on the tree alone.
//
// It refuses what apk would not install: names that begin with a dot at the
// top or have control characters in them.
func WriteData(w io.Writer, t *filetree.Tree) (DataInfo, error) {
	info, err := writeData(w, t)
	if err != nil {
		return DataInfo{}, fmt.Errorf("writing data section: %w", err)
	}
	return info, nil
}

func writeData(w io.Writer, t *filetree.Tree) (DataInfo, error) {
	sum, count := sha256.New(), new(counter)
	bw := bufio.NewWriterSize(io.MultiWriter(w, sum, count), 64<<10)
	zw := newGzip(bw)
	d := dataWriter{tw: tar.NewWriter(zw), tree: newDigest(treeDigest)}
	for e, err := range t.InTarOrder() {
		if err != nil {
			return DataInfo{}, err
		}
		if err := d.add(e); err != nil {
			return DataInfo{}, err
		}
	}
	for _, end := range []func() error{d.tw.Close, zw.Close, bw.Flush} {
		if err := end(); err != nil {
			return DataInfo{}, err
		}
	}
	if t.Len() > 0 {
		d.size = max(d.size, 1) // apk does not unpack what takes no room, not even links and directories
	}
	return DataInfo{
		Hash: hex.EncodeToString(sum.Sum(nil)), Size: int64(*count), InstalledSize: d.size, Tree: d.tree.hex(),
	}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// A dataWriter writes entries with the checksums that apk wants of them.
type dataWriter struct {
	tw   *tar.Writer
	tree *digest
	size int64
	buf  bytes.Buffer
}

func (d *dataWriter) add(e *filetree.Entry) error {
	if err := checkInstallable(e); err != nil {
		return err
	}
	switch {
	case e.IsRegular():
		d.size += e.Size
		return d.addFile(e)
	case e.Mode.Type() == fs.ModeSymlink:
		d.tree.entry(e, "")
		return filetree.WriteEntry(d.tw, e, record(sha1.Sum([]byte(e.Link))))
	}
	d.tree.entry(e, "")
	h, err := filetree.Header(e, nil)
	if err != nil {
		return err
	}
	// A folder's name ends without a slash, as melange has it: its linters, and what else reads packages through apko's
	// tarfs, do not find what is in a folder that is called otherwise.
	h.Name = e.Path
	if err := d.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

// maxBuffered is the size up to which a file's content is held in memory
// between computing its checksum and writing it behind it; a larger file is
// read twice.
const maxBuffered = 1 << 20

func (d *dataWriter) addFile(e *filetree.Entry) error {
	first, second := sha1.New(), sha256.New()
	d.buf.Reset()
	into := []io.Writer{first, second}
	if e.Size <= maxBuffered {
		into = append(into, &d.buf)
	}
	if err := copyContent(io.MultiWriter(into...), e); err != nil {
		return err
	}
	sum := [20]byte(first.Sum(nil))
	d.tree.entry(e, string(second.Sum(nil)))

	h, err := filetree.Header(e, record(sum))
	if err != nil {
		return err
	}
	if err := d.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	if e.Size <= maxBuffered {
		_, err := d.tw.Write(d.buf.Bytes())
		return err
	}
	again := sha1.New()
	if err := copyContent(io.MultiWriter(d.tw, again), e); err != nil {
		return err
	}
	if [20]byte(again.Sum(nil)) != sum {
		return fmt.Errorf("%s: changed while it was read", e.Path)
	}
	return nil
}

// copyContent copies the content of a file, which must be as long as its entry says.
func copyContent(w io.Writer, e *filetree.Entry) error {
	if e.Open == nil {
		if e.Size != 0 {
			return fmt.Errorf("%s: %d bytes that cannot be opened", e.Path, e.Size)
		}
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	defer r.Close()
	n, err := io.Copy(w, io.LimitReader(r, e.Size+1))
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	if n != e.Size {
		return fmt.Errorf("%s: content is not %d bytes long", e.Path, e.Size)
	}
	return nil
}

func record(sum [20]byte) map[string]string {
	return map[string]string{checksumRecord: hex.EncodeToString(sum[:])}
}

// The numbers apk reads stand in octal in the plain tar header; it does not
// know the records that hold larger ones.
const (
	maxFileSize = 1<<33 - 1
	maxID       = 1<<21 - 1
)

func checkInstallable(e *filetree.Entry) error {
	switch {
	case e.Path[0] == '.':
		return fmt.Errorf("%q: apk does not install names that begin with a dot at the top", e.Path)
	case hasControl(e.Path):
		return fmt.Errorf("%q: apk refuses names with control characters", e.Path)
	case e.Size > maxFileSize:
		return fmt.Errorf("%s: %d bytes are more than apk can read", e.Path, e.Size)
	case e.UID < 0 || e.GID < 0 || e.UID > maxID || e.GID > maxID:
		return fmt.Errorf("%s: owner %d:%d is out of the range apk can read", e.Path, e.UID, e.GID)
	case !e.ModTime.IsZero() && e.ModTime.Before(epoch):
		return fmt.Errorf("%s: modified before 1970, which apk cannot read", e.Path)
	}
	return nil
}

func hasControl(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

const (
	infoFile      = ".PKGINFO"
	maxScriptSize = 256 << 10 // apk reads no larger one
)

// scriptFiles are the scripts apk knows, in the order of its own database.
var scriptFiles = [...]string{
	".pre-install", ".post-install", ".pre-deinstall", ".post-deinstall", ".pre-upgrade", ".post-upgrade", ".trigger",
}

func isScript(name string) bool { return slices.Contains(scriptFiles[:], name) }

// WriteControl writes the control section, and returns what names it: its
// SHA-1 for an index, its SHA-256 to be signed. p needs its DataHash. The
// extra files are not looked at by apk; their names begin with a dot.
func WriteControl(w io.Writer, p *Package, s Scripts, extra map[string][]byte, mtime time.Time) (sha1 Checksum, sha256 [32]byte, err error) {
	files, err := controlFiles(p, s, extra)
	if err == nil {
		sha1, sha256, err = writeMember(w, files, mtime, goesOn)
	}
	if err != nil {
		return Checksum{}, [32]byte{}, fmt.Errorf("writing control section of %s: %w", p.Name, err)
	}
	return sha1, sha256, nil
}

func controlFiles(p *Package, s Scripts, extra map[string][]byte) ([]controlFile, error) {
	if p.DataHash == "" {
		return nil, errors.New("the package has no data hash")
	}
	var info bytes.Buffer
	if err := p.WriteInfo(&info); err != nil {
		return nil, err
	}
	files := []controlFile{{name: infoFile, body: info.Bytes()}}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if name == infoFile || isScript(name) || strings.HasPrefix(name, signPrefix) || !isControlName(name) {
			return nil, fmt.Errorf("%q is no name for a file beside %s", name, infoFile)
		}
		files = append(files, controlFile{name: name, body: extra[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if !isScript(name) {
			return nil, fmt.Errorf("%q is no script that apk knows", name)
		}
		if len(s[name]) > maxScriptSize {
			return nil, fmt.Errorf("script %s: %d bytes, apk reads no more than %d", name, len(s[name]), maxScriptSize)
		}
		files = append(files, controlFile{name: name, mode: 0o755, body: s[name]})
	}
	if len(p.Triggers) > 0 && s[".trigger"] == nil {
		return nil, errors.New("triggers without a script .trigger")
	}
	return files, nil
}

// isControlName reports whether apk takes a file of this name for a part of
// the control section: any other name begins the data section.
func isControlName(name string) bool {
	return len(name) > 1 && name[0] == '.' && !strings.Contains(name, "/") && !hasControl(name) && name != ".INSTALL"
}

// SignControl writes the signature section for a control section, or for an
// index, whose compressed bytes have the given SHA-256.
func SignControl(w io.Writer, s Signer, sha256 []byte, mtime time.Time) error {
	sig, err := s.Sign(sha256)
	if err != nil {
		return fmt.Errorf("signing with %s: %w", s.KeyName(), err)
	}
	files := []controlFile{{name: signSHA256 + s.KeyName(), body: sig}}
	if _, _, err := writeMember(w, files, mtime, goesOn); err != nil {
		return fmt.Errorf("signing with %s: %w", s.KeyName(), err)
	}
	return nil
}

// Resign copies the package file r to w with its signatures replaced by one
// of s. The package need not be signed before, but it has to be sound; when
// it is not, what was written is of no use.
func Resign(w io.Writer, r io.Reader, s Signer) error {
	var control bytes.Buffer
	src, err := openPackage(r, Verify{Insecure: true}, &control)
	if err != nil {
		return fmt.Errorf("signing package: %w", err)
	}
	if err := SignControl(w, s, src.ControlSHA256[:], src.controlTime); err != nil {
		return fmt.Errorf("signing %s: %w", src.Package.Name, err)
	}
	if _, err := control.WriteTo(w); err != nil {
		return fmt.Errorf("signing %s: %w", src.Package.Name, err)
	}
	copied := &copier{w: w}
	src.tee = copied
	for err == nil {
		_, _, err = src.Next()
	}
	if err == io.EOF {
		err = copied.err
	}
	if err != nil {
		return fmt.Errorf("signing %s: %w", src.Package.Name, err)
	}
	return nil
}

// A copier remembers the first error instead of returning it to a hash.
type copier struct {
	w   io.Writer
	err error
}

func (c *copier) Write(p []byte) (int, error) {
	if c.err == nil {
		_, c.err = c.w.Write(p)
	}
	return len(p), nil
}
