// Peer builds the recipes of testdata with two builders, in the same environments and from the same sources, and says how
// the packages differ: fields of .PKGINFO, scripts, and each file's kind, mode, owner, target and content. Then both run the
// recipes' tests against the same packages, and their verdicts are compared.
//
//	world stage0 --config melange/build/peer/world.yaml
//	go run ./melange/build/peer --peer PATH/melange --ours out/bin/melange [--tools out/peer/stage0] [RECIPE...]
//
// It reads packages with the standard library alone, so that neither builder is its own judge. Differences that are
// known, and why they are there, are a table; any other is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

func main() {
	var c comparison
	flag.StringVar(&c.peer, "peer", "", "the other builder")
	flag.StringVar(&c.ours, "ours", "out/bin/melange", "this builder")
	flag.StringVar(&c.tools, "tools", "out/peer/stage0", "repository of the environments' packages")
	flag.StringVar(&c.dir, "testdata", "melange/build/peer/testdata", "folder of recipes and sources")
	flag.StringVar(&c.work, "work", "", "folder for what is made; a new one, removed at the end, when empty")
	flag.BoolVar(&c.verbose, "v", false, "show also the differences that are known")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := c.run(ctx, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

type comparison struct {
	peer, ours, tools, dir, work string
	verbose                      bool

	sources     string   // the address of the sources
	environment []string // flags that both take, for builds and tests
	shared      []string // flags that both take, for builds
	found       map[string][]difference
	failing     []string // packages whose tests fail with both
	findings    int      // of linters, by both
}

// shims is the recipe of the packages that only have other names.
const shims = "shims"

func (c *comparison) run(ctx context.Context, names []string) error {
	if c.peer == "" {
		return errors.New("--peer: which one?")
	}
	for _, path := range []*string{&c.peer, &c.ours, &c.tools, &c.dir} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	if c.work == "" {
		dir, err := os.MkdirTemp("", "peer-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		c.work = dir
	}
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if len(names) == 0 {
		files, err := filepath.Glob(filepath.Join(c.dir, "recipes", "*.yaml"))
		if err != nil {
			return err
		}
		for _, file := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml"))
		}
	}
	c.found = map[string][]difference{}
	recipes, packages, tests := 0, 0, 0
	for _, name := range names {
		if name == shims {
			continue
		}
		n, m, err := c.compare(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		recipes, packages, tests = recipes+1, packages+n, tests+m
	}
	return c.report(os.Stdout, recipes, packages, tests)
}

// prepare makes the key, the sources and their server, and the shims.
func (c *comparison) prepare(ctx context.Context) error {
	address, err := serve(ctx, filepath.Join(c.work, "sources"), filepath.Join(c.dir, "sources"))
	if err != nil {
		return err
	}
	c.sources = address
	key := filepath.Join(c.work, "peer.rsa")
	if err := c.command(ctx, c.ours, "keygen", key, "--key-size", "2048"); err != nil && !exists(key) {
		return err
	}
	repository := filepath.Join(c.work, shims)
	recipe, _, err := c.recipe(shims)
	if err != nil {
		return err
	}
	if err := c.command(ctx, c.ours, "build", recipe, "--arch", "x86_64", "--signing-key", key, "--out-dir", repository,
		"--cache-dir", filepath.Join(c.work, "cache")); err != nil {
		return err
	}
	signer, err := apk.LoadSigner(key)
	if err != nil {
		return err
	}
	tools := filepath.Join(c.work, "tools")
	if err := plainTools(tools, c.tools, signer); err != nil {
		return err
	}
	c.environment = []string{"--pipeline-dirs", filepath.Join(c.dir, "pipelines"), "-r", tools, "-r", repository, "-k", key + ".pub"}
	c.shared = slices.Concat(c.environment, []string{
		"--arch", "x86_64", "--signing-key", key, "--git-commit", strings.Repeat("0123456789", 4), "--lint-require=",
	})
	return nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// recipe writes the recipe with the place and the digest of its source filled in. Its first line may give flags.
func (c *comparison) recipe(name string) (file string, flags []string, err error) {
	text, err := os.ReadFile(filepath.Join(c.dir, "recipes", name+".yaml"))
	if err != nil {
		return "", nil, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if words, ok := strings.CutPrefix(first, "# flags: "); ok {
		flags = strings.Fields(words)
	}
	digest := ""
	if archive := filepath.Join(c.work, "sources", name+".tar.gz"); exists(archive) {
		if digest, err = fileDigest(archive); err != nil {
			return "", nil, err
		}
	}
	written := strings.NewReplacer("@SOURCES@", c.sources, "@SHA256@", digest).Replace(string(text))
	dir := filepath.Join(c.work, "recipes")
	file = filepath.Join(dir, name+".yaml")
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		return "", nil, err
	}
	if own := filepath.Join(c.dir, "recipes", name); exists(own) {
		os.RemoveAll(filepath.Join(dir, name))
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(own)); err != nil {
			return "", nil, err
		}
	}
	return file, flags, os.WriteFile(file, []byte(written), 0o644)
}

// compare builds a recipe twice and compares what comes of it, then what its tests come to. It returns how many packages
// and tests that is.
func (c *comparison) compare(ctx context.Context, name string) (packages, tests int, err error) {
	file, flags, err := c.recipe(name)
	if err != nil {
		return 0, 0, err
	}
	built := true
	for _, side := range []struct {
		builder, dir string
		flags        []string
	}{
		{c.peer, "theirs", []string{"--runner", "bubblewrap", "--generate-index=false", "--source-dir", filepath.Join(filepath.Dir(file), name),
			"--cache-dir", filepath.Join(c.work, "none"), "--apk-cache-dir", filepath.Join(c.work, "apk-cache")}},
		{c.ours, "ours", []string{"--cache-dir", filepath.Join(c.work, "cache")}},
	} {
		out := filepath.Join(c.work, side.dir, name)
		if err := os.RemoveAll(out); err != nil {
			return 0, 0, err
		}
		args := slices.Concat([]string{"build", file, "--out-dir", out}, c.shared, side.flags, flags)
		if err := c.command(ctx, side.builder, args...); err != nil {
			c.add(difference{pkg: name, what: "build", name: side.dir, theirs: err.Error()})
			built = false
		}
	}
	if !built {
		return 0, 0, ctx.Err()
	}
	theirs, err := readPackages(filepath.Join(c.work, "theirs", name, "x86_64"))
	if err != nil {
		return 0, 0, err
	}
	ours, err := readPackages(filepath.Join(c.work, "ours", name, "x86_64"))
	if err != nil {
		return 0, 0, err
	}
	for _, p := range slices.Sorted(maps.Keys(union(theirs, ours))) {
		for _, d := range differences(p, theirs[p], ours[p]) {
			c.add(d)
		}
	}
	if err := c.compareLint(ctx, name); err != nil {
		return 0, 0, err
	}
	tests, err = c.compareTests(ctx, name, file)
	fmt.Printf("%-20s %d packages, %d tests\n", name, len(ours), tests)
	return len(ours), tests, err
}

func (c *comparison) add(d difference) {
	class := classOf(d)
	c.found[class] = append(c.found[class], d)
}

// command runs a builder, whose error has what it said last.
func (c *comparison) command(ctx context.Context, name string, args ...string) error {
	out, err := c.output(ctx, name, args...)
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.Join(lines[max(0, len(lines)-12):], "\n"))
}

// output runs a builder and returns all that it says.
func (c *comparison) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = c.work
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "HOME="+c.work)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// report prints the differences by class. What is not known is an error.
func (c *comparison) report(w io.Writer, recipes, packages, tests int) error {
	unknown := 0
	for _, class := range slices.Sorted(maps.Keys(c.found)) {
		found := c.found[class]
		why, ok := known[class]
		if !ok {
			unknown += len(found)
			why = "NOT KNOWN"
		}
		fmt.Fprintf(w, "\n%s: %d: %s\n", class, len(found), why)
		for i, d := range found {
			if ok && i == 2 && !c.verbose {
				break
			}
			fmt.Fprintf(w, "  %s\n", d)
		}
	}
	slices.Sort(c.failing)
	fmt.Fprintf(w, "\n%d tests fail with both: %s\n", len(c.failing), strings.Join(c.failing, ", "))
	fmt.Fprintf(w, "\n%d recipes, %d packages, %d tests, %d findings of linters, %d classes of differences\n", recipes, packages, tests, c.findings, len(c.found))
	if unknown > 0 {
		return fmt.Errorf("%d differences that are not known", unknown)
	}
	return nil
}
