package recipe

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strconv"

	"distro.internal/shared/apk"
)

// digestVersion names the way plans are written into digests. It changes when equal recipes must be built anew, which is
// when the golden test says so.
const digestVersion = "plan/1"

// Digests tell by content what a change to a recipe touches. They are SHA-256 in hex. The content of the local files is
// not in them; that of the recipe's includes and pipelines is, as far as the plan uses it. Positions, comments, update:,
// resources and time limits are not.
type Digests struct {
	Build   string // what the files in the packages depend on
	Package string // the packages' metadata
	Test    string // how the packages are tried out
}

// Digests works out the plan's digests.
func (p *Plan) Digests() Digests {
	d := newDigester()
	part := func(add func(*digester)) string {
		d.add("version", digestVersion)
		d.add("name", p.Name)
		d.add("arch", string(p.Arch))
		add(d)
		return d.sum()
	}
	return Digests{Build: part(p.addBuild), Package: part(p.addMetadata), Test: part(p.addTests)}
}

func (p *Plan) addTests(d *digester) {
	for _, t := range p.Tests {
		d.add("test", t.Output)
		d.environment(t.Environment)
		d.run(t.Sources, t.Steps)
	}
	d.list("capabilities", append(slices.Clone(p.Capabilities.Add), p.Capabilities.Drop...))
}

func (p *Plan) addBuild(d *digester) {
	d.add("build arch", string(p.BuildArch))
	d.environment(p.Environment)
	d.list("capabilities added", p.Capabilities.Add)
	d.list("capabilities dropped", p.Capabilities.Drop)
	d.run(p.Sources, p.Steps)
	for _, o := range p.Outputs {
		d.add("output", o.Name)
		for _, c := range o.Setcap {
			d.add("setcap path", c.Path)
			d.add("setcap value", c.Value)
		}
	}
	d.list("local files", p.LocalFiles)
}

func (p *Plan) addMetadata(d *digester) {
	d.add("full version", string(p.FullVersion()))
	d.add("cpe", p.CPE)
	for _, o := range p.Outputs {
		d.add("output", o.Name)
		d.add("description", o.Description)
		d.add("url", o.URL)
		d.pairs("annotations", o.Annotations)
		for _, l := range o.Licenses {
			d.list("license", append([]string{l.License, l.Attestation, l.Path, l.DetectionOverride}, l.Paths...))
		}
		d.list("depends", slices.Sorted(slices.Values(o.Depends)))
		d.list("provides", slices.Sorted(slices.Values(o.Provides)))
		d.list("replaces", slices.Sorted(slices.Values(o.Replaces)))
		d.add("provider priority", o.ProviderPriority)
		d.add("replaces priority", o.ReplacesPriority)
		d.flag("no provides", o.Options.NoProvides)
		d.flag("no depends", o.Options.NoDepends)
		d.flag("no commands", o.Options.NoCommands)
		d.flag("no versioned libraries", o.Options.NoVersionedShlibDeps)
		d.pairs("scriptlets", o.Scriptlets)
		d.list("triggers", o.Triggers)
		d.list("disabled checks", slices.Sorted(slices.Values(o.DisabledChecks)))
	}
}

// digester writes named values with their lengths, so that no two different plans write the same bytes.
type digester struct {
	hash    hash.Hash
	written []byte // and not hashed yet
	keys    []string
}

// digestAtOnce is how much is gathered: values are short, and a hash likes long ones.
const digestAtOnce = 2048

func newDigester() *digester {
	return &digester{hash: sha256.New(), written: make([]byte, 0, digestAtOnce)}
}

// sum is the digest of what was written since the last one.
func (d *digester) sum() string {
	d.flush()
	sum := hex.EncodeToString(d.hash.Sum(nil))
	d.hash.Reset()
	return sum
}

func (d *digester) flush() {
	d.hash.Write(d.written)
	d.written = d.written[:0]
}

func (d *digester) write(s string) {
	if len(d.written)+8 > cap(d.written) {
		d.flush()
	}
	d.written = binary.BigEndian.AppendUint64(d.written, uint64(len(s)))
	for {
		n := min(len(s), cap(d.written)-len(d.written))
		d.written = append(d.written, s[:n]...)
		if s = s[n:]; s == "" {
			return
		}
		d.flush()
	}
}

func (d *digester) add(name, value string) {
	d.write(name)
	d.write(value)
}

func (d *digester) flag(name string, value bool) { d.add(name, strconv.FormatBool(value)) }

