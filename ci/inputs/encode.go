package inputs

import "distro.internal/ci/record"

// Encode writes those of the inputs that are still good for something, and
// returns their new numbers. What the file system says of them goes elsewhere:
// it may change without any of them being another.
func (s *Set) Encode(w, looks *record.Writer, used []int32) map[int32]int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := map[int32]int32{}
	var list []int32
	for _, n := range used {
		if _, ok := number[n]; !ok {
			number[n] = int32(len(list))
			list = append(list, n)
		}
	}
	w.Count(len(list))
	for _, n := range list {
		i := &s.inputs[n]
		w.Text(i.name)
		w.Bytes(i.holds[:])
		w.Int(int64(i.looks.kind))
		l := &i.looks
		for _, v := range [...]int64{l.size, l.mtime, l.ctime, int64(l.inode), int64(l.device), int64(l.mode)} {
			looks.Int(v)
		}
	}
	return number
}

// Len is how many inputs there are.
func (s *Set) Len() int { return len(s.inputs) }

// Decode reads a set of inputs below a folder. What is wrong with it the reader
// knows.
func Decode(r *record.Reader, root string) *Set {
	s := New(root)
	count := r.Count()
	s.inputs = make([]input, 0, count)
	for range count {
		i := input{name: r.Text()}
		copy(i.holds[:], r.Bytes(len(i.holds)))
		i.looks.kind = kind(r.Int())
		if _, twice := s.number[i.name]; twice || i.looks.kind > folder {
			r.Fail()
		}
		s.number[i.name] = int32(len(s.inputs))
		s.inputs = append(s.inputs, i)
	}
	return s
}

// DecodeLooks reads what else Encode has written.
func (s *Set) DecodeLooks(r *record.Reader) {
	for n := range s.inputs {
		l := &s.inputs[n].looks
		l.size, l.mtime, l.ctime = r.Int(), r.Int(), r.Int()
		l.inode, l.device, l.mode = uint64(r.Int()), uint64(r.Int()), uint64(r.Int())
	}
}
