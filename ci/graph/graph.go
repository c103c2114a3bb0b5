// Package graph turns a workspace, its recipes and image files, into one graph:
// a node for every recipe and architecture and for every image, an edge for
// everything that one must find made by another. It decides what there is to
// make and in which order; what has been made already, and how anything is
// made, others know.
//
// Edges come from the words of the files alone. A recipe's environment names
// packages; an edge leads to the recipe that makes each, and on to those that
// make what it declares to need at run time, because all of them will be
// installed. Needs that are only found in finished files (so:libz.so.1) add no
// edges of their own: to have linked with a library a package must have had it
// in its environment, so its recipe is an ancestor already. That is also why an
// environment is solved among the packages of a node's ancestors, and no others:
// the solution does not depend on what else happens to be finished.
package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"distro.internal/apko/image"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
)

// A Kind is what a node makes.
type Kind string

const (
	Packages Kind = "packages"
	Image    Kind = "image"
	Test     Kind = "test" // of no graph, see Graph.Test
)

// A Node is one thing to make: the packages of a recipe for one architecture,
// or an image.
type Node struct {
	ID       string // "x86_64/zlib", "image/nginx"
	Kind     Kind
	Name     string // the origin's, or the image's
	File     string // recipe or image file
	Arch     apk.Arch
	Image    *image.Config
	Base     string // the image of the workspace that this one is put on, by ID
	*Outline        // of a packages node and its test

	plan  func(epoch uint64) (*recipe.Plan, error)
	place int     // among all nodes by ID; -1 of a test
	needs []*Node // each once, by ID
	cut   map[*Node]bool
}

// Plan is all of a packages node's plan, which is made again for those few nodes of which somebody wants to know. Its
// packages are of the given epoch, or the recipe's if that is higher.
func (n *Node) Plan(epoch uint64) (*recipe.Plan, error) { return n.plan(epoch) }

// Needs lists what the node needs, each once, by ID.
func (n *Node) Needs() []*Node { return n.needs }

// A Class says what an edge is for.
type Class string

const (
	Tool     Class = "tool"     // runs while the node is made
	Link     Class = "link"     // is in the sysroot of a cross build
	Runtime  Class = "runtime"  // needed by something that the environment or image names
	Contents Class = "contents" // is in the image
	Base     Class = "base"     // is what the image is put on
	Trial    Class = "test"     // is in the environment of a test
)

// An Edge is one reason why a node comes after another.
type Edge struct {
	To    string
	Class Class
	Via   string // the dependency that leads there, as apk writes it
}

// A Graph has no cycles. That there is a way from one node to another is what all ask; what the ways are, which are
// twice as many, is found out again for who wants to see them.
type Graph struct {
	nodes []*Node // by ID
	byID  map[string]*Node
	order []*Node          // dependencies first
	down  func() [][]*Node // who needs each, by place
	made  *makers

	settings string
}

// Settings tells workspaces apart by what they say for all recipes at once; empty for a graph of nodes alone.
func (g *Graph) Settings() string { return g.settings }

// New connects nodes, which must have no edges yet. Seeds are names of recipes that cycles are opened at, see [Seeds].
func New(nodes []*Node, seeds []string) (*Graph, error) {
	g := &Graph{nodes: byID(nodes), byID: make(map[string]*Node, len(nodes))}
	for _, n := range g.nodes {
		if other := g.byID[n.ID]; other != nil {
			return nil, fmt.Errorf("%s and %s both make %s", other.File, n.File, n.ID)
		}
		g.byID[n.ID] = n
	}
	var err error
	if g.made, err = newMakers(g.nodes); err != nil {
		return nil, err
	}
	if err := g.made.connectAll(g.nodes, seeds); err != nil {
		return nil, err
	}
	g.down = sync.OnceValue(func() [][]*Node {
		down := make([][]*Node, len(g.nodes))
		for _, n := range g.nodes {
			for _, to := range n.needs {
				down[to.place] = append(down[to.place], n)
			}
		}
		return down
	})
	g.order, err = g.sort()
	return g, err
}