func (d *digester) number(name string, value int) { d.add(name, strconv.Itoa(value)) }

func (d *digester) list(name string, values []string) {
	d.number(name, len(values))
	for _, v := range values {
		d.write(v)
	}
}

func (d *digester) pairs(name string, m map[string]string) {
	d.number(name, len(m))
	d.keys = slices.AppendSeq(d.keys[:0], maps.Keys(m))
	slices.Sort(d.keys)
	for _, k := range d.keys {
		d.add(k, m[k])
	}
}

func (d *digester) world(name string, deps []apk.Dependency) {
	d.number(name, len(deps))
	for _, dep := range deps {
		d.write(dep.String())
	}
}

func (d *digester) environment(e Environment) {
	d.world("packages", e.Packages)
	d.list("repositories", e.Repositories)
	d.list("keyring", e.Keyring)
	d.pairs("env", e.Env)
	d.flag("cross", e.Cross)
	d.world("sysroot", e.Sysroot)
	d.add("run as", e.Accounts.RunAs)
	if a := e.Accounts; a.UID != 0 || a.GID != 0 {
		d.list("run as ids", []string{strconv.Itoa(int(a.UID)), strconv.Itoa(int(a.GID))})
	}
	for _, u := range e.Accounts.Users {
		d.list("user", []string{u.Name, u.Shell, u.Home, strconv.Itoa(int(u.UID)), strconv.Itoa(int(u.GID))})
	}
	for _, g := range e.Accounts.Groups {
		d.list("group", append([]string{g.Name, strconv.Itoa(int(g.GID))}, g.Members...))
	}
}

func (d *digester) run(sources []Source, steps []Step) {
	for _, s := range sources {
		d.source(s)
	}
	for _, s := range steps {
		d.step(s)
	}
}

// step: names are for people; where a step stands does not matter either.
func (d *digester) step(s Step) {
	switch {
	case s.Module != nil:
		d.module(*s.Module)
	case s.Check != nil:
		d.add("check", s.Check.Name)
		d.pairs("with", s.Check.With)
	default:
		d.add("script", s.Script)
	}
	d.add("dir", s.Dir)
	d.pairs("env", s.Env)
	d.flag("network", s.Network)
}

// Digest tells steps that do the same from others.
func (s Step) Digest() string { return digestOf(func(d *digester) { d.step(s) }) }

// Digest tells sources that yield the same from others.
func (s Source) Digest() string { return digestOf(func(d *digester) { d.source(s) }) }

// Digest covers all but what the packages are solved to.
func (e Environment) Digest() string { return digestOf(func(d *digester) { d.environment(e) }) }

func digestOf(write func(*digester)) string {
	d := newDigester()
	write(d)
	return d.sum()
}

func (d *digester) module(m Module) {
	d.add("module", m.Identity)
	d.pairs("with", m.With)
}

// checkoutVersion is that of what a git source puts into a workspace. It changes when the same source would give other
// bytes: it is in no key of a recipe without such a source.
const checkoutVersion = 3 // 2: there is a .git; 3: the tags of a branch are in it, and attributes count

func (d *digester) source(s Source) {
	d.add("source", s.Kind)
	d.add("directory", s.Directory)
	d.list("digests", []string{s.SHA256, s.SHA512, s.Commit, s.Sum})
	// With a digest, where the bytes come from does not matter, but the file's name is the end of the URI.
	d.add("uri", s.URI)
	d.list("version", []string{s.Module, s.Version, s.Branch, s.Tag})
	d.number("strip", s.Strip)
	d.flag("extract", s.Extract)
	d.flag("delete", s.Delete)
	d.flag("tip", s.Tip)
	d.flag("submodules", s.Submodules)
	d.number("depth", s.Depth)
	if s.Kind == SourceGit {
		d.number("checkout", checkoutVersion)
	}
	d.list("sparse paths", s.SparsePaths)
	for _, c := range s.CherryPicks {
		d.list("cherry-pick", []string{c.Branch, c.Commit, c.Comment})
	}
	if s.Changes() {
		d.list("modules", s.Deps)
		d.list("replaced modules", s.Replaces)
		d.flag("tidy", s.Tidy)
	}
	if s.Kind == SourceGoMod && s.Found {
		d.flag("found", true)
	}
	if s.Lock != "" || s.Arch != "" {
		d.list("lock", []string{s.Lock, string(s.Arch), strconv.FormatBool(s.Found)})
	}
}
