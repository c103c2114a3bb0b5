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

	"distro.internal/melange/compat"
	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
)

// difference is one place where the two disagree. What there is on one side only is empty on the other.
type difference struct {
	recipe string // with the architecture
	where  string // the package, and whether it is its test
	what   string // which of its properties
	name   string // of the step, the variable, the input ... that differs

	ours, theirs string
	used         []string // pipelines of theirs, where an environment differs
	idle         bool     // and that nothing of ours runs in it
}

func (d difference) String() string {
	return fmt.Sprintf("%s: %s: %s %s: %.200q, theirs %.200q", d.recipe, d.where, d.what, d.name, d.ours, d.theirs)
}

// comparison collects the differences of all recipes.
type comparison struct {
	builtin func(pipeline string) bool // it is ours, and the folder of recipes has no other of its name

	recipes, equal int
	at             difference           // what is the same for those that are found next
	build          [2]map[string]string // variables of the build, ours and theirs: tests have them too
	found          []difference
}

func (c *comparison) differ(what, name, ours, theirs string) {
	d := c.at
	d.what, d.name, d.ours, d.theirs = what, name, ours, theirs
	c.found = append(c.found, d)
}

func (c *comparison) value(what, name, ours, theirs string) {
	if ours != theirs {
		c.differ(what, name, ours, theirs)
	}
}

// same compares values of any kind as JSON.
func (c *comparison) same(what string, ours, theirs any) {
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	c.value(what, "", text(ours), text(theirs))
}

// set compares lists of which neither order nor number matters: each name on its own.
func (c *comparison) set(what string, ours, theirs []string) {
	for _, name := range union(ours, theirs) {
		in := func(list []string) string {
			if slices.Contains(list, name) {
				return name
			}
			return ""
		}
		c.value(what, name, in(ours), in(theirs))
	}
}

func union(lists ...[]string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(lists...))))
}

func (c *comparison) texts(what string, ours, theirs map[string]string) {
	for _, name := range union(slices.Collect(maps.Keys(ours)), slices.Collect(maps.Keys(theirs))) {
		c.value(what, name, ours[name], theirs[name])
	}
}

// recipe compares a recipe's plan with what the peer made of it.
func (c *comparison) recipe(arch apk.Arch, o outcome, peer compiled) {
	before := len(c.found)
	c.recipes++
	c.at = difference{recipe: o.file + " for " + string(arch), where: o.name()}
	switch {
	case o.err != nil && peer.config == nil:
		// Neither has it, be it for the architecture or for a mistake.
	case o.err != nil:
		c.differ("refused", "", o.err.Error(), "")
	case peer.config == nil:
		c.differ("refused", "", "", peer.reason)
	default:
		c.configuration(compat.Of(o.plan), peer.config)
	}
	if len(c.found) == before {
		c.equal++
	}
}

func (c *comparison) configuration(ours, theirs *compat.Configuration) {
	c.value("name and version", "", version(ours), version(theirs))
	c.origin(&ours.Package, &theirs.Package)
	var steps, others []compat.Step
	steps, others = append(steps, ours.Pipeline...), append(others, theirs.Pipeline...)
	for _, s := range ours.Subpackages {
		steps = append(steps, s.Pipeline...)
	}
	for _, s := range theirs.Subpackages {
		others = append(others, s.Pipeline...)
	}
	c.at.used, c.at.idle = used(live(others)), !runs(steps)
	c.environment(ours.Environment, theirs.Environment)
	c.texts("environment variable", ours.Environment.Environment, theirs.Environment.Environment)
	c.same("capabilities", ours.Capabilities, theirs.Capabilities)
	c.steps(ours.Pipeline, live(theirs.Pipeline), surroundings{}, surroundings{})
	c.build = [2]map[string]string{ours.Environment.Environment, theirs.Environment.Environment}
	c.test(ours.Test, theirs.Test)
	c.subpackages(ours, theirs)
}

func version(c *compat.Configuration) string {
	return fmt.Sprintf("%s %s-r%d", c.Package.Name, c.Package.Version, c.Package.Epoch)
}

func (c *comparison) origin(ours, theirs *compat.Package) {
	c.value("description", "", words(ours.Description), words(theirs.Description))
	c.value("url", "", words(ours.URL), words(theirs.URL))
	c.value("commit", "", ours.Commit, theirs.Commit)
	c.texts("annotation", ours.Annotations, theirs.Annotations)
	c.same("copyright", ours.Copyright, theirs.Copyright)
	c.dependencies(ours.Dependencies, theirs.Dependencies)
	c.same("options", ours.Options, theirs.Options)
	c.scriptlets(ours.Scriptlets, theirs.Scriptlets)
	c.same("checks", ours.Checks, theirs.Checks)
	c.same("cpe", ours.CPE, theirs.CPE)
	c.same("setcap", ours.Setcap, theirs.Setcap)
	c.same("timeout", ours.Timeout, theirs.Timeout)
	c.same("resources", ours.Resources, theirs.Resources)
	c.same("test resources", ours.TestResources, theirs.TestResources)
}

