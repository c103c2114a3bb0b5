package plugin

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// A husk is a module without its code: types, imports, exports, tables and memory are those of the module, each function
// has a body that only traps, and the data is the same in fewer pieces.
//
// The engine needs a module's bytes to instantiate it, also when it has the machine code, and it reads and checks all of
// them each time. For a program in Go these are some MB of code that nobody looks at again, and 40,000 pieces of data, since
// Go's linker leaves out every few zeros: fifty milliseconds, before the first step that does anything. The husk takes
// two. So the store files the machine code of a module as that of its husk, and a step loads the husk.
//
// What makes this safe is how the engine finds machine code: by a digest of the module that it is asked to load. A husk
// that is damaged, or of another module, finds none. That a husk without machine code is not taken for a program is up
// to who loads it, see [load].

// The sections of a module, in the terms of the WebAssembly specification, 5.5.
const (
	customSection    = 0
	codeSection      = 10
	dataSection      = 11
	dataCountSection = 12 // comes before the code, in modules whose code names pieces of data
)

// preamble is the magic number of a module and the version of the format.
var preamble = []byte("\x00asm\x01\x00\x00\x00")

// trappingBody is 3 bytes of function: no locals, unreachable, end.
var trappingBody = []byte{3, 0, 0x00, 0x0b}

var errNoModule = errors.New("not a WebAssembly module")

// husk makes the husk of a module that the engine has found to be valid.
func husk(module []byte) ([]byte, error) {
	if len(module) < len(preamble) {
		return nil, errNoModule
	}
	out := slices.Clone(module[:len(preamble)])
	named := false // the pieces of data
	for rest := module[len(preamble):]; len(rest) > 0; {
		kind := rest[0]
		content, after, ok := sized(rest[1:])
		if !ok {
			return nil, errNoModule
		}
		rest = after
		switch kind {
		case customSection: // names, and what debuggers want
			continue
		case dataCountSection:
			named = true
		case codeSection:
			count, n := binary.Uvarint(content)
			if n <= 0 || count > uint64(len(content)) { // a function has a byte at the least
				return nil, errNoModule
			}
			content = slices.Concat(content[:n], slices.Repeat(trappingBody, int(count)))
		case dataSection:
			if fewer, ok := joined(content); ok && !named {
				content = fewer
			}
		}
		out = append(out, kind)
		out = binary.AppendUvarint(out, uint64(len(content)))
		out = append(out, content...)
	}
	return out, nil
}

// sized cuts off what has its length before it.
func sized(b []byte) (content, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n:][:size], b[n:][size:], true
}

// A piece of data is written to the first memory at a fixed offset: mode 0, i32.const, the offset, end, the bytes.
const (
	plainMode = 0
	i32Const  = 0x41
	endCode   = 0x0b
)

// widestGap is how many zeros may become data. A piece costs the engine what some hundred bytes do.
const widestGap = 256

// piece is data, and where in the memory it goes.
type piece struct {
	at   int64
	data []byte
}

// joined is a section of data with pieces that lie close to each other made one: a memory begins as zeros. It is not ok for
// pieces of another kind, and for some that lie over each other.
func joined(section []byte) (_ []byte, ok bool) {
	all, ok := pieces(section)
	if !ok {
		return nil, false
	}
	slices.SortStableFunc(all, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	var fewer []piece
	for _, p := range all {
		if len(fewer) == 0 {
			fewer = append(fewer, piece{p.at, slices.Clone(p.data)})
			continue
		}
		last := &fewer[len(fewer)-1]
		switch gap := p.at - last.at - int64(len(last.data)); {
		case gap < 0:
			return nil, false
		case gap <= widestGap:
			last.data = append(append(last.data, make([]byte, gap)...), p.data...)
		default:
			fewer = append(fewer, piece{p.at, slices.Clone(p.data)})
		}
	}
	out := binary.AppendUvarint(nil, uint64(len(fewer)))
	for _, p := range fewer {
		out = append(out, plainMode, i32Const)
		out = appendSigned(out, p.at)
		out = append(out, endCode)
		out = binary.AppendUvarint(out, uint64(len(p.data)))
		out = append(out, p.data...)
	}
	return out, true
}

// pieces reads a section of data. It is not ok when a piece is of another kind than the plain one.
func pieces(section []byte) (all []piece, ok bool) {
	count, n := binary.Uvarint(section)
	if n <= 0 {
		return nil, false
	}
	for rest := section[n:]; count > 0; count-- {
		if len(rest) < 2 || rest[0] != plainMode || rest[1] != i32Const {
			return nil, false
		}
		at, n := signed(rest[2:])
		rest = rest[2+n:]
		if n == 0 || at < 0 || len(rest) == 0 || rest[0] != endCode {
			return nil, false
		}
		data, after, ok := sized(rest[1:])
		if !ok {
			return nil, false
		}
		all, rest = append(all, piece{at, data}), after
	}
	return all, true
}

// signed reads a number in the signed form of LEB128, and tells its length; 0 when there is none.
func signed(b []byte) (v int64, n int) {
	for shift := 0; n < len(b) && n < 5; shift += 7 {
		c := b[n]
		n++
		v |= int64(c&0x7f) << shift
		if c&0x80 == 0 {
			if c&0x40 != 0 {
				v -= 1 << (shift + 7)
			}
			return v, n
		}
	}
	return 0, 0
}

func appendSigned(b []byte, v int64) []byte {
	for ; v < -0x40 || v >= 0x40; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v)&0x7f)
}
