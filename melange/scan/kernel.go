package scan

import (
	"bytes"
	"debug/pe"
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

// kernelVersion reads the version out of a kernel: an image that may be compressed as a whole, or the .linux section of a
// unified kernel image.
func kernelVersion(f *file) string {
	image := content(f)
	if p, err := pe.NewFile(bytes.NewReader(image)); err == nil {
		if section := p.Section(".linux"); section != nil {
			if inner, err := section.Data(); err == nil {
				image = content(&file{ReaderAt: bytes.NewReader(inner), size: int64(len(inner))})
			}
		}
	}
	return imageVersion(image)
}

// imageVersion goes by an x86 boot image's header (see Documentation/arch/x86/boot.rst: the offset at 0x20e counts from
// 0x200), or by the banner of any other image. Those of ARM unpack themselves: the banner is in what they hold in gzip.
func imageVersion(image []byte) string {
	if len(image) > 0x210 && bytes.Equal(image[0x202:0x206], []byte("HdrS")) {
		at := min(int(binary.LittleEndian.Uint16(image[0x20e:]))+0x200, len(image))
		return string(versionPrefix.Find(image[at:]))
	}
	if m := kernelBanner.FindSubmatch(image); m != nil {
		return string(m[1])
	}
	for at, tries := 0, 0; tries < maxPayloads; tries++ {
		i := bytes.Index(image[at:], gzipDeflate)
		if i < 0 {
			break
		}
		at += i
		if r, err := gzip.NewReader(bytes.NewReader(image[at:])); err == nil {
			payload, _ := io.ReadAll(io.LimitReader(r, maxKernel)) // what comes after it is no gzip
			if m := kernelBanner.FindSubmatch(payload); m != nil {
				return string(m[1])
			}
		}
		at += len(gzipDeflate)
	}
	return ""
}

// gzipDeflate is how gzip begins; in an image it may stand by chance.
var gzipDeflate = []byte{0x1f, 0x8b, 0x08}

const maxPayloads = 64

// firstMatch searches a file, unpacked when it is compressed.
func firstMatch(f *file, what *regexp.Regexp) string {
	if m := what.FindSubmatch(content(f)); m != nil {
		return string(m[1])
	}
	return ""
}

// content is that of a file, unpacked when it is compressed; of one that is broken there is none.
func content(f *file) []byte {
	r, err := unpacked(f)
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r, maxKernel))
	if err != nil {
		return nil
	}
	return b
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
