package inputs

import "distro.internal/ci/record"

// Encode writes those of the inputs that are still good for something, and
// returns their new numbers.
func (s *Set) Encode(w *record.Writer, used []int32) map[int32]int32 {
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
		w.Bool(i.looks.executable)
		for _, v := range []int64{i.looks.size, i.looks.mtime, i.looks.ctime, int64(i.looks.inode), int64(i.looks.device), int64(i.looks.mode)} {
			w.Int(v)
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
		i.looks.executable = r.Bool()
		for _, v := range []*int64{&i.looks.size, &i.looks.mtime, &i.looks.ctime} {
			*v = r.Int()
		}
		for _, v := range []*uint64{&i.looks.inode, &i.looks.device, &i.looks.mode} {
			*v = uint64(r.Int())
		}
		if _, twice := s.number[i.name]; twice || i.looks.kind > folder {
			r.Fail()
		}
		s.number[i.name] = int32(len(s.inputs))
		s.inputs = append(s.inputs, i)
	}
	return s
}