// byID gives nodes their places.
func byID(nodes []*Node) []*Node {
	sorted := slices.SortedFunc(slices.Values(nodes), func(a, b *Node) int { return strings.Compare(a.ID, b.ID) })
	for i, n := range sorted {
		n.place = i
	}
	return sorted
}

// RootArch is the architecture of the programs that run while the node is made.
func (n *Node) RootArch() apk.Arch {
	if n.Cross {
		return n.BuildArch
	}
	return n.Arch
}

// Nodes lists all nodes, dependencies first, otherwise by ID.
func (g *Graph) Nodes() []*Node { return g.order }

// Node returns the node of an ID.
func (g *Graph) Node(id string) (*Node, bool) {
	n, ok := g.byID[id]
	return n, ok
}

// Edges lists the reasons why a node needs others, and those which would close a cycle, so that an older build is taken
// from other repositories instead; by To, then Class, then Via.
func (g *Graph) Edges(n *Node) (needs, seeds []Edge) {
	var e edges
	g.made.walk(n, &e)
	return sortEdges(e.needs), sortEdges(e.seeds)
}

// Test returns a node for the tests of a packages node: it needs those packages
// and what the tests' environments name. It is not part of the graph, for nothing
// waits for a test; its edges lead into it.
func (g *Graph) Test(n *Node) *Node {
	t := &Node{ID: "test/" + n.ID, Kind: Test, Name: n.Name, File: n.File, Arch: n.Arch, Outline: n.Outline, plan: n.plan, place: -1}
	g.made.connect(t, nil)
	return t
}

// Ancestors lists what the nodes need, directly or not, and the nodes
// themselves, in the order of Nodes.
func (g *Graph) Ancestors(of ...*Node) []*Node {
	return g.reach(of, (*Node).Needs)
}

// Dependents lists what needs the nodes, directly or not, without the nodes
// themselves unless one needs another, in the order of Nodes.
func (g *Graph) Dependents(of ...*Node) []*Node {
	down := g.down()
	all := g.reach(of, func(n *Node) []*Node { return down[n.place] })
	return slices.DeleteFunc(all, func(n *Node) bool { return slices.Contains(of, n) })
}

func (g *Graph) reach(from []*Node, next func(*Node) []*Node) []*Node {
	seen := make([]bool, len(g.nodes))
	stack := slices.Clone(from)
	count := 0
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		switch {
		case n.place < 0: // a test, which nothing leads to
		case seen[n.place]:
			continue
		default:
			seen[n.place] = true
			count++
		}
		stack = append(stack, next(n)...)
	}
	reached := make([]*Node, 0, count)
	for _, n := range g.order {
		if seen[n.place] {
			reached = append(reached, n)
		}
	}
	return reached
}

// Find lists the nodes that a word means: an ID, a recipe's or image's name, the
// name of a package that a recipe makes, or the path of a file in the workspace.
func (g *Graph) Find(word string) []*Node {
	if n, ok := g.byID[word]; ok {
		return []*Node{n}
	}
	var found []*Node
	for _, n := range g.order {
		if n.Name == word || n.File == word || n.makes(word) {
			found = append(found, n)
		}
	}
	return found
}

