package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
)

// compiled is what the peer writes, as far as it is compared.
type compiled struct {
	Package struct {
		Name, Version, Description, URL string
		Epoch                           uint64
		Dependencies                    compiledDependencies
		Scriptlets                      *compiledScriptlets
	}
	Environment compiledEnvironment
	Pipeline    []compiledStep
	Subpackages []struct {
		If, Name, Description, URL string
		Dependencies               compiledDependencies
		Scriptlets                 *compiledScriptlets
		Pipeline                   []compiledStep
		Test                       *compiledTest
	}
	Test *compiledTest
}

type compiledTest struct {
	Environment compiledEnvironment
	Pipeline    []compiledStep
}

type compiledEnvironment struct {
	Contents    struct{ Packages []string }
	Environment map[string]string
}

type compiledDependencies struct {
	Runtime, Provides, Replaces []string
	ProviderPriority            string `json:"provider-priority"`
	ReplacesPriority            string `json:"replaces-priority"`
}

type compiledScriptlets struct {
	PreInstall    string `json:"pre-install"`
	PostInstall   string `json:"post-install"`
	PreDeinstall  string `json:"pre-deinstall"`
	PostDeinstall string `json:"post-deinstall"`
	PreUpgrade    string `json:"pre-upgrade"`
	PostUpgrade   string `json:"post-upgrade"`
	Trigger       struct {
		Script string
		Paths  []string
	}
}

type compiledStep struct {
	Name, Uses, If, Runs string
	With                 map[string]string
	Pipeline             []compiledStep
	WorkDir              string `json:"working-directory"`
	Environment          map[string]string
}

// difference is one place where the two disagree. The text starts with the file's name.
type difference struct{ kind, text string }

func (s *survey) compare(w io.Writer, outcomes []outcome) error {
	byKind := map[string][]difference{}
	compared, equal := 0, 0
	for _, o := range outcomes {
		if o.plan == nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.peer, strings.TrimSuffix(o.file, ".yaml")+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var peer compiled
		if err := json.Unmarshal(data, &peer); err != nil {
			return fmt.Errorf("reading the peer's %s: %w", o.file, err)
		}
		c := comparison{file: o.file, dir: s.dir}
		c.plans(o.plan, &peer)
		compared++
		if len(c.found) == 0 {
			equal++
		}
		for _, d := range c.found {
			byKind[d.kind] = append(byKind[d.kind], d)
		}
	}
	fmt.Fprintf(w, "compared %d with the peer: %d are equal\n", compared, equal)
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		fmt.Fprintf(w, "%5d  %s\n", len(byKind[kind]), kind)
		for _, d := range byKind[kind][:min(s.examples, len(byKind[kind]))] {
			fmt.Fprintf(w, "         %s\n", d.text)
		}
	}
	return nil
}

// comparison is of one recipe.
type comparison struct {
	file, dir string
	found     []difference
}

func (c *comparison) differ(kind, format string, args ...any) {
	c.found = append(c.found, difference{kind, c.file + ": " + fmt.Sprintf(format, args...)})
}

func (c *comparison) equal(kind, what, ours, theirs string) {
	if ours != theirs {
		c.differ(kind, "%s: %q, peer %q", what, ours, theirs)
	}
}

func (c *comparison) plans(p *recipe.Plan, peer *compiled) {
	c.equal("name and version", "origin", fmt.Sprintf("%s %s %d", p.Name, p.Version, p.Epoch),
		fmt.Sprintf("%s %s %d", peer.Package.Name, peer.Package.Version, peer.Package.Epoch))
	c.output(p.Outputs[0], peer.Package.Description, peer.Package.URL, peer.Package.Dependencies, peer.Package.Scriptlets)

	steps := peer.Pipeline
	names := []string{p.Name}
	for _, s := range peer.Subpackages {
		names = append(names, s.Name)
		steps = append(steps, s.Pipeline...)
	}
	var own []string
	for _, o := range p.Outputs {
		own = append(own, o.Name)
	}
	c.equal("packages", "outputs", strings.Join(own, " "), strings.Join(names, " "))
	if !slices.Equal(own, names) {
		return
	}
	for i, s := range peer.Subpackages {
		c.output(p.Outputs[i+1], s.Description, s.URL, s.Dependencies, s.Scriptlets)
	}
	c.unexpanded(p)
	c.run("build", p.Steps, p.Sources, steps)
	c.environment("build", p.Environment, peer.Environment, steps)
	c.tests(p, peer)
}

// unexpanded finds references that planning left in scripts.
func (c *comparison) unexpanded(p *recipe.Plan) {
	steps := slices.Clone(p.Steps)
	for _, t := range p.Tests {
		steps = append(steps, t.Steps...)
	}
	for _, s := range steps {
		if _, text, found := strings.Cut(s.Script, "${{"); found {
			c.differ("a reference is left", "%.60q", text)
		}
	}
}

