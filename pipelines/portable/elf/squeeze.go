package elf

import (
	"debug/elf"
	"slices"
)

// What is loaded mostly stands at the beginning of a file, and what is dropped behind it. But tools that change finished
// programs append segments: then the file shrinks only if those move up, over what is dropped. They move by whole pages,
// and keep their addresses.

// block is a part of the file that stays together.
type block struct {
	start, end uint64 // in the old file
	shift      uint64 // how far it moves up
}

// blocks takes the fixed part into pieces, if there is something to gain by it.
func (f *file) blocks() []block {
	whole := []block{{end: f.fixed}}
	gain := slices.ContainsFunc(f.sections, func(s section) bool {
		return (s.dropped || s.rewritten) && s.content != nil && s.offset+uint64(len(s.content)) <= f.fixed
	})
	page := f.page()
	if f.free || !gain || page == 0 {
		return whole
	}
	used := f.loaded()
	slices.SortFunc(used, func(a, b block) int { return int(int64(a.start) - int64(b.start)) })
	all := used[:1]
	for _, b := range used[1:] {
		last := &all[len(all)-1]
		if b.start <= last.end {
			last.end = max(last.end, b.end)
			continue
		}
		b.shift = last.shift + (b.start-last.end)/page*page
		all = append(all, b)
	}
	return all
}

// loaded lists the headers, the segments and the sections that are loaded, as they lie in the file.
func (f *file) loaded() []block {
	used := []block{{end: uint64(f.header)}}
	start, count := f.programs()
	used = append(used, block{start: start, end: start + uint64(count*f.program)})
	for i := range count {
		offset, size := f.readProgram(f.data[start+uint64(i*f.program):])
		if _, err := f.slice(offset, size); err == nil && size > 0 {
			used = append(used, block{start: offset, end: offset + size})
		}
	}
	for i := range f.sections {
		if s := &f.sections[i]; s.allocated() && s.content != nil {
			used = append(used, block{start: s.offset, end: s.offset + s.size})
		}
	}
	return used
}

// programs is where the program headers are, which were found to be within the file.
func (f *file) programs() (start uint64, count int) {
	count = int(f.order.Uint16(f.data[f.counts()+2:]))
	if count == 0xffff {
		count = int(f.sections[0].info)
	}
	return f.address(f.data[f.programOffset():]), count
}

// page is what segments may move by; 0 when they do not say.
func (f *file) page() uint64 {
	page := uint64(0)
	start, count := f.programs()
	for i := range count {
		b := f.data[start+uint64(i*f.program):]
		if align := f.address(b[f.program-f.word:]); elf.ProgType(f.order.Uint32(b)) == elf.PT_LOAD {
			if align == 0 || align&(align-1) != 0 {
				return 0
			}
			page = max(page, align)
		}
	}
	return page
}

// place is where a part of the old file is in the new one; false for what is in none of the blocks.
func place(blocks []block, offset, size uint64) (uint64, bool) {
	for _, b := range blocks {
		if b.start <= offset && offset <= b.end && size <= b.end-offset {
			return offset - b.shift, true
		}
	}
	return 0, false
}

// moveSegments tells of the program headers where they and their segments are now.
func (f *file) moveSegments(out []byte, blocks []block) {
	start, count := f.programs()
	if at, ok := place(blocks, start, uint64(count*f.program)); ok && count > 0 {
		f.putAddress(out[f.programOffset():], at)
		start = at
	}
	field := 8
	if f.word == 4 {
		field = 4
	}
	for i := range count {
		b := out[start+uint64(i*f.program):]
		offset, size := f.readProgram(b)
		if at, ok := place(blocks, offset, size); ok && size > 0 {
			f.putAddress(b[field:], at)
		}
	}
}
