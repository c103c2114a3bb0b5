package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"distro.internal/ci/graph"
	"distro.internal/melange/testshell"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/solve/synthetic"
)

var (
	costTree    = flag.String("tree", "", "plan the recipes of this folder, which has its pipelines in it")
	costProgram = flag.String("world", "", "the world command to measure")
	costDir     = flag.String("dir", "", "where the workspace is laid, and kept")
	costEntries = flag.Int("entries", 150_000, "packages in the repository that seeds are taken from")
	costRuns    = flag.Int("runs", 7, "how often each command is measured")
)

// makeCost is set for the process that lays the workspace: the one that measures stays small, for the kernel counts
// its memory as its children's.
const makeCost = "WORLD_TEST_LAY_COST"

// TestPlanCost measures what planning a whole distribution costs when everything is made and nothing, or one recipe, has
// changed, beside what git takes to look at the same files; in turns, so that a busy machine is unkind to all alike.
//
// No steps run. For each recipe the test says to the store that its steps left empty folders; packages are made of these,
// signed and published by the commands that do so in a build. What is measured is what a user waits for.
func TestPlanCost(t *testing.T) {
	c := costScene{dir: *costDir, program: *costProgram}
	if c.dir == "" {
		c.dir = t.TempDir()
	}
	if *costTree == "" {
		*costEntries, *costRuns = 3000, 1 // to see that it works
		*costTree = filepath.Join(t.TempDir(), "tree")
		must(t, writeChain(*costTree, 40))
	}
	if c.program == "" {
		c.program = filepath.Join(testshell.Shared(), "world")
	}
	if os.Getenv(makeCost) != "" {
		c.lay(t)
		return
	}
	if _, err := os.Stat(filepath.Join(c.dir, "laid")); err != nil {
		self, err := os.Executable()
		must(t, err)
		lay := exec.Command(self, "-test.run=^TestPlanCost$", "-test.v", "-test.timeout=0", "-tree="+*costTree, "-dir="+c.dir, "-world="+c.program, fmt.Sprint("-entries=", *costEntries))
		lay.Env = append(os.Environ(), makeCost+"=1")
		out, err := lay.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		must(t, os.WriteFile(filepath.Join(c.dir, "laid"), out, 0o644))
	}
	c.measureAll(t)
}

// A costScene is a workspace with all that its commands need.
type costScene struct{ dir, program string }

func (c costScene) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// world is the measured command.
func (c costScene) world(args ...string) *exec.Cmd {
	cmd := exec.Command(c.program, args...)
	cmd.Dir = c.path("workspace")
	cmd.Env = append(os.Environ(), "HOME="+c.path("home"), "XDG_CACHE_HOME="+c.path("cache"), "XDG_CONFIG_HOME="+c.path("config"), "SOURCE_DATE_EPOCH=")
	return cmd
}

func (c costScene) git(args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"}, args...)...)
	cmd.Dir = c.path("workspace")
	return cmd
}

// lay copies the recipes, makes a repository of older builds, and has everything made.
func (c costScene) lay(t *testing.T) {
	must(t, copyTree(c.path("workspace", "recipes"), *costTree))
	must(t, c.makeKeys())
	must(t, c.configure(nil))
	must(t, c.mend(t))
	nodes := c.read(t)
	must(t, c.publishOlder(nodes))
	_, seeds, err := graph.Seeds(nodes, nil)
	must(t, err)
	must(t, os.MkdirAll(c.path("workspace", "images"), 0o755))
	t.Logf("%d recipes, %d seeds", len(nodes), len(seeds))
	c.pretend(t, seeds)
	for _, args := range [][]string{{"init", "-q"}, {"add", "recipes", "ci"}, {"commit", "-qm", "recipes"}} {
		if out, err := c.git(args...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
}

func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && rel != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case d.Type().IsRegular():
			return copyTo(filepath.Join(to, rel), file)
		}
		return nil
	})
}