func (c *comparison) tests(p *recipe.Plan, peer *compiled) {
	theirs := map[string]*compiledTest{p.Name: peer.Test}
	for _, s := range peer.Subpackages {
		theirs[s.Name] = s.Test
	}
	for _, t := range p.Tests {
		other := theirs[t.Output]
		if other == nil {
			c.differ("tests", "%s: the peer has no test", t.Output)
			continue
		}
		c.run("test", t.Steps, t.Sources, other.Pipeline)
		c.environment("test", t.Environment, other.Environment, other.Pipeline)
		delete(theirs, t.Output)
	}
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		if t := theirs[name]; t != nil && len(t.Pipeline) > 0 {
			c.differ("tests", "%s: only the peer has a test", name)
		}
	}
}

func (c *comparison) output(o recipe.Output, description, url string, deps compiledDependencies, scripts *compiledScriptlets) {
	c.equal("description", o.Name, o.Description, strings.Join(strings.Fields(description), " "))
	c.equal("url", o.Name, o.URL, url)
	for _, list := range []struct {
		kind         string
		ours, theirs []string
	}{
		{"runtime", o.Depends, deps.Runtime}, {"provides", o.Provides, deps.Provides}, {"replaces", o.Replaces, deps.Replaces},
	} {
		c.equal(list.kind, o.Name, set(list.ours), set(list.theirs))
	}
	c.equal("priorities", o.Name, o.ProviderPriority+" "+o.ReplacesPriority, deps.ProviderPriority+" "+deps.ReplacesPriority)
	if scripts == nil {
		scripts = &compiledScriptlets{}
	}
	for name, text := range map[string]string{
		".pre-install": scripts.PreInstall, ".post-install": scripts.PostInstall, ".pre-deinstall": scripts.PreDeinstall,
		".post-deinstall": scripts.PostDeinstall, ".pre-upgrade": scripts.PreUpgrade, ".post-upgrade": scripts.PostUpgrade,
		".trigger": scripts.Trigger.Script,
	} {
		c.equal("scriptlets", o.Name+name, o.Scriptlets[name], text)
	}
	c.equal("triggers", o.Name, set(o.Triggers), set(scripts.Trigger.Paths))
}

func set(list []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), " ")
}

