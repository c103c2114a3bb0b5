package scan

import (
	"bytes"
	"encoding/binary"
	"io"
	"regexp"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"distro.internal/shared/filetree"
)

var (
	kernelBanner  = regexp.MustCompile(`Linux version ([0-9.\-_A-Za-z]+)`)
	vermagic      = regexp.MustCompile(`vermagic=([0-9.\-_A-Za-z]+)`)
	versionPrefix = regexp.MustCompile(`^[0-9.\-_A-Za-z]+`)
)

// maxKernel bounds what is unpacked in search of a version.
const maxKernel = 256 << 20

// kernel ties modules to the kernel that they were built for.
func (s *scanner) kernel(e *filetree.Entry, f *file) error {
	switch {
	case inDir(e.Path, "lib/modules", "usr/lib/modules") && isModule(e.Path):
		if v := firstMatch(f, vermagic); v != "" {
			s.depend("linux:%s", v)
		}
	case inDir(e.Path, "boot", "lib/modules", "usr/lib/modules"):
		if v := kernelVersion(f); v != "" {
			s.provide("linux:%s", v)
		}
	}
	return nil
}

// kernelVersion reads the version out of an x86 boot image's header (see
// Documentation/arch/x86/boot.rst: the offset at 0x20e counts from 0x200), or
// out of the banner of any other image.
func kernelVersion(f *file) string {
	head, err := f.head(0x210)
	if err == nil && len(head) == 0x210 && bytes.Equal(head[0x202:0x206], []byte("HdrS")) {
		at := int64(binary.LittleEndian.Uint16(head[0x20e:])) + 0x200
		text := make([]byte, 128)
		n, _ := f.ReadAt(text, at)
		return string(versionPrefix.Find(text[:n]))
	}
	if f.size < 1<<20 {
		return "" // configuration, symbol map: not an image
	}
	return firstMatch(f, kernelBanner)
}

// firstMatch searches a file, unpacked when it is compressed.
func firstMatch(f *file, what *regexp.Regexp) string {
	r, err := unpacked(f)
	if err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(r, maxKernel))
	if err != nil {
		return ""
	}
	if m := what.FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}

func unpacked(f *file) (io.Reader, error) {
	head, err := f.head(6)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(f.reader())
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(f.reader(), zstd.WithDecoderConcurrency(1))
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return xz.NewReader(f.reader())
	}
	return f.reader(), nil
}