func (c costScene) makeKeys() error {
	for _, name := range []string{c.path("config", "distro", "distro.rsa"), c.path("workspace", "older.rsa")} {
		key, err := apk.GenerateKey(2048) // as good as any here
		if err != nil {
			return err
		}
		public, err := apk.EncodePublicKey(&key.PublicKey)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(name), 0o755)
		}
		if err = errors.Join(err, os.WriteFile(name, apk.EncodePrivateKey(key), 0o600), os.WriteFile(name+".pub", public, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func (c costScene) configure(seeds []string) error {
	var b strings.Builder
	b.WriteString("packages: recipes\npipelines: [recipes/pipelines]\narchs: [x86_64]\nbuild-arch: x86_64\nrepositories: [older]\nkeyring: [older.rsa.pub]\nlint: {require: [], warn: []}\n")
	if len(seeds) > 0 {
		fmt.Fprintf(&b, "seeds: [%s]\n", strings.Join(seeds, ", "))
	}
	if err := os.MkdirAll(c.path("workspace", "ci"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(c.path("workspace", "ci", "world.yaml"), []byte(b.String()), 0o644)
}

func (c costScene) read(t *testing.T) []*graph.Node {
	config, err := graph.ReadConfig(c.path("workspace", "ci", "world.yaml"))
	must(t, err)
	nodes, err := graph.Read(c.path("workspace"), config)
	must(t, err)
	return nodes
}

var withoutCommit = regexp.MustCompile(`(?m)^(\S+):(\d+):\d+: \S+ has no commit`)

// mend makes a checkout of a distribution one that can be planned as it is: sources that are not pinned get a commit, and
// what asks for one version of a package of which the recipes make another takes that.
func (c costScene) mend(t *testing.T) error {
	config, err := graph.ReadConfig(c.path("workspace", "ci", "world.yaml"))
	must(t, err)
	nodes, err := graph.Read(c.path("workspace"), config)
	if err != nil {
		found := withoutCommit.FindAllStringSubmatch(err.Error(), -1)
		if len(found) == 0 {
			return err
		}
		for _, m := range found {
			t.Logf("pinned: %s", m[0])
			must(t, c.pin(m[1], m[2]))
		}
		nodes, err = graph.Read(c.path("workspace"), config)
		must(t, err)
	}
	makes := map[string][]apk.Version{} // under which a name is to be had
	for _, n := range nodes {
		plan, err := n.Plan(0)
		must(t, err)
		for _, o := range n.Outputs {
			makes[o.Name] = append(makes[o.Name], plan.FullVersion())
			for _, d := range o.Provides {
				makes[d.Name] = append(makes[d.Name], d.Version)
			}
		}
	}
	pins := map[string]string{}
	look := func(list []apk.Dependency) {
		for _, d := range list {
			fits := func(v apk.Version) bool { return d.SatisfiedBy(v, apk.Checksum{}) }
			if v := makes[d.Name]; !d.Conflict && len(v) > 0 && !slices.ContainsFunc(v, fits) {
				pins[d.String()] = d.Name
			}
		}
	}
	for _, n := range nodes {
		look(n.Packages)
		for _, o := range n.Outputs {
			look(o.Needs)
		}
	}
	for pin, name := range pins {
		t.Logf("%s is not made any more: any version of it will do", pin)
		must(t, replaceAll(c.path("workspace", "recipes"), pin, name))
	}
	return nil
}

func (c costScene) pin(file, line string) error {
	name := c.path("workspace", file)
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	indent := lines[n-1][:len(lines[n-1])-len(strings.TrimLeft(lines[n-1], " "))]
	lines = slices.Insert(lines, n, indent+"expected-commit: "+strings.Repeat("0", 40))
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644)
}

func replaceAll(dir, old, replacement string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(file) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(data, []byte(old)) {
			return err
		}
		return os.WriteFile(file, bytes.ReplaceAll(data, []byte(old), []byte(replacement)), 0o644)
	})
}

// publishOlder makes an index of all packages as they are now, of whatever else is wanted, and of enough others.
func (c costScene) publishOlder(nodes []*graph.Node) error {
	index := &apk.Index{}
	there := map[string]bool{}
	add := func(p apk.Package) {
		p.Arch, p.Size, p.InstalledSize = "x86_64", 1, 1
		p.Checksum = sha1.Sum(fmt.Appendf(nil, "%s-%s", p.Name, p.Version))
		if !there[p.FileName()] {
			there[p.FileName()] = true
			index.Packages = append(index.Packages, &p)
		}
	}
	names := map[string]bool{}
	for _, n := range nodes {
		plan, err := n.Plan(0)
		if err != nil {
			return err
		}
		for _, o := range n.Outputs {
			add(apk.Package{Name: o.Name, Version: plan.FullVersion(), Origin: n.Name, Depends: o.Needs, Provides: o.Provides})
			names[o.Name] = true
			for _, d := range o.Provides {
				names[d.Name] = true
			}
		}
	}
	wanted := func(list []apk.Dependency) {
		for _, d := range list {
			if d.Conflict || names[d.Name] {
				continue
			}
			version := d.Version
			switch d.Op {
			case apk.Any, apk.Less:
				version = "0-r0"
			case apk.Greater:
				version += ".9999"
			}
			add(apk.Package{Name: d.Name, Version: version, Origin: d.Name})
		}
	}
	for _, n := range nodes {
		wanted(n.Packages)
		for _, o := range n.Outputs {
			wanted(o.Needs)
		}
	}
	if more := *costEntries - len(index.Packages); more > 0 {
		index.Packages = append(index.Packages, synthetic.Index(more, 1).Packages...)
	}
	signer, err := apk.LoadSigner(c.path("workspace", "older.rsa"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := apk.WriteIndex(&b, index, signer); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(c.path("workspace", "older", "x86_64"), 0o755),
		os.WriteFile(c.path("workspace", "older", "x86_64", "APKINDEX.tar.gz"), b.Bytes(), 0o644))
}

// pretend makes all packages as if steps had left empty folders. Recipes whose environment has no solution are left out.
func (c costScene) pretend(t *testing.T, seeds []string) {
	for left := -1; left != 0; {
		seeds = slices.DeleteFunc(seeds, func(name string) bool {
			_, err := os.Stat(c.path("workspace", "recipes", name+".yaml"))
			return err != nil
		})
		must(t, c.configure(seeds))
		left = c.pretendAll(t)
	}
}

func (c costScene) pretendAll(t *testing.T) (left int) {
	s := surroundings{cache: c.path("cache", "distro"), config: c.path("config", "distro")}
	o := workspaceFlags{dir: c.path("workspace"), file: "ci/world.yaml", cache: s.cache, key: filepath.Join(s.config, "distro.rsa")}
	w, err := openWorld(s, &o)
	must(t, err)
	must(t, w.prepare(t.Context(), &o, os.Stderr))
	var empty bytes.Buffer
	must(t, tar.NewWriter(&empty).Close())
	tree, err := w.builder.Store.PutBytes(empty.Bytes())
	must(t, err)
	began := time.Now()
	for i, n := range w.graph.Nodes() {
		if slices.ContainsFunc(n.Needs(), func(to *graph.Node) bool { return w.made[to.ID] == nil }) {
			continue
		}
		if err := w.pretendOne(t.Context(), n, tree); err != nil {
			left++
			t.Logf("left out: %.300v", err)
			must(t, os.Remove(c.path("workspace", n.File)))
		}
		if i%500 == 499 {
			t.Logf("%d nodes in %v", i+1, time.Since(began).Round(time.Millisecond))
		}
	}
	t.Logf("%d of %d nodes are made", len(w.made), len(w.graph.Nodes()))
	return left
}

func (w *world) pretendOne(ctx context.Context, n *graph.Node, tree cas.Digest) error {
	job, err := w.job(ctx, n, 0)
	if err != nil {
		return err
	}
	r, err := w.builder.Lookup(ctx, job)
	if err == nil {
		w.made[n.ID] = r
		return nil
	}
	if len(r.Keys) == 1 {
		result := &cas.Result{Metadata: map[string]string{"epoch": "315532800"}}
		for _, o := range n.Outputs {
			result.Outputs = append(result.Outputs, cas.Output{Name: o.Name, Digest: tree})
		}
		if err := w.builder.Store.SetResult(r.Keys[0].Digest(), result); err != nil {
			return err
		}
	}
	if r, err = w.builder.Build(ctx, job); err != nil {
		return err
	}
	w.made[n.ID] = r
	return nil
}

// writeChain writes recipes each of which needs some of those before it.
func writeChain(dir string, n int) error {
	if err := os.MkdirAll(filepath.Join(dir, "pipelines", "chain"), 0o755); err != nil {
		return err
	}
	pipeline := "name: link\nneeds:\n  packages: [link-tool]\npipeline:\n  - runs: echo ${{inputs.word}}\ninputs:\n  word:\n    default: link\n"
	err := os.WriteFile(filepath.Join(dir, "pipelines", "chain", "link.yaml"), []byte(pipeline), 0o644)
	for i := range n {
		var needs strings.Builder
		for _, j := range []int{i - 1, i / 2, i / 3} {
			if j >= 0 && j < i {
				fmt.Fprintf(&needs, "      - link%d-dev\n", j)
			}
		}
		text := fmt.Sprintf(`package:
  name: link%[1]d
  version: 1.%[1]d
  epoch: 0
  description: link %[1]d of the chain
environment:
  contents:
    packages:
      - link-tool
%[2]spipeline:
  - uses: chain/link
  - runs: echo link %[1]d
subpackages:
  - name: link%[1]d-dev
    description: to link with
    dependencies:
      runtime: [link%[1]d]
    pipeline:
      - runs: echo dev
`, i, needs.String())
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, fmt.Sprintf("link%d.yaml", i)), []byte(text), 0o644))
	}
	return err
}

