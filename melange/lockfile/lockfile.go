// Package lockfile reads the files in which package managers write down what they have chosen: npm's package-lock.json and
// npm-shrinkwrap.json, yarn.lock, pnpm-lock.yaml, Cargo.lock, and requirements files of pip.
//
// It knows the formats, and which of what they name is of use on a machine. What it returns can be fetched and verified: each
// entry has a digest, or names a commit, and a name that is safe in a path. All mistakes of a file are reported at once, with
// their places. It fetches nothing.
package lockfile

import (
	"bytes"
	"encoding/hex"

	"distro.internal/shared/document"
)

// position is the place of a byte in a file.
func position(file string, data []byte, offset int) document.Pos {
	offset = max(0, min(offset, len(data)))
	before := data[:offset]
	return document.Pos{File: file, Line: bytes.Count(before, []byte("\n")) + 1, Col: offset - bytes.LastIndexByte(before, '\n')}
}

// isHex says whether a text is a digest of so many bytes.
func isHex(s string, bytes int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == bytes
}

// dotted says whether a name is none for a file.
func dotted(s string) bool { return s == "" || s == "." || s == ".." }
