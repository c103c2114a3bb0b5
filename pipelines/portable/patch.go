package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/pipelines/portable/diff"
)

// patcher applies patches in the folder that it works in, as patch of GNU does.
type patcher struct {
	strip int // leading folders that names lose
	fuzz  int // lines of context that may differ
}

// patch applies patches, or those that a series lists.
func patch(args []string) error {
	var p patcher
	f := flag.NewFlagSet("patch", flag.ContinueOnError)
	patches := f.String("patches", "", "the files to apply, separated by white space")
	series := f.String("series", "", "a file with their names, as quilt has it")
	f.IntVar(&p.strip, "strip-components", 1, "leading folders to drop from the names in the patches")
	f.IntVar(&p.fuzz, "fuzz", 2, "lines of context that may differ")
	if err := parse(f, args); err != nil {
		return err
	}
	if p.strip < 0 || p.fuzz < 0 {
		return errors.New("strip-components and fuzz are not below 0")
	}
	if *series != "" {
		return p.series(*series)
	}
	names := strings.Fields(*patches)
	if len(names) == 0 {
		return errors.New("neither patches nor series is given")
	}
	for _, name := range names {
		if err := p.apply(name); err != nil {
			return err
		}
	}
	return nil
}

// series applies what a file lists, a patch a line; -pN after it is the number of folders to drop.
func (p patcher) series(file string) error {
	list, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		one := p
		for _, option := range words[1:] {
			if strings.HasPrefix(option, "#") {
				break
			}
			if depth, found := strings.CutPrefix(option, "-p"); found {
				if one.strip, err = strconv.Atoi(depth); err != nil || one.strip < 0 {
					return fmt.Errorf("%s:%d: %q is no number of folders", file, n, option)
				}
			}
		}
		if err := one.apply(words[0]); err != nil {
			return err
		}
	}
	return nil
}

// apply applies one patch.
func (p patcher) apply(name string) error {
	fmt.Println("applying", name)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	files, err := diff.Parse(data)
	if err != nil {
		return fmt.Errorf("%s:%w", name, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: there is no unified diff in it", name)
	}
	for _, f := range files {
		if err := p.file(f); err != nil {
			line := f.Line
			var rejected *diff.Rejected
			if errors.As(err, &rejected) {
				line = rejected.Hunk.Line
			}
			return fmt.Errorf("%s:%d: %w", name, line, err)
		}
	}
	return nil
}

// change is what becomes of a file.
type change struct {
	diff.File
	from, to string
}

// Kinds of files, in the modes that git writes.
const (
	kindMask   = 0o170000
	kindLink   = 0o120000
	kindModule = 0o160000
)

func (c change) link() bool { return (c.NewMode|c.OldMode)&kindMask == kindLink }

// file does what a patch does to one file.
func (p patcher) file(f diff.File) error {
	switch {
	case f.Binary:
		return fmt.Errorf("%s: a git binary patch cannot be applied", cmp.Or(f.New, f.Old))
	case (f.NewMode|f.OldMode)&kindMask == kindModule:
		return fmt.Errorf("%s: a submodule cannot be patched", cmp.Or(f.New, f.Old))
	case !f.Git && len(f.Hunks) == 0:
		return nil // a header in a letter
	}
	c := change{File: f}
	var err error
	if c.from, c.to, err = p.names(f); err != nil {
		return err
	}
	fmt.Println("patching file", c.to)
	old, err := c.read()
	if err != nil {
		return err
	}
	text, placed, err := diff.Apply(old, f.Hunks, p.fuzz)
	for i, h := range placed {
		if h.Offset != 0 || h.Fuzz != 0 {
			fmt.Printf("Hunk #%d succeeded at %d with fuzz %d (offset %d lines).\n", i+1, h.At, h.Fuzz, h.Offset)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.to, err)
	}
	return c.write(text)
}

// names decides which file is meant: of the names that a patch gives, one that is there; and what it is called then.
func (p patcher) names(f diff.File) (from, to string, err error) {
	depth := p.strip
	if f.Renamed || f.Copied {
		depth = max(0, depth-1) // these have no a/ and b/
	}
	var names, there []string
	for _, name := range []string{f.Old, f.New} {
		name, ok := stripped(name, depth)
		if !ok {
			continue
		}
		if !fs.ValidPath(name) {
			return "", "", fmt.Errorf("%s leads out of the folder", name)
		}
		names = append(names, name)
		if _, err := os.Lstat(name); err == nil {
			there = append(there, name)
		}
	}
	switch {
	case len(names) == 0:
		return "", "", fmt.Errorf("of the names %q and %q nothing is left without %d folders", f.Old, f.New, depth)
	case (f.Renamed || f.Copied) && len(names) == 2:
		return names[0], names[1], nil
	case len(there) > 0:
		name := slices.MinFunc(there, compareNames)
		return name, name, nil
	case f.Created || len(f.Hunks) > 0 && f.Hunks[0].OldLen == 0:
		name := names[len(names)-1]
		return name, name, nil
	}
	return "", "", fmt.Errorf("there is no %s", names[len(names)-1])
}

// compareNames puts the better name first: that with fewer folders, then the shorter.
func compareNames(a, b string) int {
	return cmp.Or(
		cmp.Compare(strings.Count(a, "/"), strings.Count(b, "/")),
		cmp.Compare(len(path.Base(a)), len(path.Base(b))),
		cmp.Compare(len(a), len(b)),
	)
}

// stripped drops leading folders; false when less than a name is left.
func stripped(name string, depth int) (string, bool) {
	for range depth {
		_, rest, found := strings.Cut(name, "/")
		if !found {
			return "", false
		}
		name = strings.TrimLeft(rest, "/")
	}
	if strings.HasPrefix(name, "/") {
		return name, true // is refused by name
	}
	clean := path.Clean(name)
	return clean, name != "" && clean != "."
}

// read is the text before.
func (c change) read() (string, error) {
	info, err := os.Lstat(c.from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (c.Created || len(c.Hunks) > 0 && c.Hunks[0].OldLen == 0):
		return "", nil
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0 && c.link():
		return os.Readlink(c.from)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file", c.from)
	case c.Created && info.Size() > 0:
		return "", fmt.Errorf("%s is to be made, and is there already", c.from)
	}
	text, err := os.ReadFile(c.from)
	return string(text), err
}

// write puts the text into its place. The file gets another inode: it may have names elsewhere that are not to change.
func (c change) write(text string) error {
	if c.Deleted {
		if text != "" {
			return fmt.Errorf("%s is to be deleted, and has more than the patch takes away", c.from)
		}
		return remove(c.from)
	}
	bits := uint32(0o644)
	if _, err := os.Lstat(c.from); err == nil {
		if bits, err = modeOf(c.from); err != nil {
			return err
		}
	}
	if c.NewMode != 0 && c.NewMode != c.OldMode {
		bits = c.NewMode & 0o777
	}
	if err := os.MkdirAll(path.Dir(c.to), 0o755); err != nil {
		return err
	}
	beside := path.Join(path.Dir(c.to), ".patched-"+path.Base(c.to))
	defer os.Remove(beside) // gone already when all went well
	var err error
	if c.link() {
		err = os.Symlink(text, beside)
	} else if err = os.WriteFile(beside, []byte(text), 0o644); err == nil {
		err = setMode(beside, bits)
	}
	if err == nil {
		err = os.Rename(beside, c.to)
	}
	if err == nil && c.Renamed && c.from != c.to {
		err = remove(c.from)
	}
	return err
}

// remove removes a file, and the folders that it leaves empty.
func remove(name string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			return err
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}
