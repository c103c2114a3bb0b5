package apk

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// ParseWorld reads the file "world": what was asked for.
func ParseWorld(r io.Reader) ([]Dependency, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading world: %w", err)
	}
	deps, err := ParseDependencies(string(data))
	if err != nil {
		return nil, fmt.Errorf("reading world: %w", err)
	}
	return deps, nil
}

// WriteWorld writes the file "world", one dependency a line.
func WriteWorld(w io.Writer, world []Dependency) error {
	var b []byte
	for _, d := range world {
		if !d.readable() {
			return fmt.Errorf("writing world: dependency %q would be read as another one", d)
		}
		b = append(d.append(b), '\n')
	}
	if len(world) == 0 {
		b = []byte("\n")
	}
	_, err := w.Write(b)
	return err
}

// A RepositoryLine is one line of the file "repositories".
type RepositoryLine struct {
	Tag string // "edge" for @edge: only used where a dependency asks for it
	URL string
}

// ParseRepositories reads the file "repositories". Comments are passed over.
func ParseRepositories(r io.Reader) ([]RepositoryLine, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading repositories: %w", err)
	}
	var lines []RepositoryLine
	for line := range strings.Lines(string(data)) {
		word := strings.Fields(line)
		if len(word) == 0 || word[0][0] == '#' {
			continue
		}
		var l RepositoryLine
		if tag, ok := strings.CutPrefix(word[0], "@"); ok {
			l.Tag, word = tag, word[1:]
		}
		if len(word) != 1 {
			return nil, fmt.Errorf("reading repositories: %q: %w", strings.TrimSpace(line), ErrFormat)
		}
		l.URL = word[0]
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("reading repositories: %w", err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func (l RepositoryLine) check() error {
	switch {
	case l.URL == "" || hasBlank(l.URL) || l.URL[0] == '#' || l.URL[0] == '@':
		return fmt.Errorf("address %q: %w", l.URL, ErrFormat)
	case hasBlank(l.Tag):
		return fmt.Errorf("tag %q: %w", l.Tag, ErrFormat)
	}
	return nil
}

// WriteRepositories writes the file "repositories".
func WriteRepositories(w io.Writer, lines []RepositoryLine) error {
	var b bytes.Buffer
	for _, l := range lines {
		if err := l.check(); err != nil {
			return fmt.Errorf("writing repositories: %w", err)
		}
		if l.Tag != "" {
			b.WriteString("@" + l.Tag + " ")
		}
		b.WriteString(l.URL + "\n")
	}
	_, err := b.WriteTo(w)
	return err
}
