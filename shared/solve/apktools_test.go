package solve

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

var apkTools = flag.String("apk-tools", "", "`directory` of the source of apk-tools, or of its solver tests, to run these as well")

// TestAPKTools runs the solver tests of apk-tools, which are not part of this
// project, if told where they are:
//
//	go test -run TestAPKTools ./solve -apk-tools DIR
//
// Every rule that they exercise also has a story in testdata/stories.txt.
func TestAPKTools(t *testing.T) {
	if *apkTools == "" {
		return
	}
	files, err := filepath.Glob(filepath.Join(*apkTools, "test/solver/*.test"))
	if len(files) == 0 {
		files, err = filepath.Glob(filepath.Join(*apkTools, "*.test"))
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s", *apkTools)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test"), func(t *testing.T) {
			c, err := readCase(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.run()
			switch {
			case err != nil && !c.refused:
				t.Errorf("%s\nrefused, apk does\n%s\n%v", c.args, strings.Join(c.want, "\n"), err)
			case err == nil && c.refused:
				t.Errorf("%s\napk refuses, got\n%s", c.args, strings.Join(got, "\n"))
			case err == nil && !slices.Equal(got, c.want):
				t.Errorf("%s\ngot\n%s\napk does\n%s", c.args, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if err != nil {
				t.Log(err)
			}
		})
	}
	t.Logf("%d tests", len(files))
}

// A case is one test of apk-tools: a command line, what it finds, what it does.
type solverCase struct {
	args         []string
	repositories []Repository
	installed    []*apk.Package
	tags         map[string]string
	world        []apk.Dependency
	want         []string
	refused      bool

	options Options
	flags   []string
	virtual string
	names   []string
}

func readCase(file string) (*solverCase, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &solverCase{}
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "@ARGS":
			c.args = append(c.args, strings.Fields(rest)...)
		case word == "@WORLD":
			c.world, err = parseWorld(strings.Fields(rest)...)
		case word == "@INSTALLED":
			c.installed, c.tags, err = readIndexFile(filepath.Join(filepath.Dir(file), rest))
		case word == "@REPO":
			err = c.addRepository(filepath.Dir(file), rest, slices.Contains(c.args, "--no-network"))
		case word == "@CACHE":
			err = c.addRepository(filepath.Dir(file), rest, false)
		case strings.HasPrefix(line, "("):
			c.want = append(c.want, strings.TrimSpace(line))
		case word == "ERROR:":
			c.refused = true
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return c, nil
}

func (c *solverCase) addRepository(dir, spec string, unavailable bool) error {
	tag, file, tagged := strings.Cut(spec, " ")
	if !tagged {
		tag, file = "", spec
	}
	packages, _, err := readIndexFile(filepath.Join(dir, file))
	c.repositories = append(c.repositories, Repository{
		Name: file, Tag: strings.TrimPrefix(tag, "@"), Index: &apk.Index{Packages: packages},
		Unavailable: unavailable,
	})
	return err
}

func readIndexFile(file string) ([]*apk.Package, map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return readIndex(f)
}

// run does what the command line says, and prints it as apk does.
func (c *solverCase) run() ([]string, error) {
	changes, err := c.changes()
	return verbs(changes), err
}

func (c *solverCase) changes() ([]Change, error) {
	command := ""
	var flags []string
	for i := 0; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case a == "-t" || a == "--preupgrade-depends":
			flags = append(flags, a+" "+c.args[i+1])
			i++
		case strings.HasPrefix(a, "-"):
			flags = append(flags, a)
		case command == "":
			command = a
		default:
			c.names = append(c.names, a)
		}
	}
	c.flags = flags
	c.options = Options{Installed: c.installed, Tags: c.tags, Marks: map[string]Mark{}, DropBroken: c.has("--force-broken-world")}
	switch command {
	case "add":
		return c.add()
	case "del":
		return c.del()
	case "fix":
		return c.fix()
	case "upgrade":
		if c.has("--self-upgrade-only") || c.has("--preupgrade-only") {
			return c.preupgrade()
		}
		return c.upgrade()
	}
	return nil, fmt.Errorf("unknown command %q", command)
}

func (c *solverCase) has(flag string) bool { return slices.Contains(c.flags, flag) }

