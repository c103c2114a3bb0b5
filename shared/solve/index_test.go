package solve

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
)

// readIndex reads the text of an index, or of a database of installed packages,
// as far as a solver is concerned. It is more lenient than apk.ParseIndex: the
// checksums in test data of others are not always proper base64. tags are those that installed packages came with.
func readIndex(r io.Reader) (packages []*apk.Package, tags map[string]string, err error) {
	tags = map[string]string{}
	var p *apk.Package
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			p = nil
			continue
		}
		if p == nil {
			p = &apk.Package{}
			packages = append(packages, p)
		}
		switch key {
		case "C":
			if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(value, "Q1")); err == nil {
				copy(p.Checksum[:], sum)
			}
		case "s":
			tags[p.Name] = value
		default:
			if err := setField(p, key, value); err != nil {
				return nil, nil, fmt.Errorf("package %s: %w", p.Name, err)
			}
		}
	}
	return packages, tags, lines.Err()
}

func setField(p *apk.Package, key, value string) (err error) {
	switch key {
	case "P":
		p.Name = value
	case "V":
		p.Version = apk.Version(value)
	case "A":
		p.Arch = apk.Arch(value)
	case "I":
		p.InstalledSize, err = strconv.ParseInt(value, 10, 64)
	case "k":
		p.ProviderPriority, err = strconv.Atoi(value)
	case "D":
		err = appendDependencies(&p.Depends, value)
	case "p":
		err = appendDependencies(&p.Provides, value)
	case "i":
		err = appendDependencies(&p.InstallIf, value)
	}
	return err
}

func appendDependencies(to *[]apk.Dependency, value string) error {
	list, err := apk.ParseDependencies(value)
	*to = append(*to, list...)
	return err
}

// verbs renders changes as apk prints them.
func verbs(changes []Change) []string {
	var lines []string
	for i, c := range changes {
		p, versions := c.New, ""
		if p == nil {
			p = c.Old
		}
		versions = string(p.Version)
		if c.Old != nil && c.New != nil && c.Old != c.New {
			versions = string(c.Old.Version) + " -> " + string(c.New.Version)
		}
		tag := ""
		if c.NewTag != "" {
			tag = "@" + c.NewTag
		}
		digits := len(strconv.Itoa(len(changes)))
		lines = append(lines, fmt.Sprintf("(%*d/%d) %s %s%s (%s)", digits, i+1, len(changes), verb(c), p.Name, tag, versions))
	}
	return lines
}

func verb(c Change) string {
	switch {
	case c.Old == nil:
		return "Installing"
	case c.New == nil:
		return "Purging"
	case c.Old == c.New && c.Reinstall:
		return "Reinstalling"
	case c.Old == c.New:
		return "Updating pinning"
	}
	return []string{"Downgrading", "Replacing", "Upgrading"}[apk.Compare(c.New.Version, c.Old.Version)+1]
}

func parseWorld(words ...string) ([]apk.Dependency, error) {
	var world []apk.Dependency
	for _, w := range words {
		d, err := apk.ParseDependency(w)
		if err != nil {
			return nil, err
		}
		world = setWorld(world, d)
	}
	return world, nil
}

// setWorld adds d to the world, in place of what there is of that name.
func setWorld(world []apk.Dependency, d apk.Dependency) []apk.Dependency {
	world = slices.Clone(world)
	for i := range world {
		if world[i].Name == d.Name {
			world[i] = d
			return world
		}
	}
	return append(world, d)
}
