package recipe

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// Guest paths, the same for every build.
const (
	Workspace = "/home/build"              // where steps start
	OutputDir = Workspace + "/melange-out" // one folder per package below it
	CacheDir  = "/var/cache/melange"       // language package managers' caches
)

// ErrArchitecture means that the recipe says it is not for the architecture asked for.
var ErrArchitecture = errors.New("not for this architecture")

// PlanOptions is what a plan depends on besides the recipe.
type PlanOptions struct {
	Arch      apk.Arch // of the packages
	BuildArch apk.Arch // of the machine that runs the steps; empty means Arch

	Pipelines []fs.FS  // where uses: looks, in order, the built-in ones last
	Library   *Library // in place of Pipelines: remembers what it has read, for many plans
	Dir       fs.FS    // the folder of the recipe: includes, and the files in <name>/; nil means there are none
	Local     fs.FS    // the recipe's own files, in place of those in <name>/

	Options   []string // build options to switch on
	EnvFiles  []File   // KEY=value lines; the recipe's own values win, then the first file's
	VarsFiles []File   // YAML maps of variables; they win over the recipe's vars, the last file most
	Libc      string   // libc part of the native triplets: "gnu" (the default) or "musl"
	Commit    string   // of the recipe, for packages that name none
	Epoch     uint64   // of the packages, where the recipe's own is less

	// CheckShell also reads each script as a shell would, to find what it would stumble over. It takes longer than all the
	// rest of planning.
	CheckShell bool

	// AllowUnpinned accepts sources without a digest or commit. What they yield may change without notice.
	AllowUnpinned bool

	// Network is whose steps may talk to the network.
	Network Network
}

// File is a file's name, for messages, and its content.
type File struct {
	Name string
	Data []byte
}

// Plan is what a recipe means for one architecture. It is complete and is not changed after it was made.
type Plan struct {
	File string `json:"-"` // of the recipe, for messages

	Name            string
	Version         apk.Version // without the epoch
	Epoch           uint64
	Arch, BuildArch apk.Arch

	Environment Environment
	Sources     []Source // in order; all of them are in place before the first step
	Steps       []Step   // in order; those of the origin first
	Outputs     []Output // the origin, then the subpackages
	Tests       []Test
	LocalFiles  []string // files beside the recipe that go to the workspace, relative to LocalDir, sorted
	LocalDir    string   // the folder that holds them, relative to the recipe's; empty when there is none

	// Warnings are mistakes in texts for people, which then stay as written.
	Warnings document.ErrorList

	Capabilities  CapabilitySet // for the processes of steps and tests
	CPE           string        // the origin's name in vulnerability databases; empty when not given
	Timeout       time.Duration // of the whole build; 0 means no limit of its own
	Resources     Resources
	TestResources Resources
}

// FullVersion is the version with the epoch: 1.2.3-r4.
func (p *Plan) FullVersion() apk.Version {
	return apk.Version(fmt.Sprintf("%s-r%d", p.Version, p.Epoch))
}

// Test tries out one output in an environment of its own.
type Test struct {
	Output      string // the package under test; it is in Environment.Packages
	Environment Environment
	Sources     []Source
	Steps       []Step
	Nodes       []Node `json:"-"` // what the steps and sources came of
}

// Targets says whether the recipe is for an architecture, which it may spell as apk or as Go and OCI do; "all" is any.
func (r *Recipe) Targets(arch apk.Arch) bool {
	if len(r.Package.TargetArchitecture) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Package.TargetArchitecture, func(s document.String) bool {
		a, err := apk.ParseArch(s.Value)
		return s.Value == "all" || s.Value == string(arch) || err == nil && a == arch
	})
}

// Plan decides everything for one architecture. The error is ErrArchitecture, or a document.ErrorList with all mistakes.
func (r *Recipe) Plan(o PlanOptions) (*Plan, error) {
	if !r.Targets(o.Arch) {
		return nil, fmt.Errorf("planning %s for %s: %w", r.Package.Name.Value, o.Arch, ErrArchitecture)
	}
	o.BuildArch = cmp.Or(o.BuildArch, o.Arch)
	if o.Library == nil {
		o.Library = NewLibrary(o.Pipelines...)
	}
	p := &planner{recipe: r, options: o}
	p.File = r.File
	p.plan()
	if err := p.errs.Err(); err != nil {
		return nil, err
	}
	p.Warnings = p.warnings
	return &p.Plan, nil
}

func newPlanner(r *Recipe, o PlanOptions) *planner {
	o.BuildArch = cmp.Or(o.BuildArch, o.Arch)
	if o.Library == nil {
		o.Library = NewLibrary(o.Pipelines...)
	}
	return &planner{recipe: r, options: o}
}

// planner is the state of one call of Recipe.Plan.
type planner struct {
	expander
	Plan
	recipe  *Recipe
	options PlanOptions

	root     *scope // names that mean the same in the whole recipe, as first defined
	base     *scope // root with the var-transforms on top
	packages []subject
	removed  map[string]bool // environment packages that a build option takes away
	added    []document.String
	aside    int // sources that go outside of the workspace, so far
}

// A subject is one package of the recipe: the origin or an instance of a subpackage.
type subject struct {
	name     string
	pos      document.Pos
	scope    *scope
	pipeline []PipelineStep
	test     *TestSection
	written  *Subpackage // the origin has the same fields
}

