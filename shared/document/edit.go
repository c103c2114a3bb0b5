package document

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// An Editor changes values in a file's text, and no other byte of it: comments, layout, order and quoting stay as people
// wrote them.
//
// YAML has many ways to write a value, and a parser forgets which one it has read. So an Editor does not write documents:
// it finds the bytes of a value by where the value starts and what it says, puts other bytes in their place, and reads the
// result again. What it hands out says what the old text said but for the changes, or it is an error. Where a value can be
// written in several ways it tries them, the way in which the old one was written first.
//
// Places are those in the unchanged file, for all changes. Values behind an alias are changed where they are written, for
// all who refer to them.
type Editor struct {
	doc     *Document
	text    layout
	entries map[Pos]*entry
	splices []splice
	want    *yaml.Node            // what the file will say
	was     map[*yaml.Node]string // the type that a changed value had: it need not become text
	errs    ErrorList
}

// An entry is a value with where it stands in the tree: the index of it in its parent's content.
type entry struct {
	node   *yaml.Node // in Editor.want
	parent *yaml.Node
	index  int
	added  int // nodes that were put behind it
	text   span
}

// A span is a range of byte offsets.
type span struct{ start, end int }

// A splice is new text for a part of the file.
type splice struct {
	span
	text string
}

// Edit begins to change a file. The document itself stays what it is.
func (d *Document) Edit() *Editor {
	e := &Editor{doc: d, text: newLayout(d.src.data), entries: map[Pos]*entry{}, was: map[*yaml.Node]string{}}
	e.want = e.copy(d.root, map[*yaml.Node]*yaml.Node{})
	return e
}

// copy is a tree like n, whose values are remembered by their place.
func (e *Editor) copy(n *yaml.Node, done map[*yaml.Node]*yaml.Node) *yaml.Node {
	if n == nil || done[n] != nil {
		return done[n]
	}
	c := *n
	done[n] = &c
	c.Alias = e.copy(n.Alias, done)
	c.Content = slices.Clone(n.Content)
	for i, child := range n.Content {
		c.Content[i] = e.copy(child, done)
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			continue // a key
		}
		start, end, ok := e.text.of(child)
		if ok {
			e.entries[e.doc.src.pos(child)] = &entry{node: c.Content[i], parent: &c, index: i, text: span{start, end}}
		}
	}
	return &c
}

// Set changes the text of the scalar that is written at a place.
func (e *Editor) Set(at Pos, value string) {
	t, ok := e.find(at, value)
	if !ok {
		return
	}
	if t.node.Kind != yaml.ScalarNode {
		e.errs.Add(at, "", "this is no text that could be changed")
		return
	}
	if t.node.Value == value {
		return
	}
	old := *t.node
	if e.was[t.node] == "" {
		e.was[t.node] = old.Tag
	}
	t.node.Value, t.node.Tag = value, "!!str"
	e.try(at, t.text, e.text.spellings(old, t.text, value))
}

// Add puts a key with a value into a mapping, after the entry whose value is written at a place.
func (e *Editor) Add(after Pos, key, value string) {
	t, ok := e.find(after, value)
	if !ok {
		return
	}
	if t.parent.Kind != yaml.MappingNode {
		e.errs.Add(after, "", "this is not in a mapping that %q could be added to", key)
		return
	}
	added := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	e.was[added] = anyType
	e.insert(t, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, added)
	if t.parent.Style&yaml.FlowStyle != 0 {
		at := span{t.text.end, t.text.end}
		e.try(after, at, prefixed(", "+key+": ", unquoted(value), quoted(value)))
		return
	}
	end := e.text.lineEnd(t.text.end)
	indent := strings.Repeat(" ", t.parent.Content[0].Column-1)
	start := "\n" + indent + key + ": "
	ways := []string{unquoted(value), quoted(value)}
	if strings.Contains(value, "\n") {
		ways = slices.Insert(ways, 0, literal(value, indent+"  ", false))
	}
	e.try(after, span{end, end}, prefixed(start, ways...))
}