// Words lists everything that Find knows, for suggestions.
func (g *Graph) Words() []string {
	var words []string
	for _, n := range g.order {
		words = append(words, n.ID, n.Name, n.File)
		if n.Outline != nil {
			for _, o := range n.Outputs {
				words = append(words, o.Name)
			}
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// Packages lists the names of all that recipes make.
func (g *Graph) Packages() []string {
	var names []string
	for _, n := range g.order {
		if n.Outline != nil {
			for _, o := range n.Outputs {
				names = append(names, o.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (n *Node) makes(name string) bool {
	return n.Outline != nil && slices.ContainsFunc(n.Outputs, func(o Output) bool { return o.Name == name })
}

// sort orders the nodes, dependencies first and by ID among equals.
func (g *Graph) sort() ([]*Node, error) {
	const (
		open = 1 + iota
		done
	)
	state := make([]uint8, len(g.nodes))
	order := make([]*Node, 0, len(g.nodes))
	var path []*Node
	var visit func(n *Node) error
	visit = func(n *Node) error {
		switch state[n.place] {
		case done:
			return nil
		case open:
			return g.cycle(append(path[slices.Index(path, n):], n))
		}
		state[n.place] = open
		path = append(path, n)
		for _, to := range n.needs {
			if err := visit(to); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[n.place] = done
		order = append(order, n)
		return nil
	}
	for _, n := range g.nodes {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// A CycleError is a way from a node to itself.
type CycleError struct {
	Path []string // IDs; the first is also the last
	Via  []string // the dependency from each to the next
}

func (e *CycleError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs itself:", e.Path[0])
	for i, via := range e.Via {
		fmt.Fprintf(&b, "\n  %s needs %s of %s", e.Path[i], via, e.Path[i+1])
	}
	b.WriteString("\none of them must come from another repository: name its recipe under seeds: (world graph --seeds tells which are enough)")
	return b.String()
}

func (g *Graph) cycle(path []*Node) error {
	e := &CycleError{}
	for i, n := range path {
		e.Path = append(e.Path, n.ID)
		if i+1 < len(path) {
			needs, _ := g.Edges(n)
			k := slices.IndexFunc(needs, func(edge Edge) bool { return edge.To == path[i+1].ID })
			e.Via = append(e.Via, needs[k].Via)
		}
	}
	return e
}

// makers knows who makes what, by architecture.
type makers struct {
	named   map[subject][]*maker       // packages of that very name
	offered map[subject][]*maker       // packages that declare to provide the name
	worlds  map[*Node][]apk.Dependency // of images
	images  map[string]*Node           // by ID
	walks   int                        // how many there were so far
	reached []int                      // the last walk that came by, by place
	found   []*Node                    // on a walk
}

type subject struct {
	arch apk.Arch
	name string
}

// A maker is a package with the node that makes it.
type maker struct {
	node   *Node
	name   string
	needs  []apk.Dependency // that the recipe declares
	leads  []lead           // to who makes what it needs, once somebody has asked
	asked  bool
	walked int // the last walk that came by
}

// A lead is a way to a maker, and the dependency that is the way.
type lead struct {
	to  *maker
	via *apk.Dependency
}

func newMakers(nodes []*Node) (*makers, error) {
	if err := checkBases(nodes); err != nil {
		return nil, err
	}
	m := &makers{named: map[subject][]*maker{}, offered: map[subject][]*maker{}, worlds: map[*Node][]apk.Dependency{}, images: map[string]*Node{}, reached: make([]int, len(nodes))}
	for _, n := range nodes {
		if n.Kind == Image {
			world, err := n.Image.World()
			if err != nil {
				return nil, err
			}
			m.worlds[n], m.images[n.ID] = world, n
			continue
		}
		for i := range n.Outputs {
			if err := m.add(n, &n.Outputs[i]); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// checkBases refuses images on images that nothing makes, or that are put on themselves.
func checkBases(nodes []*Node) error {
	images := map[string]*Node{}
	for _, n := range nodes {
		if n.Kind == Image {
			images[n.ID] = n
		}
	}
	for _, n := range nodes {
		seen := []string{n.ID}
		for at := n; at.Base != ""; at = images[at.Base] {
			if images[at.Base] == nil {
				return fmt.Errorf("%s: the base image %s is made by no image file", at.File, at.Image.Contents.BaseImage.Image)
			}
			if seen = append(seen, at.Base); slices.Contains(seen[:len(seen)-1], at.Base) {
				return fmt.Errorf("images are put on one another: %s", strings.Join(seen, " -> "))
			}
		}
	}
	return nil
}

func (m *makers) add(n *Node, o *Output) error {
	s := subject{n.Arch, o.Name}
	if others := m.named[s]; len(others) > 0 {
		return fmt.Errorf("%s and %s both make package %s", others[0].node.File, n.File, o.Name)
	}
	made := &maker{node: n, name: o.Name, needs: o.Needs}
	m.named[s] = append(m.named[s], made)
	for _, d := range o.Provides {
		offer := subject{n.Arch, d.Name}
		m.offered[offer] = append(m.offered[offer], made)
	}
	return nil
}

// of lists who makes what a dependency names: the packages of that name, else
// all that provide it. Nobody means that it comes from another repository.
func (m *makers) of(arch apk.Arch, d apk.Dependency) []*maker {
	if d.Conflict {
		return nil
	}
	if found := m.named[subject{arch, d.Name}]; len(found) > 0 {
		return found
	}
	return m.offered[subject{arch, d.Name}]
}

// leads lists the makers of some dependencies.
func (m *makers) leads(arch apk.Arch, deps []apk.Dependency) []lead {
	var leads []lead
	for i := range deps {
		for _, to := range m.of(arch, deps[i]) {
			leads = append(leads, lead{to, &deps[i]})
		}
	}
	return leads
}

// connect tells a node what it needs. Nodes that are cut are not led to, nor to what they need.
func (m *makers) connect(n *Node, cut map[*Node]bool) {
	n.cut = cut
	m.walk(n, nil)
	slices.SortFunc(m.found, func(a, b *Node) int { return a.place - b.place })
	n.needs = slices.Clone(m.found)
}

// walk finds all that a node needs, and the edges if they are wanted.
func (m *makers) walk(n *Node, e *edges) {
	m.walks++
	m.found = m.found[:0]
	c := connector{makers: m, node: n, edges: e}
	switch n.Kind {
	case Packages:
		c.want(n.RootArch(), n.Outline.Packages, Tool)
		c.want(n.Arch, n.Sysroot, Link)
	case Test:
		for _, t := range n.Tests {
			c.want(n.Arch, t.Packages, Trial)
		}
	case Image:
		for _, arch := range n.Image.Archs {
			c.want(arch, m.worlds[n], Contents)
		}
		if n.Base != "" {
			c.reach(m.images[n.Base])
			if e != nil {
				e.needs = append(e.needs, Edge{n.Base, Base, n.Image.Contents.BaseImage.Image})
			}
		}
	}
}

// sortEdges leaves each edge once.
func sortEdges(edges []Edge) []Edge {
	slices.SortFunc(edges, func(a, b Edge) int {
		if c := strings.Compare(a.To, b.To); c != 0 {
			return c
		}
		return cmp.Or(strings.Compare(string(a.Class), string(b.Class)), strings.Compare(a.Via, b.Via))
	})
	return slices.Clip(slices.Compact(edges))
}

// edges are reasons, in the order of the walk.
type edges struct{ needs, seeds []Edge }

type connector struct {
	*makers
	node  *Node
	edges *edges // nil when nobody wants to know
}

func (c *connector) reach(n *Node) {
	if c.reached[n.place] != c.walks {
		c.reached[n.place] = c.walks
		c.found = append(c.found, n)
	}
}

// want adds edges to the makers of a list, and to those of their declared needs.
func (c *connector) want(arch apk.Arch, deps []apk.Dependency, class Class) {
	c.follow(arch, c.leads(arch, deps), class)
}

func (c *connector) follow(arch apk.Arch, leads []lead, class Class) {
	for _, l := range leads {
		m := l.to
		if m.node == c.node {
			continue // an older build of itself, from another repository
		}
		if c.node.cut[m.node] {
			if c.edges != nil {
				c.edges.seeds = append(c.edges.seeds, Edge{m.node.ID, class, l.via.String()})
			}
			continue
		}
		c.reach(m.node)
		if c.edges != nil {
			c.edges.needs = append(c.edges.needs, Edge{m.node.ID, class, l.via.String()})
		}
		if m.walked == c.walks {
			continue
		}
		m.walked = c.walks
		if !m.asked { // what it needs is for the architecture that it is of
			m.leads, m.asked = c.leads(arch, m.needs), true
		}
		c.follow(arch, m.leads, Runtime)
	}
}