func (c *solverCase) solve(flags Flags) ([]Change, error) {
	c.options.Flags = flags
	s, err := Compile(c.repositories, "x86_64").Solve(c.world, c.options)
	if err != nil {
		return nil, err
	}
	return s.Changes, nil
}

func (c *solverCase) add() ([]Change, error) {
	var m Mark
	if c.has("--upgrade") {
		m.Flags |= Upgrade
	}
	if c.has("--latest") {
		m.Flags |= Latest
	}
	m.Inherit = m.Flags
	named, err := parseWorld(c.names...)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.flags, func(f string) bool { return strings.HasPrefix(f, "-t ") })
	if i >= 0 {
		if named, err = c.addVirtual(strings.TrimPrefix(c.flags[i], "-t "), named); err != nil {
			return nil, err
		}
	}
	for _, d := range named {
		c.world = setWorld(c.world, d)
		c.options.Marks[d.Name] = m
	}
	return c.solve(0)
}

// addVirtual makes a package that is not in any repository.
func (c *solverCase) addVirtual(spec string, depends []apk.Dependency) ([]apk.Dependency, error) {
	v, err := apk.ParseDependency(spec)
	if err != nil {
		return nil, err
	}
	if v.Op != apk.Equal || !v.Version.Valid() {
		return nil, fmt.Errorf("%s: bad package specifier", spec)
	}
	for _, d := range depends {
		if d.Tag != "" {
			return nil, fmt.Errorf("%s: not a dependency of a package", d)
		}
	}
	c.repositories = append(c.repositories, Repository{Index: &apk.Index{Packages: []*apk.Package{
		{Name: v.Name, Version: v.Version, Depends: depends},
	}}})
	return []apk.Dependency{v}, nil
}

func (c *solverCase) del() ([]Change, error) {
	for _, n := range c.names {
		c.world = slices.DeleteFunc(c.world, func(d apk.Dependency) bool { return d.Name == n })
		if slices.ContainsFunc(c.installed, func(p *apk.Package) bool { return p.Name == n }) {
			c.options.Marks[n] = Mark{Flags: Remove}
		}
	}
	return c.solve(0)
}

func (c *solverCase) fix() ([]Change, error) {
	m := Mark{Flags: Reinstall}
	if c.has("--upgrade") {
		m.Flags = Upgrade
	}
	if c.has("--depends") {
		m.Inherit = m.Flags
	}
	for _, n := range c.names {
		c.options.Marks[n] = m
	}
	return c.solve(0)
}

func (c *solverCase) upgrade() ([]Change, error) {
	flags := Upgrade
	if c.has("-a") {
		flags |= Available
	}
	if c.has("--latest") {
		flags |= Latest
	}
	if c.has("--prune") {
		c.world = slices.DeleteFunc(c.world, func(d apk.Dependency) bool {
			d.Op, d.Version = apk.Any, ""
			return len(Compile(c.repositories, "x86_64").Providers(d)) == 0
		})
	}
	for _, n := range c.names {
		if c.has("--ignore") {
			c.options.Marks[n] = Mark{Flags: KeepInstalled}
		} else {
			flags &^= Upgrade
			c.options.Marks[n] = Mark{Flags: Upgrade}
		}
	}
	return c.solve(flags)
}

func (c *solverCase) preupgrade() ([]Change, error) {
	words := []string{"apk-tools"}
	for _, f := range c.flags {
		if w, ok := strings.CutPrefix(f, "--preupgrade-depends "); ok {
			words = append(words, w)
		}
	}
	wanted, err := parseWorld(words...)
	if err != nil {
		return nil, err
	}
	for _, d := range wanted {
		i := slices.IndexFunc(c.installed, func(p *apk.Package) bool { return p.Name == d.Name })
		if i < 0 || !c.installed[i].Satisfies(d) {
			continue
		}
		newer := apk.Dependency{Name: d.Name, Op: apk.Greater, Version: c.installed[i].Version}
		if len(Compile(c.repositories, "x86_64").Providers(newer)) > 0 {
			c.options.Marks[d.Name] = Mark{Flags: Upgrade}
		}
	}
	if len(c.options.Marks) == 0 {
		return nil, nil
	}
	c.options.Cautious = true
	return c.solve(0)
}
