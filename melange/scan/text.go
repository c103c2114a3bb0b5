package scan

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"distro.internal/shared/filetree"
)

// moduleDirs are where pkg-config looks without being told.
var moduleDirs = []string{
	"usr/lib/pkgconfig", "usr/lib64/pkgconfig", "usr/share/pkgconfig",
	"usr/local/lib/pkgconfig", "usr/local/share/pkgconfig",
}

func (s *scanner) pkgconf(e *filetree.Entry, f *file) error {
	name, ok := strings.CutSuffix(path.Base(e.Path), ".pc")
	if !ok || f.size > 1<<20 {
		return nil
	}
	module, err := parseModule(f)
	if err != nil || !module.described {
		return err
	}
	if !slices.Contains(moduleDirs, path.Dir(e.Path)) {
		s.vendor("pc:%s=%s", name, s.in.Version)
		return nil
	}
	s.provide("pc:%s=%s", name, s.in.Version)
	for _, r := range module.requires {
		s.depend("pc:%s", r)
	}
	return nil
}

// A module is the part of a pkg-config file that concerns other modules.
type module struct {
	described bool // it says what it is; else it is no such file, and pkg-config does not find it
	requires  []string
}

var variable = regexp.MustCompile(`\$\{([A-Za-z0-9_.]+)\}`)

// parseModule reads "name=value" variables and "Key: value" fields.
func parseModule(f *file) (module, error) {
	var m module
	vars := map[string]string{}
	lines := bufio.NewScanner(f.reader())
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		i := strings.IndexAny(line, ":=")
		if i < 0 {
			continue
		}
		key := strings.TrimSpace(line[:i])
		value, err := expand(strings.TrimSpace(line[i+1:]), vars)
		if err != nil {
			return m, fmt.Errorf("%s: %w", key, err)
		}
		if line[i] == '=' {
			vars[key] = value
			continue
		}
		switch key {
		case "Name", "Description", "Version":
			m.described = true
		case "Requires", "Requires.private", "Requires.internal":
			m.requires = append(m.requires, moduleNames(value)...)
		}
	}
	return m, lines.Err()
}

// maxValue is longer than pkg-config takes: a few lines could name each other to the end of all memory.
const maxValue = 1 << 16

func expand(value string, vars map[string]string) (string, error) {
	size := len(value)
	for _, v := range variable.FindAllString(value, -1) {
		size += len(vars[v[2:len(v)-1]])
	}
	if size > maxValue {
		return "", fmt.Errorf("a value of more than %d bytes", maxValue)
	}
	return variable.ReplaceAllStringFunc(value, func(v string) string { return vars[v[2:len(v)-1]] }), nil
}

// moduleNames takes the names out of "a >= 1.2, b c = 3".
func moduleNames(list string) []string {
	var names []string
	fields := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	for i := 0; i < len(fields); i++ {
		if strings.Trim(fields[i], "<>=!") == "" {
			i++ // the operator's version
			continue
		}
		name := fields[i]
		if j := strings.IndexAny(name, "<>=!"); j >= 0 {
			name = name[:j]
		}
		if name == "" {
			continue // an operator written onto its version
		}
		names = append(names, name)
	}
	return names
}

// commonInterpreters are there wherever scripts are.
var commonInterpreters = []string{"python3", "python", "sh", "awk", "luajit"}

func (s *scanner) shebang(e *filetree.Entry, f *file) error {
	if !slices.ContainsFunc(scriptDirs, func(d string) bool { return strings.HasPrefix(e.Path, d) }) {
		return nil
	}
	head, err := f.head(80)
	if err != nil || !bytes.HasPrefix(head, []byte("#!")) {
		return err
	}
	line, _, _ := strings.Cut(string(head[2:]), "\n")
	if name := scriptInterpreter(strings.Fields(line)); name != "" && !slices.Contains(commonInterpreters, name) {
		s.depend("cmd:%s", name)
	}
	return nil
}

// scriptInterpreter unwraps "/usr/bin/env X" and "/usr/bin/env -S X"; other
// uses of env say nothing for certain.
func scriptInterpreter(words []string) string {
	if len(words) == 0 {
		return ""
	}
	name := path.Base(words[0])
	if name != "env" {
		return name
	}
	words = words[1:]
	if len(words) > 1 && words[0] == "-S" {
		words = words[1:]
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.Contains(words[0], "=") {
		return ""
	}
	return path.Base(words[0])
}
