package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// edits is how many changes TestMemory makes.
const edits = 60

// TestMemory changes the files of a workspace at random, and wants that a plan, and in the end a build, made with what is
// remembered says the same as one made by somebody who remembers nothing.
func TestMemory(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := newPlace(t)
	e := editor{place: p, Rand: rand.New(rand.NewPCG(seed, 1))}
	p.hostOnly()
	p.run(p.world("build"))
	for i := range edits {
		what := e.edit()
		warm := p.says("plan", "-v", "--json")
		if i%5 == 4 { // what is remembered may also be damaged, or of another age
			what += " and " + e.damage()
		}
		again := p.says("plan", "-v", "--json")
		short := p.says("plan")
		p.forget()
		cold := p.says("plan", "-v", "--json")
		if d := cmp.Diff(cold, warm); d != "" {
			t.Fatalf("edit %d, %s: the plan with memory is another:\n%s", i, what, d)
		}
		if d := cmp.Diff(cold, again); d != "" {
			t.Fatalf("edit %d, %s: the second plan with memory is another:\n%s", i, what, d)
		}
		if d := cmp.Diff(p.says("plan"), short); d != "" {
			t.Fatalf("edit %d, %s: in short, the plan with memory is another:\n%s", i, what, d)
		}
		if e.IntN(3) == 0 {
			p.world("build").Run() // it may fail: then the plan tells
			if e.IntN(2) == 0 {
				p.rest()
			}
			p.world("build").Run()
		}
	}
}

// hostOnly leaves one architecture, so that nothing is emulated.
func (p place) hostOnly() {
	p.t.Helper()
	file := filepath.Join(p.dir, "ci", "world.yaml")
	text, err := os.ReadFile(file)
	must(p.t, err)
	must(p.t, os.WriteFile(file, regexp.MustCompile(`(?m)^archs:.*$`).ReplaceAll(text, []byte("archs: [x86_64]")), 0o644))
}

// says is all that the command says, whether it succeeds or not.
func (p place) says(args ...string) string {
	p.t.Helper()
	c := p.world(args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return fmt.Sprintf("%s%v", &out, err)
}

// memories are the files in which the workspace is remembered.
func (p place) memories() []string {
	files, err := filepath.Glob(filepath.Join(p.dir, ".cache/distro/plans/*/*"))
	must(p.t, err)
	return files
}

func (p place) forget() {
	must(p.t, os.RemoveAll(filepath.Join(p.dir, ".cache/distro/plans")))
}

// rest waits until files that were written are believed by their looks.
func (p place) rest() { time.Sleep(2100 * time.Millisecond) }

// An editor changes a workspace.
type editor struct {
	place
	*rand.Rand
	kept map[string][]byte // what files had before they were edited or removed
}

func (e *editor) file(name string) string { return filepath.Join(e.dir, name) }

// edit does something to a file, and tells what.
func (e *editor) edit() string {
	if e.kept == nil {
		e.kept = map[string][]byte{}
	}
	files := []string{
		"packages/lib.yaml", "packages/mid.yaml", "packages/app.yaml", "packages/solo.yaml", "packages/lib/words",
		"packages/include/tools.yaml", "pipelines/greet.yaml", "images/app.yaml", "images/all.yaml", "ci/world.yaml",
	}
	name := files[e.IntN(len(files))]
	text, err := os.ReadFile(e.file(name))
	gone := err != nil
	if _, ok := e.kept[name]; !ok {
		e.kept[name] = text
	}
	switch n := e.IntN(10); {
	case gone || n < 2:
		must(e.t, os.WriteFile(e.file(name), e.kept[name], 0o644))
		return name + " is as it was"
	case n == 2:
		must(e.t, os.Chtimes(e.file(name), time.Now(), time.Now().Add(-time.Duration(e.IntN(1000))*time.Hour)))
		return name + " is touched"
	case n == 3:
		must(e.t, os.WriteFile(e.file(name), append(text, "\n# a comment\n"...), 0o644))
		return name + " has a comment"
	case n == 4:
		must(e.t, os.Remove(e.file(name)))
		return name + " is gone"
	case n == 5: // a file of the same name wins over the built-in one
		other := "pipelines/fetch.yaml"
		must(e.t, os.WriteFile(e.file(other), fmt.Appendf(nil, "pipeline:\n  - runs: echo %d\n", e.IntN(3)), 0o644))
		return other + " is there"
	case n == 6:
		must(e.t, os.WriteFile(e.file(fmt.Sprintf("packages/lib/more%d", e.IntN(3))), []byte("more"), 0o644))
		return "lib has another file"
	case n == 7: // same size, and perhaps within the same tick of the clock
		words := strings.NewReplacer("chain", "hcain", "hcain", "chain", "words", "wrods", "wrods", "words")
		must(e.t, os.WriteFile(e.file(name), []byte(words.Replace(string(text))), 0o644))
		return name + " has letters in another order"
	case n == 8 && strings.HasPrefix(name, "packages/") && strings.HasSuffix(name, ".yaml"):
		must(e.t, os.WriteFile(e.file(name), regexp.MustCompile(`epoch: \d`).ReplaceAll(text, fmt.Appendf(nil, "epoch: %d", e.IntN(4))), 0o644))
		return name + " has another epoch"
	}
	// The results of one action are gone.
	results, err := filepath.Glob(e.file(".cache/distro/cas/ac/*/*"))
	must(e.t, err)
	if len(results) > 0 {
		must(e.t, os.Remove(results[e.IntN(len(results))]))
	}
	return "a result is gone"
}

// damage does something to what is remembered.
func (e *editor) damage() string {
	files := e.memories()
	if len(files) == 0 {
		return "nothing is remembered"
	}
	name := files[e.IntN(len(files))]
	data, err := os.ReadFile(name)
	must(e.t, err)
	switch {
	case len(data) == 0 || e.IntN(3) == 0:
		data = data[:e.IntN(len(data)+1)]
	default:
		data[e.IntN(len(data))] ^= byte(1 + e.IntN(255))
	}
	must(e.t, os.WriteFile(name, data, 0o644))
	return filepath.Base(name) + " is damaged"
}

// TestMemoryOfCopy: what is remembered is the program's, wherever it lies; another program remembers nothing of it.
func TestMemoryOfCopy(t *testing.T) {
	p := newPlace(t)
	p.hostOnly()
	program := p.world("plan", "-v", "--json")
	told := p.says("plan", "-v", "--json")
	data, err := os.ReadFile(program.Path)
	must(t, err)
	at := bytes.Index(data, []byte(buildID(program.Path)))
	if at < 0 {
		t.Fatal("the program has no build id")
	}
	kept := func() string {
		var all strings.Builder
		for _, name := range p.memories() {
			info, err := os.Stat(name)
			must(t, err)
			fmt.Fprintln(&all, filepath.Base(name), info.ModTime())
		}
		return all.String()
	}
	before := kept()
	for _, c := range []struct {
		name   string
		change byte
	}{{"copy", 0}, {"other", 1}} {
		data[at] ^= c.change
		program.Path = filepath.Join(p.dir, c.name)
		must(t, os.WriteFile(program.Path, data, 0o755))
		again := exec.Cmd{Path: program.Path, Args: program.Args, Env: program.Env, Dir: program.Dir}
		out, err := again.CombinedOutput()
		if got := fmt.Sprintf("%s%v", out, err); got != told {
			t.Errorf("%s says %s, and not %s", c.name, got, told)
		}
		if after := kept(); (after == before) != (c.change == 0) {
			t.Errorf("%s: what is remembered was\n%sand is\n%s", c.name, before, after)
		}
	}
}