func (p *planner) plan() {
	env := p.included(p.recipe.Environment)
	p.define(env)
	p.header()
	p.subjects()
	p.localFiles()
	p.root.set("build.npm-lock", strconv.FormatBool(slices.ContainsFunc(NPMLocks, func(name string) bool {
		return slices.Contains(p.LocalFiles, name)
	})))

	build, online, runner := p.buildEnvironment(env), p.online(env), p.options.Arch
	if build.Cross {
		runner = p.options.BuildArch
	}
	var needs []Written
	p.Outputs = make([]Output, 0, len(p.packages))
	for _, s := range p.packages {
		run := p.steps(s.pipeline, s, online, runner)
		p.onlyTests(run.steps)
		p.Sources = append(p.Sources, run.sources...)
		p.Steps = append(p.Steps, run.steps...)
		needs = append(needs, run.needs...)
		output := p.output(s)
		output.Nodes = run.nodes
		p.Outputs = append(p.Outputs, output)
		if t, ok := p.test(s, env); ok {
			p.Tests = append(p.Tests, t)
		}
	}
	p.Environment = p.finish(build, needs, p.Steps)
}

// header decides the plan's own fields.
func (p *planner) header() {
	r := p.recipe
	p.Arch, p.BuildArch = p.options.Arch, p.options.BuildArch
	p.Name = p.expand(r.Package.Name, p.base)
	p.Version = apk.Version(p.expand(r.Package.Version, p.base))
	p.Epoch = p.epoch()
	switch _, release, released := strings.Cut(string(p.Version), "-r"); {
	case !p.Version.Valid() && p.Version != "":
		p.errs.Add(r.Package.Version.Pos, "", "%q is not a version", p.Version)
	case released:
		p.errs.Add(r.Package.Version.Pos, "write epoch: "+release, "%q ends in the number of a release", p.Version)
	}
	p.Capabilities = CapabilitySet{Add: p.capabilities(r.Capabilities.Add), Drop: p.capabilities(r.Capabilities.Drop)}
	p.CPE = p.cpe(r.Package.CPE)
	p.Resources = p.resources(r.Package.Resources)
	p.TestResources = p.resources(r.Package.TestResources)
	if t := r.Package.Timeout; t.Value != "" {
		d, err := time.ParseDuration(p.expand(t, p.base))
		if err != nil {
			p.errs.Add(t.Pos, `write it like "90m"`, "%q is not a duration", t.Value)
		}
		p.Timeout = d
	}
}

// epoch is the number that the packages' versions end in: 1.2.3-rN.
func (p *planner) epoch() uint64 { return max(p.recipe.Package.Epoch, p.options.Epoch) }

// define makes the names of the whole recipe.
func (p *planner) define(env EnvironmentSection) {
	r := p.recipe
	p.root = child(nil)
	p.machines(env)
	p.root.set("targets.outdir", OutputDir)
	p.root.set("package.srcdir", Workspace)
	p.root.set("package.epoch", strconv.FormatUint(p.epoch(), 10))
	p.root.define("package.name", r.Package.Name)
	p.root.define("package.version", r.Package.Version)
	p.root.define("package.description", r.Package.Description)
	p.root.define("package.full-version", document.Text("${{package.version}}-r${{package.epoch}}"))
	p.root.define("targets.destdir", document.Text(outputDir("${{package.name}}")))
	p.variables()
	p.transforms()
	for _, d := range p.root.names {
		d.in = p.base
	}
	p.force()
}

// force works out all variables, so that a mistake in one is found though nothing uses it.
func (p *planner) force() {
	for _, v := range p.recipe.Vars {
		p.value("vars."+v.Key.Value, p.base, document.String{}, 0)
	}
	for _, t := range p.recipe.VarTransforms {
		p.value("vars."+t.To.Value, p.base, document.String{}, 0)
	}
}

func outputDir(name string) string { return OutputDir + "/" + name }

// variables defines vars.* and options.*, the options that are switched on in the order in which they were asked for.
func (p *planner) variables() {
	r := p.recipe
	for _, v := range r.Vars {
		p.root.define("vars."+v.Key.Value, v.Value)
	}
	for _, o := range r.Options {
		on := slices.Contains(p.options.Options, o.Key.Value)
		p.root.set("options."+o.Key.Value+".enabled", strconv.FormatBool(on))
	}
	p.removed = map[string]bool{}
	for _, name := range p.options.Options {
		// An option is asked of many recipes at once; those that do not have it are not meant.
		o, ok := r.Options.Lookup(name)
		if !ok {
			continue
		}
		for _, v := range o.Vars {
			p.root.define("vars."+v.Key.Value, v.Value)
		}
		p.added = append(p.added, o.Environment.Contents.Packages.Add...)
		for _, name := range o.Environment.Contents.Packages.Remove {
			p.removed[name.Value] = true
		}
	}
	for _, f := range p.options.VarsFiles {
		p.varsFile(f)
	}
}

// varsFile defines variables from a YAML map.
func (p *planner) varsFile(f File) {
	var vars document.Map[document.String]
	doc, err := document.Parse(f.Name, f.Data)
	if err == nil {
		err = doc.Decode(&vars)
	}
	p.errs.AddError(document.Pos{File: f.Name}, err)
	for _, v := range vars {
		p.root.define("vars."+v.Key.Value, v.Value)
	}
}

// transforms defines the variables made from others. Each has a scope of its own that knows the transforms before it, so
// that a variable may be made from its own older value; all other definitions see the last one.
func (p *planner) transforms() {
	p.base = p.root
	for _, t := range p.recipe.VarTransforms {
		match, err := regexp.Compile(t.Match.Value)
		if err != nil {
			p.errs.Add(t.Match.Pos, "", "%v", regexpMistake(err))
			continue
		}
		before := p.base
		p.base = child(before)
		name := "vars." + t.To.Value
		p.base.names[name] = &definition{name: name, text: &t.From, in: before, match: match, replace: &t.Replace}
	}
}

func regexpMistake(err error) string {
	return "not a regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}
