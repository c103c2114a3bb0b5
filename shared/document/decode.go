package document

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Map is a mapping that keeps the order of the file and the places of its keys.
type Map[T any] []Item[T]

// Item is one entry of a [Map].
type Item[T any] struct {
	Key   String
	Value T
}

// Lookup returns the value of a key.
func (m Map[T]) Lookup(key string) (T, bool) {
	for _, item := range m {
		if item.Key.Value == key {
			return item.Value, true
		}
	}
	var zero T
	return zero, false
}

func (Map[T]) orderedMap() {}

type orderedMap interface{ orderedMap() }

var (
	typePos     = reflect.TypeFor[Pos]()
	typeString  = reflect.TypeFor[String]()
	typeNode    = reflect.TypeFor[Node]()
	typeOrdered = reflect.TypeFor[orderedMap]()
)

const (
	// maxDepth also ends the walk through an anchor that contains itself.
	maxDepth = 100
	// maxNodes bounds what a few nested aliases can blow up to.
	maxNodes = 1_000_000
)

type decoder struct {
	src     *source
	lenient bool
	errs    ErrorList
	depth   int
	nodes   int
}

func (d *decoder) fail(n *yaml.Node, hint, format string, args ...any) {
	d.errs.Add(d.src.pos(n), hint, format, args...)
}

// value decodes n into v. The path names v for people: "package.copyright".
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	d.nodes++
	d.depth++
	defer func() { d.depth-- }()
	if d.depth > maxDepth || d.nodes > maxNodes {
		if d.nodes < 2*maxNodes { // said once
			d.nodes = 2 * maxNodes
			d.fail(n, "", "%s is nested too deeply or too large", name(path))
		}
		return
	}
	n = resolve(n)
	switch {
	case v.Type() == typeNode:
		v.Set(reflect.ValueOf(Node{src: d.src, yaml: n}))
	case v.Type() == typeString:
		d.text(n, v, path)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.null(n, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), path)
	case v.Type().Implements(typeOrdered):
		d.ordered(n, v, path)
	case v.Kind() == reflect.Struct:
		d.structure(n, v, path)
	case v.Kind() == reflect.Map:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.slice(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// null leaves the zero value, but the place of a null struct is still known.
func (d *decoder) null(n *yaml.Node, v reflect.Value) {
	if v.Kind() == reflect.Struct {
		d.place(n, v, fieldsOf(v.Type()))
	}
}

func (d *decoder) text(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.wrongShape(n, "text", path)
		return
	}
	s := String{Value: n.Value, Pos: d.src.pos(n), src: d.src, style: n.Style}
	if n.Tag == "!!null" {
		s.Value = ""
	}
	*v.Addr().Interface().(*String) = s
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.wrongShape(n, kindName(v.Kind()), path)
		return
	}
	bad := func(err error) {
		if err != nil {
			d.fail(n, "", "%s: want %s, found %q", name(path), kindName(v.Kind()), n.Value)
		}
	}
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		b, ok := boolean(n.Value)
		if !ok || !plain {
			bad(strconv.ErrSyntax)
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 0, v.Type().Bits())
		bad(err)
		v.SetInt(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 0, v.Type().Bits())
		bad(err)
		v.SetUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, v.Type().Bits())
		bad(err)
		v.SetFloat(f)
	default:
		d.fail(n, "", "%s: cannot decode into a Go %s", name(path), v.Type())
	}
}

// boolean knows the spellings of YAML 1.1 too, as people still write yes and no.
func boolean(s string) (value, ok bool) {
	switch s {
	case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y":
		return true, true
	case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N":
		return false, true
	}
	return false, false
}

func (d *decoder) slice(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.wrongShape(n, "a list", path)
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, s.Index(i), path)
	}
	v.Set(s)
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrongShape(n, "a mapping", path)
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	elem := v.Type().Elem()
	for _, p := range d.pairs(n, path) {
		value := reflect.New(elem).Elem()
		d.value(p.value, value, join(path, p.key.Value))
		m.SetMapIndex(reflect.ValueOf(p.key.Value).Convert(v.Type().Key()), value)
	}
	v.Set(m)
}

