package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// A content is all of a package but its signature.
type content struct {
	*apk.Reader
	tree *filetree.Tree
}

// openContent reads a package of whoever's key, with its files in memory. That
// they are what its metadata says is checked.
func openContent(file string) (*content, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Insecure: true})
	if err != nil {
		return nil, err
	}
	c := &content{r, filetree.New()}
	for {
		e, body, err := r.Next()
		if err == io.EOF {
			return c, nil
		} else if err != nil {
			return nil, err
		}
		if e.IsRegular() {
			data, err := io.ReadAll(body)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", e.Path, err)
			}
			e.Open = filetree.Bytes(data)
		}
		if err := c.tree.Put(*e); err != nil {
			return nil, err
		}
	}
}

// difference tells how two packages differ, in one line for each file and each
// line of metadata; nothing when they are the same bytes.
func difference(a, b *content) ([]string, error) {
	if a.ControlSHA256 == b.ControlSHA256 && a.Package.DataHash == b.Package.DataHash {
		return nil, nil
	}
	lines, err := infoDifference(a.Package, b.Package)
	if err != nil {
		return nil, err
	}
	lines = append(lines, controlDifference(scriptsAndMore(a), scriptsAndMore(b))...)
	files, err := treeDifference(a.tree, b.tree)
	if err != nil {
		return nil, err
	}
	lines = append(lines, files...)
	if len(lines) == 0 {
		lines = []string{"~ what they say is the same, and how it is written is not"}
	}
	return lines, nil
}

func infoDifference(a, b *apk.Package) ([]string, error) {
	var first, second strings.Builder
	if err := errors.Join(a.WriteInfo(&first), b.WriteInfo(&second)); err != nil {
		return nil, err
	}
	var lines []string
	old, fresh := strings.Split(first.String(), "\n"), strings.Split(second.String(), "\n")
	for _, side := range []struct {
		sign     string
		in, from []string
	}{{"-", old, fresh}, {"+", fresh, old}} {
		for _, line := range side.in {
			if !slices.Contains(side.from, line) {
				lines = append(lines, side.sign+" .PKGINFO: "+line)
			}
		}
	}
	return lines, nil
}

func scriptsAndMore(c *content) map[string][]byte {
	all := map[string][]byte{}
	maps.Copy(all, c.Scripts)
	maps.Copy(all, c.Control)
	return all
}

func controlDifference(a, b map[string][]byte) []string {
	var lines []string
	for _, name := range union(maps.Keys(a), maps.Keys(b)) {
		old, was := a[name]
		fresh, is := b[name]
		switch {
		case !is:
			lines = append(lines, "- "+name)
		case !was:
			lines = append(lines, "+ "+name)
		case !bytes.Equal(old, fresh):
			lines = append(lines, "~ "+name+": content")
		}
	}
	return lines
}

func treeDifference(a, b *filetree.Tree) ([]string, error) {
	var lines []string
	for _, name := range union(paths(a), paths(b)) {
		old, was := a.Lookup(name)
		fresh, is := b.Lookup(name)
		switch {
		case !is:
			lines = append(lines, "- "+name)
			continue
		case !was:
			lines = append(lines, "+ "+name)
			continue
		}
		words, err := entryDifference(old, fresh)
		if err != nil {
			return nil, err
		}
		if len(words) > 0 {
			lines = append(lines, "~ "+name+": "+strings.Join(words, ", "))
		}
	}
	return lines, nil
}

func entryDifference(a, b *filetree.Entry) (words []string, err error) {
	add := func(what string, old, fresh any) {
		if old != fresh {
			words = append(words, fmt.Sprintf("%s %v, now %v", what, old, fresh))
		}
	}
	add("mode", a.Mode, b.Mode)
	add("owner", fmt.Sprintf("%d:%d", a.UID, a.GID), fmt.Sprintf("%d:%d", b.UID, b.GID))
	add("link", a.Link, b.Link)
	add("time", a.ModTime.UTC(), b.ModTime.UTC())
	add("device", fmt.Sprintf("%d:%d", a.DevMajor, a.DevMinor), fmt.Sprintf("%d:%d", b.DevMajor, b.DevMinor))
	if !maps.Equal(a.Xattrs, b.Xattrs) {
		words = append(words, "extended attributes")
	}
	if !a.IsRegular() || !b.IsRegular() {
		return words, nil
	}
	add("size", a.Size, b.Size)
	old, err := digestOf(a)
	if err != nil {
		return nil, err
	}
	fresh, err := digestOf(b)
	if err == nil {
		add("content", old, fresh)
	}
	return words, err
}

// digestOf is as much of a file's SHA-256 as tells files apart for people.
func digestOf(e *filetree.Entry) (string, error) {
	if e.Open == nil {
		return "", nil
	}
	r, err := e.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	_, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

func paths(t *filetree.Tree) func(func(string) bool) {
	return func(yield func(string) bool) {
		for e := range t.All() {
			if !yield(e.Path) {
				return
			}
		}
	}
}

// union is what is in either, sorted, each once.
func union(a, b func(func(string) bool)) []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, side := range []func(func(string) bool){a, b} {
			for name := range side {
				if !yield(name) {
					return
				}
			}
		}
	}))
}
