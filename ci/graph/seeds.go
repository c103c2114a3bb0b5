package graph

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"distro.internal/shared/document"
)

// Cycles are normal in a distribution that builds itself: a shell is needed to build the compiler that the shell is
// built with. Something must be there before. A seed is a recipe whose older build, from another repository, is taken by
// those that are in a cycle with it; everybody else waits for the new one. So the graph has no cycles, every order that
// it allows gives the same, and what is older than the run is said in one place, by name.
//
// "In a cycle with it" is decided on the graph without any seeds, so that what one seed means does not depend on the
// others. What a cut edge would have brought along, the needs of the older build, comes from where that comes from.
//
// Which seeds are the fewest is a hard question (a feedback vertex set). Where it matters, in trees of thousands of
// recipes, people know better: it is those whose older builds are at hand, and change seldom. The proposal of [Seeds] is
// a start: of each set of recipes that need each other, the one through which most ways lead, again and again; then those
// that turn out to be of no use are dropped. For Wolfi's tree it finds about as many as are known to be needed.

// connectAll connects nodes, and opens the cycles at the seeds.
func (m *makers) connectAll(nodes []*Node, seeds []string) error {
	for _, n := range nodes {
		m.connect(n, nil)
	}
	if len(seeds) == 0 {
		return nil
	}
	named, err := seedNames(nodes, seeds)
	if err != nil {
		return err
	}
	m.open(components(nodes), named)
	return nil
}

func seedNames(nodes []*Node, seeds []string) (map[string]bool, error) {
	known := map[string]bool{}
	for _, n := range nodes {
		if n.Kind == Packages {
			known[n.Name] = true
		}
	}
	named := map[string]bool{}
	for _, s := range seeds {
		if !known[s] {
			hint := document.DidYouMean(s, slices.Sorted(maps.Keys(known)))
			if hint != "" {
				hint = " (" + hint + ")"
			}
			return nil, fmt.Errorf("seeds: there is no recipe %q%s", s, hint)
		}
		named[s] = true
	}
	return named, nil
}

// open connects the nodes of cycles anew, without ways to the seeds among them.
func (m *makers) open(cycles [][]*Node, seeds map[string]bool) {
	for _, cycle := range cycles {
		cut := map[*Node]bool{}
		for _, n := range cycle {
			cut[n] = seeds[n.Name]
		}
		for _, n := range cycle {
			m.connect(n, cut)
		}
	}
}

// components lists the sets of nodes that need each other, larger sets first, then by ID. The nodes are by ID.
func components(nodes []*Node) [][]*Node {
	if len(nodes) == 0 {
		return nil
	}
	t := tarjan{nodes: make([]visited, nodes[len(nodes)-1].place+1)}
	for _, n := range nodes {
		t.nodes[n.place].asked = true
	}
	for _, n := range nodes {
		if t.nodes[n.place].index == 0 {
			t.visit(n)
		}
	}
	slices.SortFunc(t.found, func(a, b []*Node) int { return cmp.Or(len(b)-len(a), cmp.Compare(a[0].ID, b[0].ID)) })
	return t.found
}

// tarjan finds strongly connected components, as Robert Tarjan has shown in 1972.
type tarjan struct {
	nodes []visited // by place
	count int
	stack []*Node
	found [][]*Node // of more than one node
}

type visited struct {
	asked      bool // it is among those that are looked at
	open       bool
	index, low int
}

func (t *tarjan) visit(n *Node) {
	t.count++
	v := &t.nodes[n.place]
	v.index, v.low, v.open = t.count, t.count, true
	t.stack = append(t.stack, n)
	for _, to := range n.needs {
		if to.place >= len(t.nodes) {
			continue
		}
		switch u := &t.nodes[to.place]; {
		case !u.asked:
		case u.index == 0:
			t.visit(to)
			v.low = min(v.low, u.low)
		case u.open:
			v.low = min(v.low, u.index)
		}
	}
	if v.low != v.index {
		return
	}
	at := slices.Index(t.stack, n)
	set := slices.Clone(t.stack[at:])
	t.stack = t.stack[:at]
	for _, m := range set {
		t.nodes[m.place].open = false
	}
	if len(set) > 1 {
		slices.SortFunc(set, func(a, b *Node) int { return cmp.Compare(a.ID, b.ID) })
		t.found = append(t.found, set)
	}
}

// Seeds lists the sets of nodes that need each other when there are no seeds, and proposes names of recipes that are
// enough to open all cycles, those that are given among them. The nodes are left as they are.
func Seeds(nodes []*Node, given []string) (cycles [][]*Node, proposal []string, err error) {
	s := seeker{seeds: map[string]bool{}}
	for _, n := range nodes {
		c := *n
		s.nodes = append(s.nodes, &c)
	}
	s.nodes = byID(s.nodes)
	if s.made, err = newMakers(s.nodes); err != nil {
		return nil, nil, err
	}
	if _, err := seedNames(s.nodes, given); err != nil {
		return nil, nil, err
	}
	for _, n := range s.nodes {
		s.made.connect(n, nil)
	}
	s.cycles = components(s.nodes)
	return s.cycles, s.seek(given), nil
}

// A seeker looks for seeds. The first components stay, and their nodes' edges change.
type seeker struct {
	nodes  []*Node
	made   *makers
	cycles [][]*Node
	seeds  map[string]bool
}

func (s *seeker) seek(given []string) []string {
	for _, name := range given {
		s.seeds[name] = true
	}
	var found []string
	for left := s.left(); len(left) > 0; left = s.left() {
		for _, set := range left {
			name := busiest(set)
			if !s.seeds[name] { // the same recipe for another architecture was chosen meanwhile
				s.seeds[name] = true
				found = append(found, name)
			}
		}
	}
	for _, name := range slices.Backward(found) {
		delete(s.seeds, name)
		if len(s.left()) > 0 {
			s.seeds[name] = true
		}
	}
	return slices.Sorted(maps.Keys(s.seeds))
}

// left lists what still needs each other.
func (s *seeker) left() (left [][]*Node) {
	s.made.open(s.cycles, s.seeds)
	for _, cycle := range s.cycles {
		left = append(left, components(cycle)...)
	}
	return left
}

// busiest names the recipe of a set through which most ways lead.
func busiest(set []*Node) string {
	inside := map[string]bool{}
	for _, n := range set {
		inside[n.ID] = true
	}
	in, out := map[string]int{}, map[string]int{}
	for _, n := range set {
		for _, to := range n.needs {
			if inside[to.ID] {
				in[to.ID]++
				out[n.ID]++
			}
		}
	}
	best := slices.MaxFunc(set, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(in[a.ID]*out[a.ID], in[b.ID]*out[b.ID]), cmp.Compare(b.ID, a.ID))
	})
	return best.Name
}