func (c *comparison) environment(what string, e recipe.Environment, peer compiledEnvironment, steps []compiledStep) {
	ours := map[string]bool{}
	for _, d := range e.Packages {
		ours[d.String()] = true
	}
	theirs := map[string]bool{}
	for _, name := range peer.Contents.Packages {
		if d, err := apk.ParseDependency(name); err == nil {
			name = d.String()
		}
		if theirs[name] {
			continue
		}
		theirs[name] = true
		if !ours[name] {
			c.differ(what+" environment: only the peer has "+name, "used: %s", used(steps))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if !theirs[name] {
			c.differ(what+" environment: only ours has a package", "%s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(peer.Environment)) {
		if e.Env[name] != peer.Environment[name] {
			c.differ(what+" environment variable", "%s=%q, peer %q", name, e.Env[name], peer.Environment[name])
		}
	}
}

// used lists the pipelines that steps use.
func used(steps []compiledStep) string {
	names := map[string]bool{}
	var walk func([]compiledStep)
	walk = func(steps []compiledStep) {
		for _, s := range steps {
			if s.Uses != "" {
				names[s.Uses] = true
			}
			walk(s.Pipeline)
		}
	}
	walk(steps)
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

// run compares what is executed. Built-in pipelines are compared by name: their scripts differ by intention.
func (c *comparison) run(what string, steps []recipe.Step, sources []recipe.Source, peer []compiledStep) {
	f := flattened{builtin: c.builtin}
	for _, s := range peer {
		f.step(s, "", nil)
	}
	c.inputs(what, steps, f.inputs)
	c.items(what+" sources", own(sources), f.sources)
	c.items(what+" steps", c.scripts(steps), f.scripts)
}

// inputs looks for what was given to a built-in pipeline in the scripts that became of it.
func (c *comparison) inputs(what string, steps []recipe.Step, given []input) {
	scripts := map[string]string{}
	for _, s := range steps {
		for name := range strings.SplitSeq(s.Uses, " > ") {
			scripts[name] += s.Script
		}
	}
	for _, in := range given {
		for line := range strings.Lines(in.value) {
			if line = strings.TrimSpace(line); !strings.Contains(scripts[in.uses], line) {
				c.differ(what+" inputs: not in the script", "%s: %s=%q", in.uses, in.name, line)
			}
		}
	}
}

// input is what a peer's step gives to a pipeline.
type input struct{ uses, name, value string }

func (c *comparison) items(kind string, ours, theirs []string) {
	for i := range max(len(ours), len(theirs)) {
		switch {
		case i >= len(ours):
			c.differ(kind+": missing", "peer %.200q", theirs[i])
			return
		case i >= len(theirs):
			c.differ(kind+": surplus", "%.200q", ours[i])
			return
		case ours[i] != theirs[i]:
			at := 0
			for at < min(len(ours[i]), len(theirs[i])) && ours[i][at] == theirs[i][at] {
				at++
			}
			at = max(0, at-30)
			c.differ(kind+": other", "%.120q, peer %.120q", ours[i][at:], theirs[i][at:])
			return
		}
	}
}

// builtin says whether a pipeline is ours and the surveyed folder has no other of its name.
func (c *comparison) builtin(name string) bool {
	if _, err := os.Stat(filepath.Join(c.dir, "pipelines", name+".yaml")); err == nil {
		return false
	}
	_, err := fs.Stat(pipelines.Files, name+".yaml")
	return err == nil
}

func own(sources []recipe.Source) []string {
	var list []string
	for _, s := range sources {
		if s.Kind == recipe.SourceFetch || s.Kind == recipe.SourceGit {
			list = append(list, strings.Join([]string{s.URI, s.SHA256, s.SHA512, s.Commit, s.Tag, s.Branch}, " "))
		}
	}
	return list
}

// scripts gives the recipe's own steps and those of its pipelines as text, and each use of a built-in one as its name.
func (c *comparison) scripts(steps []recipe.Step) []string {
	var list []string
	for _, s := range steps {
		text := "run in " + s.Dir + env(s.Env) + "\n" + normal(s.Script)
		for name := range strings.SplitSeq(s.Uses, " > ") {
			if c.builtin(name) {
				text = "use " + name
				break
			}
		}
		if strings.HasPrefix(text, "run") && emptyScript(s.Script) {
			continue
		}
		if text == "use fetch" || text == "use git-checkout" {
			continue // the copy of a source that goes elsewhere
		}
		if len(list) == 0 || list[len(list)-1] != text || strings.HasPrefix(text, "run") {
			list = append(list, text)
		}
	}
	return list
}

func env(m map[string]string) string {
	text := ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		text += " " + k + "=" + m[k]
	}
	return text
}

// normal is a script as the peer prints it: without comments, in one layout.
func normal(script string) string {
	file, err := syntax.NewParser(syntax.KeepComments(false)).Parse(strings.NewReader(script), "")
	if err != nil {
		return script
	}
	var b strings.Builder
	if err := syntax.NewPrinter().Print(&b, file); err != nil {
		return script
	}
	return strings.TrimSpace(blankLines.ReplaceAllString(b.String(), "\n"))
}

var blankLines = regexp.MustCompile(`\n\s*\n`)

func emptyScript(script string) bool { return normal(script) == "" }

// flattened is the peer's tree of steps as lists.
type flattened struct {
	builtin          func(string) bool
	sources, scripts []string
	inputs           []input
}

func (f *flattened) step(s compiledStep, dir string, vars map[string]string) {
	if !holds(s.If) {
		return
	}
	dir = cmp.Or(s.WorkDir, dir)
	if len(s.Environment) > 0 {
		vars = maps.Clone(vars)
		if vars == nil {
			vars = map[string]string{}
		}
		maps.Copy(vars, s.Environment)
	}
	if s.Uses != "" && f.builtin(s.Uses) {
		f.use(s)
		return
	}
	if normal(s.Runs) != "" {
		where := path.Join(recipe.Workspace, dir)
		if path.IsAbs(dir) {
			where = path.Clean(dir)
		}
		f.scripts = append(f.scripts, "run in "+where+env(vars)+"\n"+normal(s.Runs))
	}
	for _, child := range s.Pipeline {
		f.step(child, dir, vars)
	}
}

func (f *flattened) use(s compiledStep) {
	w := s.With
	switch s.Uses {
	case "fetch":
		f.sources = append(f.sources, strings.Join([]string{w["uri"], w["expected-sha256"], w["expected-sha512"], "", "", ""}, " "))
	case "git-checkout":
		f.sources = append(f.sources, strings.Join([]string{w["repository"], "", "", w["expected-commit"], w["tag"], w["branch"]}, " "))
	default:
		for _, name := range slices.Sorted(maps.Keys(w)) {
			f.inputs = append(f.inputs, input{s.Uses, name, w[name]})
		}
		if text := "use " + s.Uses; len(f.scripts) == 0 || f.scripts[len(f.scripts)-1] != text {
			f.scripts = append(f.scripts, text)
		}
	}
}

var atom = regexp.MustCompile(`^\s*("[^"]*"|'[^']*')\s*(==|!=)\s*("[^"]*"|'[^']*')\s*$`)

// holds evaluates a compiled condition: comparisons of quoted texts.
func holds(text string) bool {
	if text == "" {
		return true
	}
	for any := range strings.SplitSeq(text, "||") {
		all := true
		for comparison := range strings.SplitSeq(any, "&&") {
			m := atom.FindStringSubmatch(comparison)
			all = all && m != nil && (m[1][1:len(m[1])-1] == m[3][1:len(m[3])-1]) == (m[2] == "==")
		}
		if all {
			return true
		}
	}
	return false
}