// A cost is of one process.
type planCost struct {
	wall, cpu time.Duration
	memory    int64 // KiB
}

func (c costScene) cost(t *testing.T, cmd *exec.Cmd) (planCost, string) {
	t.Helper()
	measured, err := exec.LookPath("measured")
	must(t, err)
	cmd.Args = append([]string{"measured", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = measured
	var says, figures bytes.Buffer
	cmd.Stdout, cmd.Stderr = &says, &figures
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%.2000s%.2000s", cmd, err, &says, &figures)
	}
	var k planCost
	_, err = fmt.Sscan(lastLine(figures.String()), &k.wall, &k.cpu, &k.memory)
	must(t, err)
	return k, says.String()
}

// measured runs a program and says on stderr what it cost. It is a process of its own because the kernel takes the
// memory of who starts a program for the program's.
func measured() {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	check(err)
	used := cmd.ProcessState
	fmt.Fprintln(os.Stderr, int64(wall), int64(used.UserTime()+used.SystemTime()), used.SysUsage().(*syscall.Rusage).Maxrss)
}

// measureAll measures in turns.
func (c costScene) measureAll(t *testing.T) {
	c.once(t, "world build, to be signed and published", c.world("build"))
	must(t, os.RemoveAll(c.path("cache", "distro", "plans")))
	c.once(t, "world plan, all made, nothing remembered", c.world("plan"))
	recipe := c.path("workspace", "recipes", c.some(t))
	text, err := os.ReadFile(recipe)
	must(t, err)
	edits := 0
	edit := func(old, replacement string) {
		edits++
		changed := regexp.MustCompile(old).ReplaceAll(text, fmt.Appendf(nil, replacement, edits))
		must(t, os.WriteFile(recipe, changed, 0o644))
	}
	plan := func() *exec.Cmd { return c.world("plan") }
	nothing := func() {}
	list := []struct {
		name   string
		before func()
		cmd    func() *exec.Cmd
	}{
		{"git status", nothing, func() *exec.Cmd { return c.git("status", "--porcelain", "-uno") }},
		{"world build, nothing changed", nothing, func() *exec.Cmd { return c.world("build") }},
		{"world plan, nothing changed", nothing, plan},
		{"world plan, a comment in one recipe", func() { edit(`\n$`, "\n# %d\n") }, plan},
		{"world plan, one recipe changed", func() { edit(`(?m)^  epoch:.*$`, "  epoch: 9%d") }, plan},
		{"world plan, cold: nothing made, no cache", func() { must(t, os.RemoveAll(c.path("none"))) }, func() *exec.Cmd {
			return c.world("plan", "--cache-dir", c.path("none"))
		}},
	}
	costs := make([][]planCost, len(list))
	says := make([]string, len(list))
	for range *costRuns {
		must(t, os.WriteFile(recipe, text, 0o644))
		time.Sleep(2100 * time.Millisecond) // what was just written is read again each time
		c.cost(t, c.world("build"))
		for i, l := range list {
			l.before()
			k, out := c.cost(t, l.cmd())
			costs[i], says[i] = append(costs[i], k), lastLine(out)
		}
	}
	must(t, os.WriteFile(recipe, text, 0o644))
	for i, l := range list {
		slices.SortFunc(costs[i], func(a, b planCost) int { return int(a.cpu - b.cpu) })
		best := slices.MinFunc(costs[i], func(a, b planCost) int { return int(a.wall - b.wall) })
		m := costs[i][len(costs[i])/2]
		t.Logf("%-41s %7.1f ms processor, %7.1f ms wall at best, %6.1f MB: %s", l.name, milli(m.cpu), milli(best.wall), float64(m.memory)/1024, says[i])
	}
}

// once measures what can be done only once.
func (c costScene) once(t *testing.T, name string, cmd *exec.Cmd) {
	t.Helper()
	k, out := c.cost(t, cmd)
	t.Logf("%-41s %7.1f ms processor, %7.1f ms wall,         %6.1f MB: %s", name, milli(k.cpu), milli(k.wall), float64(k.memory)/1024, lastLine(out))
}

// some names a recipe in the middle.
func (c costScene) some(t *testing.T) string {
	files, err := filepath.Glob(c.path("workspace", "recipes", "*.yaml"))
	must(t, err)
	return filepath.Base(files[len(files)/2])
}

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
