package stage0

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"distro.internal/melange/source"
)

// A deb is a Debian package file, verified, of which the control data is read.
type deb struct {
	pin      Pin
	file     string
	control  map[string]string // fields by name in lower case
	provides []string
}

// readDeb verifies a package file and reads what it says of itself.
func readDeb(file string, pin Pin) (*deb, error) {
	if err := verify(file, pin.SHA256); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	member, err := findMember(f, "control.tar")
	if err != nil {
		return nil, err
	}
	text, err := readControl(member)
	if err != nil {
		return nil, err
	}
	all := paragraphs(text)
	if len(all) != 1 {
		return nil, fmt.Errorf("%d paragraphs in the control file", len(all))
	}
	d := &deb{pin: pin, file: file, control: all[0]}
	if name := d.control["package"]; name != pin.Name {
		return nil, fmt.Errorf("the package calls itself %q", name)
	}
	for _, group := range relations(d.control["provides"]) {
		d.provides = append(d.provides, group...)
	}
	return d, nil
}

// readControl returns the file control of a compressed control.tar.
func readControl(r io.Reader) (string, error) {
	z, err := source.Decompress(context.Background(), r)
	if err != nil {
		return "", err
	}
	defer z.Close()
	const limit = 1 << 20
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return "", errors.New("no control file in control.tar")
		}
		if err != nil {
			return "", fmt.Errorf("reading control.tar: %w", err)
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(tr, limit))
		return string(text), err
	}
}

// The format of ar: a magic line, then members, each behind a header of one line.
const (
	arMagic  = "!<arch>\n"
	arHeader = 60
)

// findMember returns the content of the first member of an ar archive whose
// name begins so.
func findMember(r io.Reader, prefix string) (io.Reader, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(br, magic); err != nil || string(magic) != arMagic {
		return nil, errors.New("not a Debian package: no ar archive")
	}
	header := make([]byte, arHeader)
	for {
		if _, err := io.ReadFull(br, header); err != nil {
			return nil, fmt.Errorf("looking for %s in the package: %w", prefix, err)
		}
		if !bytes.HasSuffix(header, []byte("`\n")) {
			return nil, errors.New("broken header of an ar member")
		}
		name := strings.TrimRight(string(header[:16]), "/ ")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("ar member %q: broken size", name)
		}
		if strings.HasPrefix(name, prefix) {
			return io.LimitReader(br, size), nil
		}
		if _, err := io.CopyN(io.Discard, br, size+size%2); err != nil {
			return nil, fmt.Errorf("ar member %q: %w", name, err)
		}
	}
}

// relations reads a list of dependencies, "a (>= 1) | b, c:any", as the names
// in it: one group of alternatives for each wanted thing. Versions are left
// out: apt has chosen already.
func relations(text string) (groups [][]string) {
	for part := range strings.SplitSeq(text, ",") {
		var group []string
		for alternative := range strings.SplitSeq(part, "|") {
			words := strings.FieldsFunc(alternative, func(r rune) bool { return strings.ContainsRune(" \t\n([<", r) })
			if len(words) > 0 {
				name, _, _ := strings.Cut(words[0], ":")
				group = append(group, name)
			}
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

// A closure is all packages of a lock, who depend on each other.
type closure struct {
	packages  []*deb            // by name
	providers map[string]string // what is asked for -> the package that is taken for it
}

func readClosure(l *Lock, files []string) (*closure, error) {
	c := &closure{providers: make(map[string]string)}
	for i, pin := range l.Pins {
		d, err := readDeb(files[i], pin)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", pin.Path, err)
		}
		c.packages = append(c.packages, d)
		c.providers[pin.Name] = pin.Name
	}
	for _, d := range c.packages {
		for _, name := range d.provides {
			if _, ok := c.providers[name]; !ok {
				c.providers[name] = d.pin.Name
			}
		}
	}
	return c, nil
}

// depends returns the packages of the closure that d depends on. Of
// alternatives that is the first that is there.
func (c *closure) depends(d *deb) ([]string, error) {
	var names []string
	for _, field := range []string{"pre-depends", "depends"} {
		for _, group := range relations(d.control[field]) {
			i := slices.IndexFunc(group, func(name string) bool { return c.providers[name] != "" })
			if i < 0 {
				return nil, fmt.Errorf("it depends on %s, which the lock has not: %w", strings.Join(group, " | "), errStale)
			}
			if name := c.providers[group[i]]; name != d.pin.Name {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
