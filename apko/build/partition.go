package build

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"

	"distro.internal/apko/image"
)

// Which packages share a layer
//
// Who has pulled an image once should pull little when it is made anew. So what changes together lies together: the
// packages of one recipe. There are more recipes than layers one wants, so some share a layer, and then the update of
// one makes all of it new. Two things matter: that layers are of about one size, so that no update costs much more
// than others, and that who shares with whom stays as it is when sizes change a little or a package comes or goes.
// Sorting by size and cutting does neither: a recipe that outgrows its neighbour moves both, and all that is left over
// at the end is one huge layer.
//
// So sizes count in powers of two only, which seldom change. The largest recipes have a layer each, as long as one is at
// least half a fair share of what is left for the layers that are left. The others are thrown into these by a hash of
// their names: each recipe goes to the layer for which the hash of both is the highest (rendezvous hashing), which
// depends on no other recipe; and if the number of layers changes, only what belongs into the layer that came or went
// moves.

// recipe is the packages of one origin.
type recipe struct {
	name  string
	size  int64 // installed, in bytes
	parts []int
}

// class is the power of two that the size counts as.
func class(size int64) int { return bits.Len64(uint64(max(size, 0))) }

// partition groups the parts for the layers, lowest first, each group in install order; the last group is the top
// layer's, where also goes what no package brings. With the strategy "origin" there are at most budget groups below it.
func partition(parts []*part, l image.Layering) [][]int {
	if l.Strategy == "" {
		all := make([]int, len(parts))
		for i := range all {
			all[i] = i
		}
		return [][]int{all}
	}
	var groups [][]int
	heavy, light := weigh(recipes(parts), l.Budget)
	for _, r := range heavy {
		groups = append(groups, r.parts)
	}
	shared := make([][]int, max(l.Budget-len(heavy), 0))
	for _, r := range light {
		i := rendezvous(r.name, len(shared))
		shared[i] = append(shared[i], r.parts...)
	}
	for _, group := range shared {
		if len(group) > 0 {
			slices.Sort(group)
			groups = append(groups, group)
		}
	}
	return append(groups, nil)
}

// recipes lists the recipes of the parts, the largest first.
func recipes(parts []*part) []recipe {
	at := make(map[string]int)
	var list []recipe
	for i, p := range parts {
		name := originOf(p)
		if _, ok := at[name]; !ok {
			at[name] = len(list)
			list = append(list, recipe{name: name})
		}
		r := &list[at[name]]
		r.size += p.Package.InstalledSize
		r.parts = append(r.parts, i)
	}
	slices.SortFunc(list, func(a, b recipe) int {
		return cmp.Or(cmp.Compare(class(b.size), class(a.size)), cmp.Compare(a.name, b.name))
	})
	return list
}

// weigh tells the recipes that have a layer of their own from those that share: each that fills at least half of the fair
// share of what is left, of sizes as they count. When all can have one, they have.
func weigh(list []recipe, budget int) (heavy, light []recipe) {
	if len(list) <= budget {
		return list, nil
	}
	left := int64(0)
	for _, r := range list {
		left += counted(r)
	}
	n := 0
	for n < budget-1 && 2*counted(list[n]) >= left/int64(budget-n) {
		left -= counted(list[n])
		n++
	}
	return list[:n], list[n:]
}

func counted(r recipe) int64 { return int64(1) << class(r.size) }

// rendezvous is the one of n layers that a recipe goes to.
func rendezvous(name string, n int) int {
	best, highest := 0, uint64(0)
	for i := range n {
		sum := sha256.Sum256([]byte(strconv.Itoa(i) + " " + name))
		if h := binary.BigEndian.Uint64(sum[:]); h >= highest {
			best, highest = i, h
		}
	}
	return best
}
