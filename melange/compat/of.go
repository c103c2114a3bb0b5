package compat

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
)

// Of is a plan in the other's form.
func Of(p *recipe.Plan) *Configuration {
	origin := p.Outputs[0]
	c := &Configuration{
		Package: Package{
			Name:         p.Name,
			Version:      string(p.Version),
			Epoch:        p.Epoch,
			Description:  origin.Description,
			Annotations:  origin.Annotations,
			URL:          origin.URL,
			Commit:       origin.Commit,
			Copyright:    copyright(origin.Licenses),
			Dependencies: dependencies(origin),
			Options:      options(origin.Options),
			Scriptlets:   scriptlets(origin),
			Checks:       Checks{origin.DisabledChecks},
			CPE:          cpe(p.CPE),
			Setcap:       setcap(origin.Setcap),
			Timeout:      p.Timeout,
			Resources:    resources(p.Resources),
		},
		Environment:  environment(p.Environment, nil),
		Capabilities: Capabilities{p.Capabilities.Add, p.Capabilities.Drop},
		Pipeline:     steps(origin.Nodes, nil, false),
		Test:         test(p, origin.Name),
	}
	if p.TestResources != (recipe.Resources{}) {
		r := resources(p.TestResources)
		c.Package.TestResources = &r
	}
	for _, o := range p.Outputs[1:] {
		c.Subpackages = append(c.Subpackages, subpackage(p, o))
	}
	return c
}

func subpackage(p *recipe.Plan, o recipe.Output) Subpackage {
	return Subpackage{
		Name:         o.Name,
		Pipeline:     steps(o.Nodes, nil, false),
		Dependencies: dependencies(o),
		Options:      options(o.Options),
		Scriptlets:   scriptlets(o),
		Description:  o.Description,
		Annotations:  o.Annotations,
		URL:          o.URL,
		Commit:       o.Commit,
		Checks:       Checks{o.DisabledChecks},
		Test:         test(p, o.Name),
		Setcap:       setcap(o.Setcap),
	}
}

// test is printed without those variables that it has in common with the build: the other adds them when it runs it.
func test(p *recipe.Plan, output string) *Test {
	i := slices.IndexFunc(p.Tests, func(t recipe.Test) bool { return t.Output == output })
	if i < 0 {
		return nil
	}
	t := p.Tests[i]
	return &Test{Environment: environment(t.Environment, p.Environment.Env), Pipeline: steps(t.Nodes, nil, false)}
}

// steps prints nodes. Below a pipeline that is used the other prints only what is set at a step itself, elsewhere also
// the variables from further out.
func steps(nodes []recipe.Node, around map[string]string, used bool) []Step {
	var list []Step
	for _, n := range nodes {
		s := Step{Name: n.Name, Uses: n.Uses, With: n.With, WorkDir: n.Dir, Environment: n.Env}
		if used {
			s.Environment = without(n.Env, around)
		}
		for _, step := range n.Steps {
			s.Runs += Layout(step.Script)
		}
		s.Pipeline = steps(n.Nodes, n.Env, used || n.Uses != "")
		if s.Uses != "" || s.Runs != "" || s.Pipeline != nil {
			list = append(list, s)
		}
	}
	return list
}

// without is what is in a map and not the same in another.
func without(m, other map[string]string) map[string]string {
	rest := map[string]string{}
	for k, v := range m {
		if o, ok := other[k]; !ok || o != v {
			rest[k] = v
		}
	}
	return rest
}

