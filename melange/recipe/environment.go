package recipe

import (
	"cmp"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// EnvironmentSection is the environment: or test.environment: block, as written. The keys that concern images only are
// accepted and mean nothing here.
type EnvironmentSection struct {
	// Include names a file of the same form, relative to the recipe's folder. What stands here comes after it in lists
	// and wins in maps.
	Include  document.String
	Contents struct {
		BuildRepositories []document.String `yaml:"build_repositories"`
		Repositories      []document.String
		Keyring           []document.String
		Packages          []document.String

		RuntimeRepositories document.Node `yaml:"runtime_repositories"`
		RuntimeKeyring      document.Node `yaml:"runtime_keyring"`
		BaseImage           document.Node
	}
	Accounts    AccountsSection
	Environment document.Map[document.String]
	Sysroot     *SysrootSection

	// Network says that all steps may talk to the network, as a step's option does for one. Ours.
	Network document.String

	Entrypoint, Cmd, Archs, Paths, Annotations, Volumes, Layering, Certificates document.Node

	StopSignal document.Node `yaml:"stop-signal"`
	WorkDir    document.Node `yaml:"work-dir"`
	VCSURL     document.Node `yaml:"vcs-url"`
}

// SysrootSection makes a build a cross build: its packages are the target's and are not run. Ours.
type SysrootSection struct {
	Packages []document.String
	Libc     document.String // of the triplets; empty means musl
}

type AccountsSection struct {
	RunAs  document.String `yaml:"run-as"`
	Users  []UserSection
	Groups []GroupSection
}

type UserSection struct {
	Name  document.String `yaml:"username"`
	UID   uint32
	GID   *uint32
	Shell document.String
	Home  document.String `yaml:"homedir"`
}

type GroupSection struct {
	Name    document.String `yaml:"groupname"`
	GID     uint32
	Members []document.String
}

// SysrootDir is where a cross build finds the target's packages.
const SysrootDir = "/sysroot"

// Environment is the root that steps run in, as decided but not solved.
type Environment struct {
	Packages     []apk.Dependency // sorted, each once
	Repositories []string         // beyond those the builder was given
	Keyring      []string
	Env          map[string]string // for every step; PATH is the builder's
	Accounts     Accounts

	// Cross means that Packages are for the build machine's architecture, and that Sysroot, for the target's, is at
	// SysrootDir.
	Cross   bool
	Sysroot []apk.Dependency

	Written []Written `json:"-"` // Packages and Sysroot as they are wanted, for messages
}

// Place is where it is written that a package is wanted; no line when nobody but the builder wants it.
func (e Environment) Place(d apk.Dependency) document.Pos {
	i := slices.IndexFunc(e.Written, func(w Written) bool {
		written, err := apk.ParseDependency(w.Text)
		return err == nil && written.Name == d.Name
	})
	if i < 0 {
		return document.Pos{}
	}
	return e.Written[i].Pos
}

type Accounts struct {
	RunAs    string // a name or number, as written; empty means root
	UID, GID uint32 // what that is
	Users    []User
	Groups   []Group
}

type User struct {
	Name, Shell, Home string
	UID, GID          uint32
}

type Group struct {
	Name    string
	GID     uint32
	Members []string
}

// maxIncludes ends a circle of includes.
const maxIncludes = 10

// included merges a section over what it includes.
func (p *planner) included(s EnvironmentSection) EnvironmentSection {
	for range maxIncludes {
		if s.Include.Value == "" {
			return s
		}
		s = merged(p.include(s.Include), s)
	}
	p.errs.Add(s.Include.Pos, "", "%s includes itself, or too much is nested", s.Include.Value)
	return s
}

func (p *planner) include(name document.String) (s EnvironmentSection) {
	if p.options.Dir == nil {
		p.errs.Add(name.Pos, "", "including %s: the recipe has no folder", name.Value)
		return s
	}
	data, err := fs.ReadFile(p.options.Dir, name.Value)
	if err != nil {
		p.errs.Add(name.Pos, "", "including %s: %v", name.Value, err)
		return s
	}
	doc, err := document.Parse(name.Value, data)
	if err == nil {
		err = doc.Decode(&s)
	}
	p.errs.AddError(name.Pos, err)
	return s
}

// merged is own over base. The result includes what base includes.
func merged(base, own EnvironmentSection) EnvironmentSection {
	m := own
	m.Include = base.Include
	if own.Network.Value == "" {
		m.Network = base.Network
	}
	b, o := base.Contents, own.Contents
	m.Contents.BuildRepositories = slices.Concat(b.BuildRepositories, o.BuildRepositories)
	m.Contents.Repositories = slices.Concat(b.Repositories, o.Repositories)
	m.Contents.Keyring = slices.Concat(b.Keyring, o.Keyring)
	m.Contents.Packages = slices.Concat(b.Packages, o.Packages)
	m.Environment = slices.Concat(base.Environment, own.Environment) // the last one of a name counts
	if own.Accounts.RunAs.Value == "" {
		m.Accounts.RunAs = base.Accounts.RunAs
	}
	m.Accounts.Users = slices.Concat(base.Accounts.Users, own.Accounts.Users)
	m.Accounts.Groups = slices.Concat(base.Accounts.Groups, own.Accounts.Groups)
	switch {
	case own.Sysroot == nil:
		m.Sysroot = base.Sysroot
	case base.Sysroot != nil:
		libc := own.Sysroot.Libc
		if libc.Value == "" {
			libc = base.Sysroot.Libc
		}
		m.Sysroot = &SysrootSection{Packages: slices.Concat(base.Sysroot.Packages, own.Sysroot.Packages), Libc: libc}
	}
	return m
}

// Written is a dependency with its place, not yet read.
type Written struct {
	Text string
	Pos  document.Pos
}

// draft is an environment to which steps still add what they need, and what is wanted in it so far.
type draft struct {
	Environment
	world []Written
}

func (p *planner) want(texts []document.String, in *scope) []Written {
	list := make([]Written, 0, len(texts))
	for _, t := range texts {
		if text, ok := p.try(t, in); ok && text != "" {
			list = append(list, Written{text, t.Pos})
		}
	}
	return list
}

func (p *planner) buildEnvironment(s EnvironmentSection) draft {
	d := p.environment(s, p.base)
	p.set(d.Env, s.Environment, p.base)
	d.world = append(d.world, p.want(p.added, p.base)...)
	d.world = slices.DeleteFunc(d.world, func(w Written) bool { return p.removed[w.Text] })
	if s.Sysroot != nil {
		d.Cross = true
		sysroot := p.want(s.Sysroot.Packages, p.base)
		d.Sysroot, d.Written = p.world(sysroot), sysroot
		d.Env["CROSS_SYSROOT"] = SysrootDir
	}
	return d
}

// set puts variables into an environment.
func (p *planner) set(env map[string]string, variables document.Map[document.String], in *scope) {
	for _, v := range variables {
		if name := v.Key.Value; name == "" || strings.ContainsAny(name, "= \t\n\x00") {
			p.errs.Add(v.Key.Pos, "", "%q cannot be the name of a variable of the environment", name)
		}
	}
	p.merge(env, variables, in)
}

// environment decides all but the variables that the section itself sets.
func (p *planner) environment(s EnvironmentSection, in *scope) draft {
	d := draft{world: p.want(s.Contents.Packages, in)}
	d.Repositories = p.all(slices.Concat(s.Contents.BuildRepositories, s.Contents.Repositories), in)
	d.Keyring = p.all(s.Contents.Keyring, in)
	d.Accounts = p.accounts(s.Accounts, in)
	d.Env = map[string]string{
		"HOME":               Workspace,
		"GOPATH":             Workspace + "/.cache/go",
		"GOMODCACHE":         CacheDir + "/gomodcache",
		"UV_CACHE_DIR":       CacheDir + "/uv",
		"PIP_CACHE_DIR":      CacheDir + "/pip",
		"COMPOSER_CACHE_DIR": CacheDir + "/composer",
		"npm_config_cache":   CacheDir + "/npm",
	}
	for _, f := range slices.Backward(p.options.EnvFiles) {
		vars, err := parseEnv(f)
		p.errs.AddError(document.Pos{File: f.Name}, err)
		maps.Copy(d.Env, vars)
	}
	return d
}

// finish adds what the steps need. Where none of them is a script there is nobody who could use it.
func (p *planner) finish(d draft, needs []Written, steps []Step) Environment {
	if slices.ContainsFunc(steps, func(s Step) bool { return s.Script != "" }) {
		d.world = append(d.world, needs...)
	}
	d.Packages = p.world(d.world)
	d.Written = append(d.Written, d.world...)
	return d.Environment
}

// world reads dependencies, sorted, each once.
func (p *planner) world(list []Written) []apk.Dependency {
	if len(list) == 0 {
		return nil
	}
	deps := make([]apk.Dependency, 0, len(list))
	slices.SortStableFunc(list, func(a, b Written) int { return cmp.Compare(a.Text, b.Text) })
	for i, w := range list {
		if i > 0 && list[i-1].Text == w.Text {
			continue
		}
		if d, ok := p.dependency(w); ok {
			deps = append(deps, d)
		}
	}
	return deps
}

func (p *planner) dependency(w Written) (apk.Dependency, bool) {
	d, err := apk.ParseDependency(w.Text)
	switch {
	case err != nil:
		p.errs.Add(w.Pos, "", "%v", err)
	case !d.Valid():
		p.errs.Add(w.Pos, "", "%q is not a dependency", w.Text)
	default:
		return d, true
	}
	return d, false
}

// The account that steps run as when the recipe names none.
const (
	buildUser = "build"
	buildID   = 1000
)

func (p *planner) accounts(s AccountsSection, in *scope) Accounts {
	a := Accounts{RunAs: p.expand(s.RunAs, in)}
	for _, u := range s.Users {
		user := User{Name: p.expand(u.Name, in), UID: u.UID, GID: u.UID, Shell: p.expand(u.Shell, in), Home: p.expand(u.Home, in)}
		if u.GID != nil {
			user.GID = *u.GID
		}
		a.Users = append(a.Users, user)
	}
	for _, g := range s.Groups {
		a.Groups = append(a.Groups, Group{Name: p.expand(g.Name, in), GID: g.GID, Members: p.all(g.Members, in)})
	}
	if !slices.ContainsFunc(a.Users, func(u User) bool { return u.Name == buildUser }) {
		a.Users = append(a.Users, User{Name: buildUser, UID: buildID, GID: buildID, Shell: "/bin/sh", Home: Workspace})
	}
	if !slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Name == buildUser }) {
		a.Groups = append(a.Groups, Group{Name: buildUser, GID: buildID, Members: []string{buildUser}})
	}
	a.UID, a.GID = p.runAs(s.RunAs, a)
	return a
}

