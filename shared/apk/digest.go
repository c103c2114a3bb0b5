package apk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

// The digests here decide what is rebuilt: other packages' keys are made of
// them. Each begins with the name of what it is over; a change of what goes in
// must come with a new name.
const (
	treeDigest    = "apk tree 1"
	contentDigest = "apk content 1"
	payloadDigest = "apk payload 1"
)

// ContentDigest names what an environment sees of a package that is installed
// in it: the files, with mode, owner, links and attributes, and what its
// scripts will do. tree is DataInfo.Tree. Packages of different versions,
// descriptions or times have the same digest when nothing that uses them could
// tell them apart. Times of files do not count, nor does the bill of
// materials in var/lib/db/sbom.
func ContentDigest(tree string, s Scripts, triggers []string) string {
	d := newDigest(contentDigest)
	d.add(tree)
	d.scripts(s)
	d.list(triggers)
	return d.hex()
}

// PayloadDigest names a package with everything a repository and apk see of it,
// except who built it, when, from which commit, and how it is signed. dataHash
// is DataInfo.Hash.
func PayloadDigest(p *Package, dataHash string, s Scripts) string {
	d := newDigest(payloadDigest)
	d.add(p.Name, string(p.Version), string(p.Arch), p.Description, p.URL, p.License, p.Origin)
	for _, l := range p.lists() {
		d.number(len(l.deps))
		for _, dep := range l.deps {
			d.add(dep.String())
		}
	}
	d.number(p.ProviderPriority)
	d.number(p.ReplacesPriority)
	d.list(p.Triggers)
	d.number(int(p.InstalledSize))
	d.scripts(s)
	d.add(dataHash)
	return d.hex()
}

// A digest hashes a sequence of fields, each with its length before it, so that
// no two sequences hash the same bytes.
type digest struct {
	h   hash.Hash
	buf []byte
}

func newDigest(of string) *digest {
	d := &digest{h: sha256.New()}
	d.add(of)
	return d
}

func (d *digest) hex() string { return hex.EncodeToString(d.h.Sum(nil)) }

func (d *digest) number(n int) {
	d.buf = binary.AppendUvarint(d.buf[:0], uint64(n))
	d.h.Write(d.buf)
}

func (d *digest) add(fields ...string) {
	for _, f := range fields {
		d.buf = append(binary.AppendUvarint(d.buf[:0], uint64(len(f))), f...)
		d.h.Write(d.buf)
	}
}

func (d *digest) list(words []string) {
	d.number(len(words))
	d.add(words...)
}

func (d *digest) scripts(s Scripts) {
	d.number(len(s))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		d.add(name, string(s[name]))
	}
}

const sbomDir = "var/lib/db/sbom"

// entry adds one entry of a tree; sum is the SHA-256 of its content.
func (d *digest) entry(e *filetree.Entry, sum string) {
	if e.Path == sbomDir || strings.HasPrefix(e.Path, sbomDir+"/") {
		return
	}
	kind := "file"
	switch e.Mode.Type() {
	case fs.ModeDir:
		kind = "directory"
	case fs.ModeSymlink:
		kind = "symlink"
	case fs.ModeNamedPipe:
		kind = "fifo"
	case fs.ModeDevice:
		kind = "block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		kind = "character device"
	}
	if e.HardLink {
		kind = "hard link"
	}
	d.add(kind, e.Path, e.Link, sum)
	for _, n := range []int{int(filetree.Unix(e.Mode)), e.UID, e.GID, int(e.DevMajor), int(e.DevMinor), len(e.Xattrs)} {
		d.number(n)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		d.add(name, e.Xattrs[name])
	}
}
