package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// compareLint has both look at the packages of a recipe that ours has built, and compares which linters have something
// against each.
func (c *comparison) compareLint(ctx context.Context, name string) error {
	files, err := filepath.Glob(filepath.Join(c.work, "ours", name, "x86_64", "*.apk"))
	if err != nil {
		return err
	}
	linters, err := c.linters(ctx)
	if err != nil {
		return err
	}
	for _, file := range files {
		theirs, err := c.theirFindings(ctx, file, linters)
		if err != nil {
			return err
		}
		ours, err := c.ourFindings(ctx, file, linters)
		if err != nil {
			return err
		}
		for _, l := range linters {
			switch a, b := slices.Contains(theirs, l), slices.Contains(ours, l); {
			case a != b:
				c.add(difference{pkg: filepath.Base(file), what: "lint", name: l, theirs: said(a), ours: said(b)})
			case a:
				c.findings++
			}
		}
	}
	return nil
}

func said(found bool) string {
	if found {
		return "found"
	}
	return "not found"
}

// linters are the names of all linters that we have.
func (c *comparison) linters(ctx context.Context) ([]string, error) {
	out, err := c.output(ctx, c.ours, "lint", "--list")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(out) {
		names = append(names, strings.Fields(line)[0])
	}
	return names, nil
}

// theirFindings are the linters that have something against a package, as the file says that is written where there are any.
func (c *comparison) theirFindings(ctx context.Context, file string, linters []string) ([]string, error) {
	dir := filepath.Join(c.work, "lint")
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := c.command(ctx, c.peer, "lint", "--lint-require=", "--lint-warn="+strings.Join(linters, ","), "--persist-lint-results", "--out-dir", dir, file); err != nil {
		return nil, err
	}
	written, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil || len(written) == 0 {
		return nil, err
	}
	text, err := os.ReadFile(written[0])
	if err != nil {
		return nil, err
	}
	var said struct{ Findings map[string]json.RawMessage }
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, err
	}
	var names []string
	for name := range said.Findings {
		names = append(names, name)
	}
	return names, nil
}

func (c *comparison) ourFindings(ctx context.Context, file string, linters []string) ([]string, error) {
	out, err := c.output(ctx, c.ours, "lint", "--json", "--lint-require=", "--lint-warn="+strings.Join(linters, ","), file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var said []struct{ Linter string }
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		return nil, err
	}
	var names []string
	for _, f := range said {
		names = append(names, f.Linter)
	}
	return names, nil
}
