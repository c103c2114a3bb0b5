package graph

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"distro.internal/ci/inputs"
	"distro.internal/ci/record"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
)

// A Memory reads a workspace, and knows what it has read when it last did: of
// every recipe the outlines of its plans, and the files that they are a function
// of. A recipe of which no file is another is not read again. So to read
// thousands of recipes of which one was edited costs a look at each, and
// planning one.
//
// What the memory says is what reading everything anew would give, always; it
// has one only of a program and of folders that are the same. It is not for
// recipes alone to say what is done with them: what is made of the nodes, and
// what of it is made already, others know.
type Memory struct {
	dir      string
	config   Config
	file     string // empty: nothing is kept
	identity string

	inputs  *inputs.Set
	recipes map[string]*remembered // by file
	images  []int32                // inputs of all images
	folders []int32                // that recipes and images were found in
	kept    *record.Reader         // of the recipes, as long as nobody has asked
	stale   bool                   // the file says something else
	edition string                 // of what the file says
}

// remembered is what came of a recipe.
type remembered struct {
	inputs []int32
	nodes  []*Node
	kept   []byte // the nodes as they are kept; nil when they are new
}

// memoryFormat is part of the identity of what is kept.
const memoryFormat = "recipes/2"

// NewMemory remembers nothing, and keeps nothing.
func NewMemory(dir string, c Config) *Memory {
	return &Memory{dir: dir, config: c, inputs: inputs.New(dir), recipes: map[string]*remembered{}, stale: true}
}

// OpenMemory remembers what Save has kept in a file. Of another program, or when
// the workspace has other folders or architectures, it remembers nothing.
func OpenMemory(dir string, c Config, file, program string) *Memory {
	m := NewMemory(dir, c)
	m.file = file
	m.identity = fmt.Sprintf("%s %q %q %q %q %q %q %q %s", memoryFormat, program, dir, c.Packages, c.Images, c.Pipelines, c.Archs, c.BuildArch, c.Network.text())
	if r, err := record.Open(file, m.identity); err == nil && !m.decode(r) {
		m.forget()
	}
	return m
}

// Check looks at all files again, and reports whether all is as it was when it
// was kept. Edition names that.
func (m *Memory) Check() (unchanged bool) {
	changed, refreshed := m.inputs.Check()
	m.stale = m.stale || changed || refreshed
	return m.edition != "" && !changed
}

// Edition names what was read; it is empty until that is kept.
func (m *Memory) Edition() string { return m.edition }

// Load reads what has changed since Check, and connects all nodes.
func (m *Memory) Load() (*Graph, error) {
	nodes, err := m.Read()
	if err != nil {
		return nil, err
	}
	g, err := New(nodes, m.config.Seeds)
	if err != nil {
		return nil, err
	}
	g.settings, err = m.config.settings(m.dir)
	return g, err
}

// Read reads what has changed since Check.
func (m *Memory) Read() ([]*Node, error) {
	m.decodeRecipes()
	folders := m.inputs.Trail()
	recipes, err := yamlFiles(folders, m.config.Packages)
	if err != nil {
		return nil, err
	}
	images, err := yamlFiles(folders, m.config.Images)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, file := range recipes {
		if r := m.recipes[file]; r == nil || m.inputs.Changed(r.inputs) {
			missing = append(missing, file)
		}
	}
	l := newLoader(m.dir, m.config, m.inputs.Trail())
	found := make([]*remembered, len(missing))
	pictures := make([]*Node, len(images))
	trail := m.inputs.Trail()
	errs := each(len(missing)+len(images), func(i int) (err error) {
		if i >= len(missing) {
			pictures[i-len(missing)], err = l.image(trail, images[i-len(missing)])
			return err
		}
		t := m.inputs.Trail()
		found[i] = &remembered{}
		found[i].nodes, err = l.recipe(t, missing[i])
		found[i].inputs = t.Inputs()
		return err
	})
	if errs != nil {
		return nil, errs
	}
	for i, file := range missing {
		m.recipes[file] = found[i]
	}
	m.stale = m.stale || len(missing) > 0 || len(recipes) != len(m.recipes)
	m.folders, m.images = folders.Inputs(), trail.Inputs()
	return m.nodes(recipes, pictures, l), nil
}