// AddItem puts an item into a list, after the one that is written at a place. The item is given as YAML.
func (e *Editor) AddItem(after Pos, item string) {
	t, ok := e.find(after, item)
	if !ok {
		return
	}
	var parsed yaml.Node
	if err := yaml.Unmarshal([]byte(item), &parsed); err != nil || len(parsed.Content) != 1 {
		e.errs.Add(after, "", "not an item: %q", item)
		return
	}
	if t.parent.Kind != yaml.SequenceNode || t.parent.Style&yaml.FlowStyle != 0 {
		e.errs.Add(after, "", "this is not in a list that could be added to")
		return
	}
	next := e.text.lineEnd(t.text.end)
	gap := ""
	if t.index+1 < len(t.parent.Content) && e.text.blankAfter(next) || t.index > 0 && e.text.blankBefore(t.text.start) {
		gap = "\n"
	}
	indent := strings.Repeat(" ", t.parent.Column-1)
	lines := strings.Split(strings.TrimRight(item, "\n"), "\n")
	for i, line := range lines[1:] {
		if line != "" {
			lines[i+1] = indent + "  " + line
		}
	}
	e.insert(t, parsed.Content[0])
	e.try(after, span{next, next}, []string{"\n" + gap + indent + "- " + strings.Join(lines, "\n")})
}

// find returns what is written at a place.
func (e *Editor) find(at Pos, value string) (*entry, bool) {
	t := e.entries[at]
	switch {
	case t == nil:
		e.errs.Add(at, "", "there is no value that could be changed")
	case !utf8.ValidString(value):
		e.errs.Add(at, "", "%q is not text", value)
	default:
		return t, true
	}
	return nil, false
}

// insert puts nodes behind an entry, and behind those that were put there before.
func (e *Editor) insert(t *entry, nodes ...*yaml.Node) {
	at := t.index + 1 + t.added
	t.parent.Content = slices.Insert(t.parent.Content, at, nodes...)
	t.added += len(nodes)
	for _, other := range e.entries {
		if other.parent == t.parent && other.index >= at {
			other.index += len(nodes)
		}
	}
}

// try takes the first way of writing a change with which the file says what it should.
func (e *Editor) try(at Pos, where span, ways []string) {
	if slices.ContainsFunc(e.splices, func(s splice) bool { return s.start < where.end && where.start < s.end }) {
		e.errs.Add(at, "", "this would be changed twice")
		return
	}
	for _, text := range ways {
		e.splices = append(e.splices, splice{where, text})
		if e.right(e.spliced()) {
			return
		}
		e.splices = e.splices[:len(e.splices)-1]
	}
	e.errs.Add(at, "write it on a line of its own, without an anchor or tag", "this cannot be changed where it stands")
}

// Bytes is the changed file. The error is an [ErrorList].
func (e *Editor) Bytes() ([]byte, error) {
	if err := e.errs.Err(); err != nil {
		return nil, err
	}
	return e.spliced(), nil
}

func (e *Editor) spliced() []byte {
	ordered := slices.Clone(e.splices)
	slices.SortStableFunc(ordered, func(a, b splice) int { return a.start - b.start })
	var out []byte
	at := 0
	for _, s := range ordered {
		out = append(append(out, e.text.data[at:s.start]...), s.text...)
		at = s.end
	}
	return append(out, e.text.data[at:]...)
}

// right reports whether a text says what is wanted.
func (e *Editor) right(text []byte) bool {
	doc, err := Parse("", text)
	return err == nil && e.same(e.want, doc.root, 0)
}

// same compares what two trees say.
func (e *Editor) same(want, got *yaml.Node, depth int) bool {
	if want == nil || got == nil || depth > maxDepth {
		return want == got
	}
	if want.Kind != got.Kind || want.Value != got.Value || want.Anchor != got.Anchor || len(want.Content) != len(got.Content) {
		return false
	}
	if want.Tag != got.Tag && !e.mayBe(want, got) {
		return false
	}
	for i := range want.Content {
		if !e.same(want.Content[i], got.Content[i], depth+1) {
			return false
		}
	}
	return true
}

// anyType stands for the type of a value that had none yet.
const anyType = "any"

// mayBe reports whether a changed value may be read as the number or truth that got is. It must have been of that type
// before, and whoever reads it as such must find it spelled as it was meant: 1.10 as a number is 1.1.
func (e *Editor) mayBe(want, got *yaml.Node) bool {
	if was := e.was[want]; was == "" || was != got.Tag && was != anyType {
		return false
	}
	switch got.Tag {
	case "!!int":
		i, err := strconv.ParseInt(got.Value, 10, 64)
		return err == nil && strconv.FormatInt(i, 10) == got.Value
	case "!!float":
		f, err := strconv.ParseFloat(got.Value, 64)
		return err == nil && strconv.FormatFloat(f, 'f', -1, 64) == got.Value
	case "!!bool":
		return got.Value == "true" || got.Value == "false"
	}
	return false
}