// Layout is a script as the other prints it: one statement a line, in one style, with no comment but a first line that
// names an interpreter. What is not the shell's language is left as it is.
func Layout(script string) string {
	var b strings.Builder
	if first, _, more := strings.Cut(script, "\n"); more && strings.HasPrefix(first, "#!") {
		b.WriteString(first + "\n")
	}
	printer := syntax.NewPrinter()
	for statement, err := range syntax.NewParser(syntax.KeepComments(false)).StmtsSeq(strings.NewReader(script)) {
		if err == nil {
			err = printer.Print(&b, statement)
		}
		if err != nil {
			return script
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func environment(e recipe.Environment, known map[string]string) Environment {
	return Environment{
		Contents:    Contents{Repositories: e.Repositories, Keyring: e.Keyring, Packages: names(e.Packages)},
		Accounts:    accounts(e.Accounts),
		Environment: without(e.Env, known),
	}
}

func names(world []apk.Dependency) []string {
	var list []string
	for _, d := range world {
		list = append(list, d.String())
	}
	return list
}

// accounts leaves out the home and the shell of the account that is there in each environment: the other adds them later.
func accounts(a recipe.Accounts) Accounts {
	c := Accounts{RunAs: a.RunAs}
	for _, u := range a.Users {
		user := User{u.Name, u.UID, u.GID, u.Shell, u.Home}
		if user == (User{"build", 1000, 1000, "/bin/sh", recipe.Workspace}) {
			user.Shell, user.Home = "", ""
		}
		c.Users = append(c.Users, user)
	}
	for _, g := range a.Groups {
		c.Groups = append(c.Groups, Group(g))
	}
	return c
}

func copyright(list []recipe.License) []Copyright {
	var c []Copyright
	for _, l := range list {
		c = append(c, Copyright{l.Paths, l.Attestation, l.License, l.Path, l.DetectionOverride})
	}
	return c
}

func dependencies(o recipe.Output) Dependencies {
	return Dependencies{o.Depends, o.Provides, o.Replaces, o.ProviderPriority, o.ReplacesPriority}
}

func options(o recipe.PackageOptions) *Options {
	if o == (recipe.PackageOptions{}) {
		return nil
	}
	c := Options(o)
	return &c
}

func scriptlets(o recipe.Output) *Scriptlets {
	if len(o.Scriptlets) == 0 && len(o.Triggers) == 0 {
		return nil
	}
	return &Scriptlets{
		Trigger:       Trigger{o.Scriptlets[".trigger"], o.Triggers},
		PreInstall:    o.Scriptlets[".pre-install"],
		PostInstall:   o.Scriptlets[".post-install"],
		PreDeinstall:  o.Scriptlets[".pre-deinstall"],
		PostDeinstall: o.Scriptlets[".post-deinstall"],
		PreUpgrade:    o.Scriptlets[".pre-upgrade"],
		PostUpgrade:   o.Scriptlets[".post-upgrade"],
	}
}

// cpe takes a formatted string of CPE 2.3 apart: cpe:2.3:part:vendor:product:version:update:edition:language:sw_edition:
// target_sw:target_hw:other.
func cpe(text string) CPE {
	parts := strings.Split(text, ":")
	if len(parts) != 13 {
		return CPE{}
	}
	for i := range parts {
		parts[i] = strings.TrimPrefix(parts[i], "*")
	}
	return CPE{
		Part: strings.TrimPrefix(parts[2], "a"), Vendor: parts[3], Product: parts[4], Edition: parts[7], Language: parts[8],
		SWEdition: parts[9], TargetSW: parts[10], TargetHW: parts[11], Other: parts[12],
	}
}

func setcap(list []recipe.FileCapability) []Setcap {
	var c []Setcap
	for _, f := range list {
		c = append(c, Setcap{Path: path.Join("/", f.Path), Add: f.Grants(), Reason: f.Reason})
	}
	return c
}

func resources(r recipe.Resources) Resources {
	c := Resources{CPUModel: r.CPUModel, Memory: size(r.Memory), Disk: size(r.Disk)}
	if r.CPU != 0 {
		c.CPU = strconv.FormatFloat(r.CPU, 'f', -1, 64)
	}
	return c
}

// size is a number of bytes in the largest unit that leaves a whole number.
func size(n int64) string {
	if n == 0 {
		return ""
	}
	unit := 0
	for n%1024 == 0 && unit < 4 {
		n /= 1024
		unit++
	}
	return strconv.FormatInt(n, 10) + []string{"", "Ki", "Mi", "Gi", "Ti"}[unit]
}