func (d *decoder) ordered(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.wrongShape(n, "a mapping", path)
		return
	}
	pairs := d.pairs(n, path)
	s := reflect.MakeSlice(v.Type(), len(pairs), len(pairs))
	for i, p := range pairs {
		d.text(p.key, s.Index(i).Field(0), path)
		d.value(p.value, s.Index(i).Field(1), join(path, p.key.Value))
	}
	v.Set(s)
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type())
	d.place(n, v, fields)
	if n.Kind != yaml.MappingNode {
		d.wrongShape(n, "a mapping", path)
		return
	}
	for _, p := range d.pairs(n, path) {
		index, ok := fields.byName[p.key.Value]
		if !ok {
			if !d.lenient {
				d.unknown(p.key, fields, path)
			}
			continue
		}
		d.value(p.value, v.FieldByIndex(index), join(path, p.key.Value))
	}
}

func (d *decoder) place(n *yaml.Node, v reflect.Value, fields *fields) {
	if fields.pos != nil {
		v.FieldByIndex(fields.pos).Set(reflect.ValueOf(d.src.pos(n)))
	}
}

func (d *decoder) unknown(key *yaml.Node, fields *fields, path string) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	d.fail(key, DidYouMean(key.Value, fields.names), "unknown key %q%s", key.Value, where)
}

type pair struct{ key, value *yaml.Node }

// pairs lists the entries of a mapping with merge keys ("<<") resolved: what is written in the mapping itself wins, then
// the first of the merged mappings. A key written twice is a mistake.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	pairs := make([]pair, 0, len(n.Content)/2)
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			merges = append(merges, value)
		case key.Kind != yaml.ScalarNode:
			d.fail(key, "", "a key of %s is not plain text", name(path))
		default:
			if first, twice := seen[key.Value]; twice {
				d.fail(key, "", "duplicate key %q, first written in line %d", key.Value, first.Line)
				continue
			}
			seen[key.Value] = key
			pairs = append(pairs, pair{key, value})
		}
	}
	for _, m := range merges {
		pairs = d.merge(pairs, seen, m, path)
	}
	return pairs
}

func (d *decoder) merge(pairs []pair, seen map[string]*yaml.Node, n *yaml.Node, path string) []pair {
	d.depth++
	defer func() { d.depth-- }()
	d.nodes += 1 + len(n.Content)
	if d.depth > maxDepth || d.nodes > maxNodes {
		return pairs
	}
	switch n = resolve(n); n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			pairs = d.merge(pairs, seen, item, path)
		}
	case yaml.MappingNode:
		for _, p := range d.pairs(n, path) {
			if seen[p.key.Value] == nil {
				seen[p.key.Value] = p.key
				pairs = append(pairs, p)
			}
		}
	default:
		d.fail(n, "", "only a mapping can be merged into %s", name(path))
	}
	return pairs
}

func (d *decoder) wrongShape(n *yaml.Node, want, path string) {
	found := map[yaml.Kind]string{
		yaml.ScalarNode: "text", yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list",
	}[n.Kind]
	d.fail(n, "", "%s: want %s, found %s", name(path), want, found)
}

func name(path string) string { return cmp.Or(path, "the file") }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, zero or more"
	}
	return "a whole number"
}

// fields is what the decoder needs to know of a struct type.
type fields struct {
	byName map[string][]int
	names  []string // sorted
	pos    []int    // the field that takes the position, nil when there is none
}

// fieldCache maps reflect.Type to *fields: a pure function of the type, remembered.
var fieldCache sync.Map

func fieldsOf(t reflect.Type) *fields {
	if f, ok := fieldCache.Load(t); ok {
		return f.(*fields)
	}
	f := &fields{byName: map[string][]int{}}
	f.collect(t, nil)
	for name := range f.byName {
		f.names = append(f.names, name)
	}
	slices.Sort(f.names)
	fieldCache.Store(t, f)
	return f
}

func (f *fields) collect(t reflect.Type, prefix []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		index := append(slices.Clone(prefix), i)
		tag, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			f.collect(field.Type, index)
		case field.Name == "Pos" && field.Type == typePos && tag == "" && f.pos == nil:
			f.pos = index
		case tag == "-" || !field.IsExported():
		default:
			f.byName[cmp.Or(tag, strings.ToLower(field.Name))] = index
		}
	}
}