// words is a text in which only the words matter.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

func (c *comparison) subpackages(ours, theirs *compat.Configuration) {
	rest := slices.Clone(theirs.Subpackages)
	for _, s := range ours.Subpackages {
		i := slices.IndexFunc(rest, func(t compat.Subpackage) bool { return t.Name == s.Name })
		if i < 0 {
			c.differ("subpackage", s.Name, "there", "")
			continue
		}
		if i > 0 && rest[0].If == "" {
			c.differ("order of subpackages", "", s.Name, rest[0].Name)
		}
		c.at.where = s.Name
		c.subpackage(&s, &rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
	for _, s := range rest {
		c.differ("subpackage", s.Name, "", cmp.Or(s.If, "there"))
	}
}

func (c *comparison) subpackage(ours, theirs *compat.Subpackage) {
	c.value("description", "", words(ours.Description), words(theirs.Description))
	c.value("url", "", words(ours.URL), words(theirs.URL))
	c.value("commit", "", ours.Commit, theirs.Commit)
	c.texts("annotation", ours.Annotations, theirs.Annotations)
	c.dependencies(ours.Dependencies, theirs.Dependencies)
	c.same("options", ours.Options, theirs.Options)
	c.scriptlets(ours.Scriptlets, theirs.Scriptlets)
	c.same("checks", ours.Checks, theirs.Checks)
	c.same("setcap", ours.Setcap, theirs.Setcap)
	c.steps(ours.Pipeline, live(theirs.Pipeline), surroundings{}, surroundings{})
	c.test(ours.Test, theirs.Test)
}

func (c *comparison) dependencies(ours, theirs compat.Dependencies) {
	c.set("runtime dependency", ours.Runtime, theirs.Runtime)
	c.set("provided name", ours.Provides, theirs.Provides)
	c.set("replaced name", ours.Replaces, theirs.Replaces)
	c.value("provider priority", "", ours.ProviderPriority, theirs.ProviderPriority)
	c.value("replaces priority", "", ours.ReplacesPriority, theirs.ReplacesPriority)
}

func (c *comparison) scriptlets(ours, theirs *compat.Scriptlets) {
	none := &compat.Scriptlets{}
	ours, theirs = cmp.Or(ours, none), cmp.Or(theirs, none)
	c.set("trigger", ours.Trigger.Paths, theirs.Trigger.Paths)
	scripts := func(s *compat.Scriptlets) map[string]string {
		return map[string]string{
			"pre-install": s.PreInstall, "post-install": s.PostInstall, "pre-deinstall": s.PreDeinstall,
			"post-deinstall": s.PostDeinstall, "pre-upgrade": s.PreUpgrade, "post-upgrade": s.PostUpgrade,
			"trigger": s.Trigger.Script,
		}
	}
	c.texts("scriptlet", scripts(ours), scripts(theirs))
}

// environment compares environments without their variables.
func (c *comparison) environment(ours, theirs compat.Environment) {
	c.set("environment package", ours.Contents.Packages, normal(theirs.Contents.Packages))
	repositories := func(c compat.Contents) []string { return slices.Concat(c.BuildRepositories, c.Repositories) }
	c.set("repository", repositories(ours.Contents), repositories(theirs.Contents))
	c.set("key", ours.Contents.Keyring, theirs.Contents.Keyring)
	c.same("accounts", ours.Accounts, theirs.Accounts)
}

// normal spells dependencies as apk does.
func normal(list []string) []string {
	var spelled []string
	for _, text := range list {
		if d, err := apk.ParseDependency(text); err == nil {
			text = d.String()
		}
		spelled = append(spelled, text)
	}
	return spelled
}

// used lists the pipelines that steps use, deep down.
func used(steps []compat.Step) []string {
	var names []string
	for _, s := range steps {
		if s.Uses != "" {
			names = append(names, s.Uses)
		}
		names = append(names, used(s.Pipeline)...)
	}
	return union(names)
}

// runs says whether one of the steps runs a script, deep down.
func runs(steps []compat.Step) bool {
	return slices.ContainsFunc(steps, func(s compat.Step) bool { return s.Runs != "" || runs(s.Pipeline) })
}

// test compares tests. One without steps is none.
func (c *comparison) test(ours, theirs *compat.Test) {
	at := c.at.where
	defer func() { c.at.where = at }()
	c.at.where += " test"
	if theirs != nil && len(theirs.Pipeline) == 0 {
		theirs = nil
	}
	if ours == nil || theirs == nil {
		c.value("test", "", there(ours != nil), there(theirs != nil))
		return
	}
	c.at.used, c.at.idle = used(live(theirs.Pipeline)), !runs(ours.Pipeline)
	c.environment(ours.Environment, theirs.Environment)
	c.texts("environment variable", over(c.build[0], ours.Environment.Environment), over(c.build[1], theirs.Environment.Environment))
	c.steps(ours.Pipeline, live(theirs.Pipeline), surroundings{}, surroundings{})
}

// over is what two maps hold together, the second where both have a name.
func over(base, own map[string]string) map[string]string {
	m := maps.Clone(base)
	maps.Copy(m, own)
	return m
}

func there(is bool) string {
	if is {
		return "there"
	}
	return ""
}

// surroundings is what a step has from those around it.
type surroundings struct {
	dir  string
	vars map[string]string
}

func (s surroundings) enter(step compat.Step) surroundings {
	inner := surroundings{cmp.Or(step.WorkDir, s.dir), s.vars}
	if len(step.Environment) > 0 {
		inner.vars = maps.Clone(s.vars)
		if inner.vars == nil {
			inner.vars = map[string]string{}
		}
		maps.Copy(inner.vars, step.Environment)
	}
	return inner
}

// folder is where the step runs.
func (s surroundings) folder() string {
	if path.IsAbs(s.dir) {
		return path.Clean(s.dir)
	}
	return path.Join(recipe.Workspace, s.dir)
}

// steps compares pipelines step by step, as far as they go together.
func (c *comparison) steps(ours, theirs []compat.Step, around, others surroundings) {
	for i := range max(len(ours), len(theirs)) {
		switch {
		case i >= len(ours):
			c.differ("step", title(theirs[i]), "", "there")
		case i >= len(theirs):
			c.differ("step", title(ours[i]), "there", "")
		case ours[i].Uses != theirs[i].Uses:
			c.differ("step", "", title(ours[i]), title(theirs[i]))
			return
		default:
			c.step(ours[i], theirs[i], around.enter(ours[i]), others.enter(theirs[i]))
		}
	}
}

func title(s compat.Step) string { return cmp.Or(s.Uses, s.Name, words(s.Runs), "of others") }

// step compares what two steps are given and what they run. Of pipelines that both bring along only the former: they are
// written anew on purpose.
func (c *comparison) step(ours, theirs compat.Step, in, other surroundings) {
	c.value("name of a step", "", ours.Name, theirs.Name)
	c.texts("input of "+ours.Uses, ours.With, theirs.With)
	if ours.Uses != "" && c.builtin(ours.Uses) {
		return
	}
	if ours.Runs != "" || theirs.Runs != "" {
		c.value("folder of a step", title(theirs), in.folder(), other.folder())
		c.texts("variable of a step", in.vars, other.vars)
	}
	c.value("script", title(theirs), strings.TrimSpace(ours.Runs), strings.TrimSpace(theirs.Runs))
	c.steps(ours.Pipeline, theirs.Pipeline, in, other)
}

// live leaves out the steps that the peer prints and will not run, and those that have nothing to run.
func live(steps []compat.Step) []compat.Step {
	var list []compat.Step
	for _, s := range steps {
		if !holds(s.If) {
			continue
		}
		s.Pipeline = live(s.Pipeline)
		if s.Uses != "" || s.Pipeline != nil || strings.TrimSpace(s.Runs) != "" {
			list = append(list, s)
		}
	}
	return list
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

// builtin says whether a pipeline is ours and the surveyed folder has no other of its name.
func (s *survey) builtin(name string) bool {
	if _, err := os.Stat(filepath.Join(s.dir, "pipelines", name+".yaml")); err == nil {
		return false
	}
	_, err := fs.Stat(pipelines.Files, name+".yaml")
	return err == nil
}

// report counts the differences by class. The error says that some are of a class that nobody explained.
func (c *comparison) report(w io.Writer, examples int) error {
	byClass := map[string][]difference{}
	for _, d := range c.found {
		class := classOf(d)
		byClass[class] = append(byClass[class], d)
	}
	fmt.Fprintf(w, "\ncompared %d with the peer: %d without a difference, %d differences in %d classes\n",
		c.recipes, c.equal, len(c.found), len(byClass))
	var unknown []string
	for _, class := range slices.Sorted(maps.Keys(byClass)) {
		list := byClass[class]
		reason, ok := known[class]
		if !ok {
			unknown, reason = append(unknown, class), "nobody knows why"
		}
		fmt.Fprintf(w, "%6d  %s: %s\n", len(list), class, reason)
		if !ok {
			examples = max(examples, 3)
		}
		for _, d := range list[:min(examples, len(list))] {
			fmt.Fprintf(w, "          %s\n", d)
		}
	}
	if len(unknown) > 0 {
		return errors.New("there are unknown differences: " + strings.Join(unknown, ", "))
	}
	return nil
}
