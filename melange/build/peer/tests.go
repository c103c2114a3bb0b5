package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A verdict is what a builder says of the test of one package.
type verdict string

const (
	passed verdict = "passed"
	failed verdict = "failed"
)

// compareTests runs the tests of a recipe with both, against the packages that ours has built, and returns how many
// verdicts there were. The other stops at the first test that fails: it gets each test block by itself. Of a block that is
// for a range of packages it tells up to the first that fails.
func (c *comparison) compareTests(ctx context.Context, name, file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	blocks := testBlocks(string(text))
	if len(blocks) == 0 {
		return 0, nil
	}
	own := filepath.Join(filepath.Dir(file), name)
	shared := slices.Concat([]string{"--arch", "x86_64", "-r", filepath.Join(c.work, "ours", name)}, c.environment)
	out, _ := c.output(ctx, c.ours, slices.Concat([]string{"test", file, "--cache-dir", filepath.Join(c.work, "cache")}, shared)...)
	ours := ourVerdicts(out)
	theirs := map[string]verdict{}
	for i := range blocks {
		alone := filepath.Join(c.work, "tests", name+".yaml")
		if err := os.MkdirAll(filepath.Dir(alone), 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(alone, []byte(withoutBlocks(string(text), slices.Delete(slices.Clone(blocks), i, i+1))), 0o644); err != nil {
			return 0, err
		}
		out, err := c.output(ctx, c.peer, slices.Concat([]string{"test", alone, "--runner", "bubblewrap", "--source-dir", own,
			"--cache-dir", filepath.Join(c.work, "none"), "--apk-cache-dir", filepath.Join(c.work, "apk-cache")}, shared)...)
		maps.Copy(theirs, theirVerdicts(out, name, err == nil))
	}
	for _, p := range slices.Sorted(maps.Keys(union(theirs, ours))) {
		if theirs[p] != ours[p] {
			c.add(difference{pkg: name, what: "test", name: p, theirs: string(theirs[p]), ours: string(ours[p])})
		}
	}
	for p, v := range ours {
		if v == failed && theirs[p] == failed {
			c.failing = append(c.failing, p)
		}
	}
	return len(ours), ctx.Err()
}

// A block is lines of a text, from the first to before the last.
type block struct{ from, to int }

// testBlocks are the blocks of lines that are a test.
func testBlocks(text string) []block {
	var found []block
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) != "test:" {
			continue
		}
		b := block{i, i + 1}
		for b.to < len(lines) && (lines[b.to] == "" || indent(lines[b.to]) > indent(line)) {
			b.to++
		}
		found = append(found, b)
	}
	return found
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

func withoutBlocks(text string, blocks []block) string {
	lines := strings.Split(text, "\n")
	for _, b := range slices.Backward(blocks) {
		lines = slices.Delete(lines, b.from, b.to)
	}
	return strings.Join(lines, "\n") + "\n"
}

var ourVerdict = regexp.MustCompile(`(?m)^(pass|fail) +x86_64/([^:]+):`)

func ourVerdicts(out string) map[string]verdict {
	all := map[string]verdict{}
	for _, m := range ourVerdict.FindAllStringSubmatch(out, -1) {
		all[m[2]] = passed
		if m[1] == "fail" {
			all[m[2]] = failed
		}
	}
	return all
}

var theirStart = regexp.MustCompile(`running (?:the main test pipeline|test pipeline for subpackage (\S+))`)

// theirVerdicts goes by what is said when a test starts: it passed unless it is the last and the whole failed. A main
// test that has no environment fails before it starts.
func theirVerdicts(out, name string, whole bool) map[string]verdict {
	all := map[string]verdict{}
	last := name
	for _, m := range theirStart.FindAllStringSubmatch(out, -1) {
		if last = m[1]; last == "" {
			last = name
		}
		all[last] = passed
	}
	if !whole {
		all[last] = failed
	}
	return all
}
