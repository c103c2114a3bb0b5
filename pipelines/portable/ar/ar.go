// Package ar rewrites archives of object files, as ar makes them in the variants of GNU and BSD.
//
// It knows headers, long names and the index of symbols. It refuses to know what the members are.
package ar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Magic begins an archive. Thin archives, which only name files that lie elsewhere, begin otherwise.
const Magic = "!<arch>\n"

// Names of members that are not files.
const (
	symbols   = "/"
	symbols64 = "/SYM64/"
	longNames = "//"
	bsdLong   = "#1/" // the name, of the length that follows, stands before the content
	bsdIndex  = "__.SYMDEF"
)

// A header has fields of text, filled with spaces.
const (
	headerSize = 60
	nameEnd    = 16
	sizeStart  = 48
	sizeEnd    = 58
	terminator = "`\n"
)

type member struct {
	name        string // as in the header
	content     []byte
	before, now int // offsets of the header in the old and in the new archive
}

func (m member) file() bool {
	return m.name != symbols && m.name != symbols64 && m.name != longNames && !m.bsd(bsdIndex)
}

// bsd tells whether the member has a name that begins so, in the BSD variant.
func (m member) bsd(name string) bool {
	if strings.HasPrefix(m.name, name) {
		return true
	}
	length, long := strings.CutPrefix(m.name, bsdLong)
	n, err := strconv.Atoi(length)
	return long && err == nil && n >= 0 && n <= len(m.content) && bytes.HasPrefix(m.content[:n], []byte(name))
}

// Rewrite returns the archive with each file replaced by what change makes of it, and without times, owners and modes. The
// symbols that files define must stay the same.
func Rewrite(data []byte, change func([]byte) ([]byte, error)) ([]byte, error) {
	members, err := parse(data)
	if err != nil {
		return nil, err
	}
	moved := map[int]int{}
	at := len(Magic)
	for i := range members {
		m := &members[i]
		if m.file() {
			if err := m.rewrite(change); err != nil {
				return nil, fmt.Errorf("member at %d: %w", m.before, err)
			}
		}
		m.now = at
		moved[m.before] = at
		at += headerSize + len(m.content) + len(m.content)%2
	}
	out := append(make([]byte, 0, at), Magic...)
	for _, m := range members {
		if err := m.reindex(moved); err != nil {
			return nil, err
		}
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d%s", m.name, 0, 0, 0, "644", len(m.content), terminator)
		out = append(out, m.content...)
		if len(m.content)%2 != 0 {
			out = append(out, '\n')
		}
	}
	return out, nil
}

// rewrite changes the content. A name that stands before it stays.
func (m *member) rewrite(change func([]byte) ([]byte, error)) error {
	name := 0
	if length, long := strings.CutPrefix(m.name, bsdLong); long {
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > len(m.content) {
			return fmt.Errorf("name of %q bytes", length)
		}
		name = n
	}
	content, err := change(m.content[name:])
	if err != nil {
		return err
	}
	m.content = append(append([]byte(nil), m.content[:name]...), content...)
	return nil
}

// parse takes an archive apart.
func parse(data []byte) ([]member, error) {
	if !bytes.HasPrefix(data, []byte(Magic)) {
		return nil, errors.New("not an archive")
	}
	var members []member
	for at := len(Magic); at < len(data); {
		if len(data)-at < headerSize {
			return nil, fmt.Errorf("the header at %d is cut off", at)
		}
		head := data[at : at+headerSize]
		if string(head[sizeEnd:]) != terminator {
			return nil, fmt.Errorf("there is no header at %d", at)
		}
		size, err := strconv.Atoi(strings.TrimSpace(string(head[sizeStart:sizeEnd])))
		if err != nil || size < 0 || size > len(data)-at-headerSize {
			return nil, fmt.Errorf("the member at %d has a size of %q bytes", at, head[sizeStart:sizeEnd])
		}
		content := data[at+headerSize : at+headerSize+size]
		members = append(members, member{name: strings.TrimRight(string(head[:nameEnd]), " "), content: content, before: at})
		at += headerSize + size + size%2
	}
	return members, nil
}

// reindex has an index of symbols say where the members are now.
func (m *member) reindex(moved map[int]int) error {
	switch {
	case m.name == symbols:
		return m.reindexGNU(4, moved)
	case m.name == symbols64:
		return m.reindexGNU(8, moved)
	case m.bsd(bsdIndex):
		return errors.New("an index of symbols in the BSD variant")
	}
	return nil
}

// reindexGNU: a count and that many offsets, big-endian, then names.
func (m *member) reindexGNU(word int, moved map[int]int) error {
	number := func(b []byte) uint64 {
		if word == 4 {
			return uint64(binary.BigEndian.Uint32(b))
		}
		return binary.BigEndian.Uint64(b)
	}
	if len(m.content) < word {
		return errors.New("the index of symbols is cut off")
	}
	count := number(m.content)
	if count > uint64(len(m.content)-word)/uint64(word) {
		return fmt.Errorf("the index has no room for %d symbols", count)
	}
	content := bytes.Clone(m.content)
	for i := range int(count) {
		b := content[(i+1)*word:]
		now, found := moved[int(number(b))]
		switch {
		case !found:
			return fmt.Errorf("the index names a member at %d", number(b))
		case word == 4:
			binary.BigEndian.PutUint32(b, uint32(now))
		default:
			binary.BigEndian.PutUint64(b, uint64(now))
		}
	}
	m.content = content
	return nil
}