// runAs finds the account that steps run as: root, one of the recipe's, or any number, with the group of the account
// that has it. What accounts the packages bring is not known before they are chosen.
func (p *planner) runAs(t document.String, a Accounts) (uid, gid uint32) {
	names := []string{"root"}
	for _, u := range a.Users {
		if a.RunAs == u.Name || a.RunAs == strconv.FormatUint(uint64(u.UID), 10) {
			return u.UID, u.GID
		}
		names = append(names, u.Name)
	}
	n, err := strconv.ParseUint(a.RunAs, 10, 32)
	switch {
	case a.RunAs == "" || a.RunAs == "root":
		return 0, 0
	case err == nil:
		return uint32(n), uint32(n)
	}
	p.errs.Add(t.Pos, document.DidYouMean(a.RunAs, names), "no account %q to run as: name one of accounts.users, root, or a number", a.RunAs)
	return 0, 0
}

// test decides how a package is tried out; there may be no test.
func (p *planner) test(s subject, build EnvironmentSection) (Test, bool) {
	if s.test == nil || len(s.test.Pipeline) == 0 {
		return Test{}, false
	}
	section := p.included(s.test.Environment)
	d := p.environment(section, s.scope)
	if build.Sysroot == nil {
		// A cross build's variables name tools that the packages are never tried out with.
		p.set(d.Env, build.Environment, p.base)
	}
	p.set(d.Env, section.Environment, s.scope)
	run := p.steps(s.test.Pipeline, s, p.online(section), p.options.Arch) // a test runs what was built
	d.world = append(d.world, Written{s.name, s.pos})
	return Test{Output: s.name, Environment: p.finish(d, run.needs, run.steps), Sources: run.sources, Steps: run.steps, Nodes: run.nodes}, true
}
