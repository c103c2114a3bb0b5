package cas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// A Digest names content: what it hashes to, and how long it is. It is the Digest of the Remote
// Execution API with SHA-256 as the function.
type Digest struct {
	Hash string `json:"hash"` // lower-case hex
	Size int64  `json:"size"` // bytes
}

// DigestOf is the digest of content in memory.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{Hash: hex.EncodeToString(sum[:]), Size: int64(len(b))}
}

// String is "hash/size", as in the resource names of the Remote Execution API.
func (d Digest) String() string { return d.Hash + "/" + strconv.FormatInt(d.Size, 10) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest reads what String wrote.
func ParseDigest(s string) (Digest, error) {
	hash, size, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(size, 10, 64)
	d := Digest{Hash: hash, Size: n}
	if err != nil || strconv.FormatInt(n, 10) != size || d.check() != nil {
		return Digest{}, fmt.Errorf("bad digest %.100q", s)
	}
	return d, nil
}

// check keeps anything but a hash from becoming part of a file name.
func (d Digest) check() error {
	if len(d.Hash) != sha256.Size*2 || d.Size < 0 || strings.Trim(d.Hash, "0123456789abcdef") != "" {
		return fmt.Errorf("bad digest %.100q", d.String())
	}
	return nil
}
