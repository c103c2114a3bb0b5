package elf

import (
	"slices"
	"strings"
)

// packStrings makes a table of strings in which one that ends another is a part of it, and tells where each begins.
func packStrings(all []string) (table []byte, offsets map[string]uint32) {
	offsets = make(map[string]uint32, len(all))
	unique := make([]string, 0, len(all))
	for _, s := range all {
		if _, seen := offsets[s]; !seen {
			offsets[s] = 0
			unique = append(unique, s)
		}
	}
	slices.SortFunc(unique, fromTheEnd)
	table = []byte{0} // where the empty string is
	last := ""
	for _, s := range unique {
		if s == "" {
			continue
		}
		if strings.HasSuffix(last, s) {
			offsets[s] = offsets[last] + uint32(len(last)-len(s))
			continue
		}
		offsets[s] = uint32(len(table))
		table = append(append(table, s...), 0)
		last = s
	}
	return table, offsets
}

// fromTheEnd orders strings by their last bytes, and of two of which one ends the other, the longer before the shorter.
func fromTheEnd(a, b string) int {
	for i, j := len(a)-1, len(b)-1; i >= 0 && j >= 0; i, j = i-1, j-1 {
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
	}
	return len(b) - len(a)
}
