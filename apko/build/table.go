package build

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"distro.internal/apko/image"
	"distro.internal/shared/apk"
	"distro.internal/shared/ldcache"
	"distro.internal/shared/rootfs"
	"github.com/klauspost/compress/gzip"
)

// A table is all that is known of a package without its files' content.
type table struct {
	Package                  *apk.Package
	Scripts                  apk.Scripts
	Signature, Control, Data image.LockSection
	Files                    []rootfs.File // in the package's order
	Offsets                  []int64       // of each file: where its content begins in the plain segment

	// Libraries are the shared libraries among the files, so that what is made of them need not read them again.
	Libraries map[int]ldcache.Library
}

// sections measures the members of the package file: signature, if there is one, control and data. The data section was
// verified to be the one that the package names.
func (t *table) sections(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m := &measured{r: bufio.NewReaderSize(f, 64<<10), hash: sha1.New()}
	signature, err := m.member()
	end := m.n
	for err == nil && signature {
		t.Signature, end = m.section(0), m.n
		m.hash.Reset()
		signature, err = m.member()
	}
	if err != nil {
		return fmt.Errorf("measuring the sections of %s: %w", file, err)
	}
	if t.Signature == (image.LockSection{}) {
		end = 0
	}
	t.Control = m.section(end)
	data, err := hex.DecodeString(t.Package.DataHash)
	if err != nil {
		return err
	}
	t.Data = image.LockSection{Range: byteRange(m.n, info.Size()), Checksum: "sha256-" + base64.StdEncoding.EncodeToString(data)}
	t.Package.Size = info.Size()
	return nil
}

func byteRange(start, end int64) string { return fmt.Sprintf("bytes=%d-%d", start, end-1) }

// measured counts and hashes what is taken from a file. It hands out single bytes, so that the decompressor takes no
// byte behind the end of a member.
type measured struct {
	r    *bufio.Reader
	n    int64
	hash hash.Hash
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.took(p[:n])
	return n, err
}

func (m *measured) ReadByte() (byte, error) {
	c, err := m.r.ReadByte()
	if err == nil {
		m.took([]byte{c})
	}
	return c, err
}

func (m *measured) took(p []byte) {
	m.n += int64(len(p))
	m.hash.Write(p)
}

func (m *measured) section(start int64) image.LockSection {
	return image.LockSection{
		Range:    byteRange(start, m.n),
		Checksum: "sha1-" + base64.StdEncoding.EncodeToString(m.hash.Sum(nil)),
	}
}

// member goes over one gzip member and tells whether it is a signature.
func (m *measured) member() (signature bool, err error) {
	z, err := gzip.NewReader(m)
	if err != nil {
		return false, err
	}
	z.Multistream(false)
	mark := make([]byte, len(".SIGN."))
	if _, err := io.ReadFull(z, mark); err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, z)
	return string(mark) == ".SIGN.", err
}

// The table's encoding: numbers as varints, text with its length before it, everything in a fixed order. It is read on
// every build, for every file of the image, which is why it is not JSON.

func (t *table) encode() ([]byte, error) {
	var info bytes.Buffer
	if err := t.Package.WriteInfo(&info); err != nil {
		return nil, err
	}
	var e encoder
	e.text(info.String())
	e.number(t.Package.Size)
	e.text(string(t.Package.Checksum[:]))
	for _, s := range []image.LockSection{t.Signature, t.Control, t.Data} {
		e.text(s.Range)
		e.text(s.Checksum)
	}
	e.number(int64(len(t.Scripts)))
	for _, name := range slices.Sorted(maps.Keys(t.Scripts)) {
		e.text(name)
		e.text(string(t.Scripts[name]))
	}
	e.number(int64(len(t.Files)))
	for i := range t.Files {
		e.file(&t.Files[i], t.Offsets[i])
	}
	e.number(int64(len(t.Libraries)))
	for _, i := range slices.Sorted(maps.Keys(t.Libraries)) {
		e.library(i, t.Libraries[i])
	}
	return e, nil
}

type encoder []byte

func (e *encoder) number(n int64) { *e = binary.AppendVarint(*e, n) }

func (e *encoder) text(s string) {
	e.number(int64(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) file(f *rootfs.File, offset int64) {
	e.text(f.Path)
	hard := int64(0)
	if f.HardLink {
		hard = 1
	}
	for _, n := range []int64{
		int64(f.Mode), int64(f.UID), int64(f.GID), f.ModTime.Unix(), f.Size, hard,
		int64(f.DevMajor), int64(f.DevMinor), offset, int64(len(f.Xattrs)),
	} {
		e.number(n)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		e.text(name)
		e.text(f.Xattrs[name])
	}
	e.text(f.Link)
	if f.Sum.IsZero() {
		e.text("")
	} else {
		e.text(string(f.Sum[:]))
	}
}

func (e *encoder) library(file int, l ldcache.Library) {
	e.number(int64(file))
	e.text(l.Soname)
	e.number(int64(l.Flags))
	big := int64(0)
	if l.Big {
		big = 1
	}
	e.number(big)
}

func (t *table) decode(encoded []byte) error {
	d := decoder{rest: string(encoded)}
	info := d.text()
	size, checksum := d.number(), d.text()
	for _, s := range []*image.LockSection{&t.Signature, &t.Control, &t.Data} {
		s.Range, s.Checksum = d.text(), d.text()
	}
	t.Scripts = apk.Scripts{}
	for range d.count() {
		name := d.text()
		t.Scripts[name] = []byte(d.text())
	}
	t.Files = make([]rootfs.File, d.count())
	t.Offsets = make([]int64, len(t.Files))
	for i := range t.Files {
		d.file(&t.Files[i], &t.Offsets[i])
	}
	t.Libraries = make(map[int]ldcache.Library)
	for range d.count() {
		file := int(d.number())
		t.Libraries[file] = ldcache.Library{Soname: d.text(), Flags: uint32(d.number()), Big: d.number() == 1}
	}
	if d.bad || d.rest != "" || len(checksum) != len(apk.Checksum{}) {
		return errors.New("it is damaged")
	}
	var err error
	if t.Package, err = apk.ParseInfo(bytes.NewReader([]byte(info))); err != nil {
		return err
	}
	t.Package.Size = size
	copy(t.Package.Checksum[:], checksum)
	return nil
}

type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) number() int64 {
	n, used := varint(d.rest)
	if used <= 0 {
		d.bad, d.rest = true, ""
		return 0
	}
	d.rest = d.rest[used:]
	return n
}

// varint is binary.Varint for strings.
func varint(s string) (int64, int) {
	var u uint64
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		u |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			n := int64(u >> 1)
			if u&1 != 0 {
				n = ^n
			}
			return n, i + 1
		}
	}
	return 0, 0
}

// count is the number of things that follow, each of which takes a byte at least.
func (d *decoder) count() int {
	n := d.number()
	if n < 0 || n > int64(len(d.rest)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count()
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) file(f *rootfs.File, offset *int64) {
	f.Path = d.text()
	f.Mode, f.UID, f.GID = fs.FileMode(d.number()), int(d.number()), int(d.number())
	f.ModTime, f.Size, f.HardLink = time.Unix(d.number(), 0).UTC(), d.number(), d.number() == 1
	f.DevMajor, f.DevMinor = uint32(d.number()), uint32(d.number())
	*offset = d.number()
	for range d.count() {
		if f.Xattrs == nil {
			f.Xattrs = make(map[string]string)
		}
		name := d.text()
		f.Xattrs[name] = d.text()
	}
	f.Link = d.text()
	copy(f.Sum[:], d.text())
}
