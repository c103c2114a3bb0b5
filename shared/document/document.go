// Package document reads the YAML files that people write: recipes, pipelines, image files.
//
// It knows YAML and where in a file each value stands. A file is decoded strictly into Go structs; a mistake is an
// [Error] that names file, line and column and, where it can, the word that was meant; all mistakes of a file are
// reported at once. Scalars decoded as text keep the form in which they were written, so version: 1.10 stays "1.10".
// An [Editor] changes values in a file and leaves all else as people wrote it.
// It refuses to know what the files mean.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Pos is a place in a file. Line and Col count from 1, Col in bytes; zero means unknown.
//
// A struct field named Pos of this type, without a yaml tag, receives the place of the value that the struct was
// decoded from.
type Pos struct {
	File string
	Line int
	Col  int
}

func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Error is one mistake in a file. Hint, which may be empty, is the cure, kept apart from the complaint.
type Error struct {
	Pos  Pos
	Text string
	Hint string
}

func (e *Error) Error() string {
	s := e.Text
	if e.Pos != (Pos{}) {
		s = e.Pos.String() + ": " + s
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// ErrorList is all mistakes of one reading, in the order in which they were found.
type ErrorList []*Error

func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives each mistake to errors.Is and errors.As.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// Add appends a mistake. The hint may be empty.
func (l *ErrorList) Add(pos Pos, hint, format string, args ...any) {
	*l = append(*l, &Error{Pos: pos, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// AddError appends err: its members when it is an ErrorList, itself when it is an Error, else its text at pos.
func (l *ErrorList) AddError(pos Pos, err error) {
	if err == nil {
		return
	}
	var list ErrorList
	var one *Error
	switch {
	case errors.As(err, &list):
		*l = append(*l, list...)
	case errors.As(err, &one):
		*l = append(*l, one)
	default:
		l.Add(pos, "", "%v", err)
	}
}

// Err returns the list as an error, nil when it is empty.
func (l ErrorList) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Document is one parsed file. It is immutable.
type Document struct {
	src  *source
	root *yaml.Node // nil when the file holds nothing
}

// source is the text of a file, kept to find positions inside multi-line scalars.
type source struct {
	file  string
	data  []byte
	ascii bool  // characters are bytes
	lines []int // where each begins
}

func newSource(file string, data []byte) *source {
	s := &source{file: file, data: data, ascii: !slices.ContainsFunc(data, func(c byte) bool { return c >= utf8.RuneSelf })}
	s.lines = make([]int, 1, 1+bytes.Count(data, []byte("\n")))
	for at, c := range data {
		if c == '\n' {
			s.lines = append(s.lines, at+1)
		}
	}
	return s
}

// Parse reads one YAML document. The file name is used in positions only.
func Parse(file string, data []byte) (*Document, error) {
	doc := &Document{src: newSource(file, data)}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var node yaml.Node
	switch err := dec.Decode(&node); {
	case err == io.EOF:
		return doc, nil
	case err != nil:
		return nil, doc.src.syntaxError(err)
	}
	if len(node.Content) > 0 {
		doc.root = node.Content[0]
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, ErrorList{{Pos: doc.src.pos(&more), Text: "more than one document in the file"}}
	case err != io.EOF:
		return nil, doc.src.syntaxError(err)
	}
	return doc, nil
}

// File is the name that was given to Parse.
func (d *Document) File() string { return d.src.file }

// Root is the document's value; it is zero when the file is empty.
func (d *Document) Root() Node { return Node{src: d.src, yaml: d.root} }

// Decode stores the document in the struct (or map, slice, ...) that v points to. The error is an [ErrorList].
//
// Fields are named by their yaml tag, or by their lower-cased name; "-" leaves a field out and ",inline" merges an
// embedded struct. Scalars go into string, [String], bool, integer and float fields, mappings into structs, maps with
// string keys and [Map], sequences into slices. A [Node] field keeps the value undecoded, a *T field stays nil when the
// key is absent. A null leaves the zero value. Unknown and duplicate keys are mistakes.
func (d *Document) Decode(v any) error { return d.decode(v, false) }

// DecodeKnown is Decode for files that may say more than the struct knows: unknown keys are ignored.
func (d *Document) DecodeKnown(v any) error { return d.decode(v, true) }

func (d *Document) decode(v any, lenient bool) error {
	if d.root == nil {
		return nil
	}
	return decodeNode(d.src, d.root, v, lenient)
}

// Node is a value that has not been decoded yet.
type Node struct {
	src  *source
	yaml *yaml.Node
}

// IsZero reports whether there is no value, not even a null.
func (n Node) IsZero() bool { return n.yaml == nil }

// IsScalar, IsMapping and IsSequence tell the shape of the value.
func (n Node) IsScalar() bool   { return n.is(yaml.ScalarNode) }
func (n Node) IsMapping() bool  { return n.is(yaml.MappingNode) }
func (n Node) IsSequence() bool { return n.is(yaml.SequenceNode) }

func (n Node) is(k yaml.Kind) bool { return n.yaml != nil && resolve(n.yaml).Kind == k }

// Pos is where the value starts.
func (n Node) Pos() Pos {
	if n.yaml == nil {
		return Pos{}
	}
	return n.src.pos(n.yaml)
}

// Decode decodes the value strictly, as [Document.Decode] does.
func (n Node) Decode(v any) error {
	if n.yaml == nil {
		return nil
	}
	return decodeNode(n.src, n.yaml, v, false)
}

func decodeNode(src *source, node *yaml.Node, v any, lenient bool) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("decoding %s: want a non-nil pointer, got %T", src.file, v)
	}
	d := decoder{src: src, lenient: lenient}
	d.value(node, target.Elem(), "")
	return d.errs.Err()
}

func (s *source) pos(n *yaml.Node) Pos {
	p := Pos{File: s.file, Line: n.Line, Col: n.Column}
	if s.ascii {
		return p
	}
	// The library counts characters, and not the mark of the byte order.
	start := s.offset(Pos{Line: n.Line, Col: 1})
	if start < 0 {
		return p
	}
	at := start
	if start == 0 && bytes.HasPrefix(s.data, byteOrderMark) {
		at = len(byteOrderMark)
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(s.data[at:])
		at += size
	}
	p.Col = at - start + 1
	return p
}

// resolve follows an alias to the value it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}
