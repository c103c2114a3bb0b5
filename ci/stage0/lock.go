package stage0

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Lock pins the closure of a Spec. As text it is one line for each package,
// by name, to be read in review:
//
//	suite trixie
//	bash 5.2.37-2+b10 amd64 1500788 <sha256> pool/main/b/bash/bash_5.2.37-2+b10_amd64.deb
type Lock struct {
	Suite string
	Pins  []Pin // by name
}

// A Pin is one Debian package by content.
type Pin struct {
	Name, Version, Arch string // as Debian spells them
	Size                int64  // bytes of the file
	SHA256              string // hex
	Path                string // of the file in Debian's archive
}

// errStale is the cause when spec, lock and archive do not fit each other any more.
var errStale = errors.New(`run "world stage0 refresh" to make a new lock`)

func (l *Lock) pin(name string) (Pin, bool) {
	i, ok := slices.BinarySearchFunc(l.Pins, name, func(p Pin, name string) int { return cmp.Compare(p.Name, name) })
	if !ok {
		return Pin{}, false
	}
	return l.Pins[i], true
}

// Size is how much is to be fetched, in bytes.
func (l *Lock) Size() (n int64) {
	for _, p := range l.Pins {
		n += p.Size
	}
	return n
}

// Text returns the lock as it is committed.
func (l *Lock) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %d packages, %d bytes. Made by \"world stage0 refresh\".\n", len(l.Pins), l.Size())
	fmt.Fprintf(&b, "suite %s\n", l.Suite)
	for _, p := range l.Pins {
		fmt.Fprintf(&b, "%s %s %s %d %s %s\n", p.Name, p.Version, p.Arch, p.Size, p.SHA256, p.Path)
	}
	return b.Bytes()
}

// digest names what is pinned, not how the file looks.
func (l *Lock) digest() string {
	sum := sha256.Sum256(l.Text())
	return hex.EncodeToString(sum[:])
}

// ParseLock reads what Text wrote; file names it in errors.
func ParseLock(file string, data []byte) (*Lock, error) {
	l := new(Lock)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		if err := l.line(lines.Text()); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if l.Suite == "" {
		return nil, fmt.Errorf("%s: no suite in it", file)
	}
	return l, nil
}

func (l *Lock) line(line string) error {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		return nil
	case len(words) == 2 && words[0] == "suite":
		l.Suite = words[1]
		return nil
	case len(words) != 6:
		return fmt.Errorf("not name, version, architecture, size, sha256 and path: %q", line)
	}
	p := Pin{Name: words[0], Version: words[1], Arch: words[2], SHA256: words[4], Path: words[5]}
	var err error
	if p.Size, err = strconv.ParseInt(words[3], 10, 64); err != nil || p.Size < 0 {
		return fmt.Errorf("size %q is no number of bytes", words[3])
	}
	if err := p.check(); err != nil {
		return err
	}
	if n := len(l.Pins); n > 0 && l.Pins[n-1].Name >= p.Name {
		return fmt.Errorf("%s does not come after %s", p.Name, l.Pins[n-1].Name)
	}
	l.Pins = append(l.Pins, p)
	return nil
}

func (p Pin) check() error {
	if !isSHA256(p.SHA256) {
		return fmt.Errorf("%s: %q is no SHA-256", p.Name, p.SHA256)
	}
	if !isPoolPath(p.Path) {
		return fmt.Errorf("%s: %q is no path in the archive", p.Name, p.Path)
	}
	return nil
}

func isSHA256(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == sha256.Size && s == strings.ToLower(s)
}

// isPoolPath keeps a committed file from leading out of the archive.
func isPoolPath(s string) bool {
	return strings.HasPrefix(s, "pool/") && path.Clean(s) == s && !strings.ContainsAny(s, "?#%\\")
}
