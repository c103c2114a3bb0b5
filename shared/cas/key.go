package cas

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Key is the description of an action: everything that its result depends on, each with a name. Its
// digest is the action's digest. The description is worth keeping (PutBytes of Encode stores it under that
// very digest), because from two of them Diff tells why an action is not the one it was.
//
// The order of inputs is part of the key, and a name may come several times.
type Key struct {
	kind   string
	inputs []Input
}

// An Input is one thing that an action depends on.
type Input struct {
	Name, Value string
}

// keyFormat is the version of the encoding; a change of it makes every action a new one.
const keyFormat = "key/1"

// NewKey starts the description of an action of the kind ("build/1"). The kind holds the version of what
// the action does: it changes when equal inputs begin to give another output.
func NewKey(kind string) *Key { return &Key{kind: kind} }

// Add adds an input.
func (k *Key) Add(name, value string) { k.inputs = append(k.inputs, Input{name, value}) }

// Kind is what NewKey was given.
func (k *Key) Kind() string { return k.kind }

// Inputs returns the inputs in the order in which they were added.
func (k *Key) Inputs() []Input { return k.inputs }

// Digest is the digest of what Encode returns.
func (k *Key) Digest() Digest { return DigestOf(k.Encode()) }

// Encode returns the canonical form: each string with its length before it, so that no two keys have
// the same form.
func (k *Key) Encode() []byte {
	b := appendString(nil, keyFormat)
	b = append(appendString(b, k.kind), '\n')
	for _, in := range k.inputs {
		b = appendString(b, in.Name)
		b = append(appendString(b, in.Value), '\n')
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	b = append(b, s...)
	return append(b, ' ')
}

// ParseKey reads what Encode wrote.
func ParseKey(b []byte) (*Key, error) {
	rest := string(b)
	var k Key
	format, rest, err := cutString(rest)
	if err == nil && format != keyFormat {
		err = fmt.Errorf("unknown format %.20q", format)
	}
	if err == nil {
		k.kind, rest, err = cutLine(rest)
	}
	for err == nil && rest != "" {
		var in Input
		in.Name, rest, err = cutString(rest)
		if err == nil {
			in.Value, rest, err = cutLine(rest)
		}
		k.inputs = append(k.inputs, in)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	return &k, nil
}

var errKeySyntax = errors.New("bad syntax")

func cutString(s string) (value, rest string, err error) {
	length, rest, ok := strings.Cut(s, ":")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || strconv.Itoa(n) != length || n < 0 || n >= len(rest) || rest[n] != ' ' {
		return "", "", errKeySyntax
	}
	return rest[:n], rest[n+1:], nil
}

// cutLine is cutString for the last string of a line.
func cutLine(s string) (value, rest string, err error) {
	value, rest, err = cutString(s)
	if err != nil || rest == "" || rest[0] != '\n' {
		return "", "", errKeySyntax
	}
	return value, rest[1:], nil
}

// A Change is one difference between the inputs of two actions.
type Change struct {
	Name           string
	Old, New       string
	Added, Removed bool // there is no Old, or no New
}

func (c Change) String() string {
	switch {
	case c.Added:
		return fmt.Sprintf("%s: added %q", c.Name, c.New)
	case c.Removed:
		return fmt.Sprintf("%s: removed %q", c.Name, c.Old)
	}
	return fmt.Sprintf("%s: %q, was %q", c.Name, c.New, c.Old)
}

// Diff lists what differs from the older key, in the order of the newer one's inputs, the removed ones
// last. Of a name that comes several times the values are compared as a sequence.
func Diff(older, newer *Key) []Change {
	var changes []Change
	if older.kind != newer.kind {
		changes = append(changes, Change{Name: "kind", Old: older.kind, New: newer.kind})
	}
	left := make(map[string][]string)
	for _, in := range older.inputs {
		left[in.Name] = append(left[in.Name], in.Value)
	}
	for _, in := range newer.inputs {
		old := left[in.Name]
		if len(old) == 0 {
			changes = append(changes, Change{Name: in.Name, New: in.Value, Added: true})
			continue
		}
		if old[0] != in.Value {
			changes = append(changes, Change{Name: in.Name, Old: old[0], New: in.Value})
		}
		left[in.Name] = old[1:]
	}
	for _, in := range older.inputs {
		if old := left[in.Name]; len(old) > 0 {
			changes = append(changes, Change{Name: in.Name, Old: old[0], Removed: true})
			left[in.Name] = old[1:]
		}
	}
	return changes
}