// nodes are fresh ones: to connect them changes them.
func (m *Memory) nodes(recipes []string, images []*Node, l *loader) []*Node {
	there := map[string]bool{}
	var nodes []*Node
	for _, file := range recipes {
		there[file] = true
		for _, n := range m.recipes[file].nodes {
			n := *n
			n.plan = func(epoch uint64) (*recipe.Plan, error) { return l.again(&n, epoch) }
			nodes = append(nodes, &n)
		}
	}
	maps.DeleteFunc(m.recipes, func(file string, _ *remembered) bool { return !there[file] })
	return append(nodes, images...)
}

// each does something n times, several at a time, and returns all errors in order.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var work sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for i := range next {
				errs[i] = do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	work.Wait()
	return errors.Join(errs...)
}

// Save keeps what was read, if the file says something else.
func (m *Memory) Save() error {
	if m.file == "" || !m.stale {
		return nil
	}
	m.decodeRecipes()
	w, looks := &record.Writer{}, &record.Writer{}
	m.encode(w, looks)
	m.edition = w.Digest()
	looks.Text(m.edition)
	w.Append(looks)
	if err := record.Save(m.file, m.identity, w); err != nil {
		return fmt.Errorf("keeping what was read of the recipes: %w", err)
	}
	m.stale = false
	return nil
}

// encode writes all that the edition names, and what the file system says of the inputs.
func (m *Memory) encode(w, looks *record.Writer) {
	files := slices.Sorted(maps.Keys(m.recipes))
	lists := [][]int32{m.folders, m.images}
	for _, file := range files {
		lists = append(lists, m.recipes[file].inputs)
	}
	number := m.inputs.Encode(w, looks, slices.Concat(lists...))
	for _, list := range lists[:2] {
		encodeNumbers(w, list, number)
	}
	recipes := &record.Writer{}
	recipes.Count(len(files))
	for i, file := range files {
		recipes.Text(file)
		encodeNumbers(recipes, lists[2+i], number)
		kept := m.recipes[file].kept
		if kept == nil {
			kept = encodeNodes(m.recipes[file].nodes)
		}
		recipes.Count(len(kept))
		recipes.Bytes(kept)
	}
	w.Part(recipes)
}

func encodeNodes(nodes []*Node) []byte {
	w := &record.Writer{}
	w.Count(len(nodes))
	for _, n := range nodes {
		w.Text(n.Name)
		w.Text(string(n.Arch))
		n.Outline.encode(w)
	}
	return w.Encoded()
}

// decodeNodes is nil when it makes no sense.
func decodeNodes(kept []byte, file string) []*Node {
	r := record.NewReader(kept)
	nodes := make([]*Node, r.Count())
	for i := range nodes {
		n := &Node{Kind: Packages, File: file, Name: r.Text(), Arch: apk.Arch(r.Text())}
		n.ID = string(n.Arch) + "/" + n.Name
		n.Outline = decodeOutline(r)
		nodes[i] = n
	}
	if !r.Ended() {
		return nil
	}
	return nodes
}

// decode reads what was kept, but for the recipes.
func (m *Memory) decode(r *record.Reader) bool {
	m.inputs = inputs.Decode(r, m.dir)
	m.folders, m.images = decodeNumbers(r, m.inputs), decodeNumbers(r, m.inputs)
	m.kept, m.stale = r.Part(), false
	m.inputs.DecodeLooks(r)
	m.edition = r.Text()
	return r.Ended()
}

func (m *Memory) decodeRecipes() {
	r := m.kept
	if r == nil {
		return
	}
	m.kept = nil
	for range r.Count() {
		file := r.Text()
		found := &remembered{inputs: decodeNumbers(r, m.inputs), kept: r.Bytes(r.Count())}
		if found.nodes = decodeNodes(found.kept, file); found.nodes == nil {
			r.Fail()
		}
		m.recipes[file] = found
	}
	if !r.Ended() {
		m.forget()
	}
}

// forget is what there is to do with a memory that makes no sense.
func (m *Memory) forget() {
	m.inputs, m.recipes = inputs.New(m.dir), map[string]*remembered{}
	m.folders, m.images, m.kept = nil, nil, nil
	m.edition, m.stale = "", true
}

func encodeNumbers(w *record.Writer, list []int32, number map[int32]int32) {
	w.Count(len(list))
	for _, n := range list {
		w.Int(int64(number[n]))
	}
}

func decodeNumbers(r *record.Reader, of *inputs.Set) []int32 {
	list := make([]int32, r.Count())
	for i := range list {
		n := r.Int()
		if n < 0 || n >= int64(of.Len()) {
			r.Fail()
		}
		list[i] = int32(n)
	}
	return list
}
