package solve

import (
	"math"
	"math/bits"
)

// apk keeps its names in a hash table, and walks the names that depend on a
// name, or wait for it, in the order of that table: by bucket, and within one
// the name met last comes first. Where two packages come along with a third
// this decides which is installed first, so it is part of the law.

const buckets = 20000

// rank orders names for listings, given their hashes, and their numbers in
// order of first mention.
func rank(hash uint32, id int32) uint64 {
	return uint64(hash%buckets)<<32 | uint64(math.MaxInt32-id)
}

// hashOf is apk's hash of a name: 32 bit Murmur3, seeded with 5381.
func hashOf(name string) uint32 {
	h := uint32(5381)
	n := len(name)
	for ; len(name) >= 4; name = name[4:] {
		k := uint32(name[0]) | uint32(name[1])<<8 | uint32(name[2])<<16 | uint32(name[3])<<24
		h = bits.RotateLeft32(h^scramble(k), 13)*5 + 0xe6546b64
	}
	var k uint32
	for i := len(name) - 1; i >= 0; i-- {
		k = k<<8 | uint32(name[i])
	}
	h ^= scramble(k) ^ uint32(n)
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

func scramble(k uint32) uint32 { return bits.RotateLeft32(k*0xcc9e2d51, 15) * 0x1b873593 }
