package solve

import "unsafe"

// A pool holds strings, each once, by number. It has no pointers in it but
// those to its arrays, so that the collector passes it by and it can lie in a
// file.
type pool struct {
	text   []byte
	starts []uint32 // string i is text[starts[i]:starts[i+1]]
	hashes []uint32
	slots  []int32 // a hash table of numbers plus one; its length is a power of two
}

func (p *pool) count() int32 { return int32(len(p.hashes)) }

// at returns a string. Text that is there does not change any more.
func (p *pool) at(i int32) string {
	from, to := p.starts[i], p.starts[i+1]
	if from == to {
		return ""
	}
	return unsafe.String(&p.text[from:to][0], to-from)
}

// find returns the number of a string; if it is not there, where in slots it
// should be.
func (p *pool) find(s string, hash uint32) (id int32, slot uint32, ok bool) {
	if len(p.slots) == 0 {
		return 0, 0, false
	}
	mask := uint32(len(p.slots) - 1)
	for slot = hash & mask; ; slot = (slot + 1) & mask {
		id = p.slots[slot] - 1
		if id < 0 {
			return 0, slot, false
		}
		if p.hashes[id] == hash && p.at(id) == s {
			return id, slot, true
		}
	}
}

// add returns the number of a string, which it takes in if need be.
func (p *pool) add(s string, hash uint32) int32 {
	id, slot, ok := p.find(s, hash)
	if ok {
		return id
	}
	if 2*len(p.hashes) >= len(p.slots) {
		p.grow()
		_, slot, _ = p.find(s, hash)
	}
	id = p.count()
	if id == 0 {
		p.starts = append(p.starts, 0)
	}
	p.text = append(p.text, s...)
	p.starts = append(p.starts, uint32(len(p.text)))
	p.hashes = append(p.hashes, hash)
	p.slots[slot] = id + 1
	return id
}

func (p *pool) grow() {
	p.slots = make([]int32, max(64, 2*len(p.slots)))
	mask := uint32(len(p.slots) - 1)
	for id, hash := range p.hashes {
		slot := hash & mask
		for p.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		p.slots[slot] = int32(id) + 1
	}
}
