// Package recipe knows the language of build recipes: what a file says ([Recipe], as written, with positions) and what it
// means for one architecture ([Plan], as decided).
//
// Parse reads; [Recipe.Plan] decides. Planning is a function of the recipe and its options: every ${{...}}, if, range,
// option and uses is settled in it, and nothing in a plan is left to look up. A recipe is never changed by planning, so
// one may be planned for many architectures, at once. The package refuses to know how anything is fetched, built or
// solved.
package recipe

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// Recipe is a file as it was written.
type Recipe struct {
	File string `yaml:"-"`

	Package       Package
	Environment   EnvironmentSection
	Capabilities  Capabilities
	Pipeline      []PipelineStep
	Subpackages   []Subpackage
	Data          []Data
	Vars          document.Map[document.String]
	VarTransforms []VarTransform `yaml:"var-transforms"`
	Options       document.Map[BuildOption]
	Update        Update
	Test          *TestSection
}

// Package is the origin: the package that names the recipe.
type Package struct {
	Pos                document.Pos
	Name               document.String
	Version            document.String
	Epoch              uint64
	Description        document.String
	Annotations        document.Map[document.String]
	URL                document.String
	Commit             document.String
	TargetArchitecture []document.String `yaml:"target-architecture"`
	Copyright          []Copyright
	Dependencies       Dependencies
	Options            PackageOptions
	Scriptlets         ScriptletsSection
	Checks             Checks
	CPE                CPE
	Setcap             []SetcapSection
	Timeout            document.String
	Resources          ResourcesSection
	TestResources      ResourcesSection `yaml:"test-resources"`
}

// FullVersion is the version with the epoch, as it is written: 1.2.3-r4.
func (p Package) FullVersion() string { return fmt.Sprintf("%s-r%d", p.Version.Value, p.Epoch) }

// Subpackage is a further package made from the same build.
type Subpackage struct {
	Pos          document.Pos
	If           document.String
	Range        document.String
	Name         document.String
	Pipeline     []PipelineStep
	Dependencies Dependencies
	Options      PackageOptions
	Scriptlets   ScriptletsSection
	Description  document.String
	Annotations  document.Map[document.String]
	URL          document.String
	Commit       document.String
	Checks       Checks
	Test         *TestSection
	Setcap       []SetcapSection
}

// PipelineStep is a node of a pipeline, in a recipe or in a pipeline file.
type PipelineStep struct {
	Pos              document.Pos
	If               document.String
	Name             document.String
	Uses             document.String
	With             document.Map[document.String]
	Runs             document.String
	Pipeline         []PipelineStep
	Inputs           document.Map[Input]
	Needs            Needs
	Label            document.String
	Assertions       Assertions
	WorkingDirectory document.String `yaml:"working-directory"`
	Environment      document.Map[document.String]

	// Wasm is a portable step: the name of a built-in program, or a file that begins with ./ and lies in the folder of the
	// recipe's own files, or beside the pipeline file. With holds its arguments. Ours.
	Wasm document.String
	// Check is a step of a test that looks at the finished package, see CheckNames; With holds its particulars. Ours.
	Check document.String
	// Source says that the node is not a program but a thing to be there before the first step: "fetch", "git", "gomod"
	// or "module". With holds its particulars. Ours.
	Source document.String
	// Options are switches for the step and all below it. "network": it may talk to the network. Ours.
	Options []document.String
}

// Input is a parameter of a pipeline file.
type Input struct {
	Description string
	Default     document.String
	Required    bool

	name string // of the variable, when it is a pipeline file's
}

type Needs struct{ Packages []document.String }

type Assertions struct {
	RequiredSteps document.String `yaml:"required-steps"`
}

type Copyright struct {
	Pos               document.Pos
	Paths             []document.String
	Attestation       document.String
	License           document.String
	LicensePath       document.String `yaml:"license-path"`
	DetectionOverride document.String `yaml:"detection-override"`
}

type Dependencies struct {
	Runtime          []document.String
	Provides         []document.String
	Replaces         []document.String
	ProviderPriority document.String `yaml:"provider-priority"`
	ReplacesPriority document.String `yaml:"replaces-priority"`
}

// PackageOptions switch off what is found in a package's content.
type PackageOptions struct {
	NoProvides           bool `yaml:"no-provides"`
	NoDepends            bool `yaml:"no-depends"`
	NoCommands           bool `yaml:"no-commands"`
	NoVersionedShlibDeps bool `yaml:"no-versioned-shlib-deps"`
}

type ScriptletsSection struct {
	PreInstall    document.String `yaml:"pre-install"`
	PostInstall   document.String `yaml:"post-install"`
	PreDeinstall  document.String `yaml:"pre-deinstall"`
	PostDeinstall document.String `yaml:"post-deinstall"`
	PreUpgrade    document.String `yaml:"pre-upgrade"`
	PostUpgrade   document.String `yaml:"post-upgrade"`
	Trigger       struct {
		Script document.String
		Paths  []document.String
	}
}

type Checks struct{ Disabled []document.String }

type CPE struct {
	Pos       document.Pos
	Part      document.String
	Vendor    document.String
	Product   document.String
	Edition   document.String
	Language  document.String
	SWEdition document.String `yaml:"sw_edition"`
	TargetSW  document.String `yaml:"target_sw"`
	TargetHW  document.String `yaml:"target_hw"`
	Other     document.String
}

type SetcapSection struct {
	Pos    document.Pos
	Path   document.String
	Add    document.Map[document.String]
	Reason document.String
}

type ResourcesSection struct {
	CPU      document.String
	CPUModel document.String
	Memory   document.String
	Disk     document.String
}

type Capabilities struct {
	Add  []document.String
	Drop []document.String
}

// Data is a named table for Subpackage.Range.
type Data struct {
	Name  document.String
	Items document.Map[document.String]
}

// VarTransform defines the variable To as From with each match of a regular expression replaced.
type VarTransform struct {
	Pos     document.Pos
	From    document.String
	Match   document.String
	Replace document.String
	To      document.String
}

// BuildOption is what naming the option changes.
type BuildOption struct {
	Vars        document.Map[document.String]
	Environment struct {
		Contents struct {
			Packages struct {
				Add    []document.String
				Remove []document.String
			}
		}
	}
}

// TestSection says how a finished package is tried out.
type TestSection struct {
	Environment EnvironmentSection
	Pipeline    []PipelineStep
}

// ParseOptions changes how a file is read.
type ParseOptions struct {
	// Lenient ignores keys that the language does not have, for files written by newer or other tools.
	Lenient bool
}

// Parse reads a recipe. The error is a document.ErrorList with all mistakes that can be seen without planning.
func Parse(file string, data []byte, o ParseOptions) (*Recipe, error) {
	doc, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	r := &Recipe{File: file}
	if o.Lenient {
		err = doc.DecodeKnown(r)
	} else {
		err = doc.Decode(r)
	}
	var errs document.ErrorList
	errs.AddError(document.Pos{File: file}, err)
	r.check(&errs)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Recipe) check(errs *document.ErrorList) {
	// Of a package that is not even a mapping no more needs to be said.
	if !slices.ContainsFunc(*errs, func(e *document.Error) bool { return e.Pos == r.Package.Pos }) {
		r.Package.check(r.place, errs)
	}
	for _, a := range r.Package.TargetArchitecture {
		r.checkArch(a, errs)
	}
	tables := map[string]bool{}
	for _, d := range r.Data {
		if tables[d.Name.Value] {
			errs.Add(d.Name.Pos, "", "a second table named %q", d.Name.Value)
		}
		tables[d.Name.Value] = true
	}
	for _, t := range r.VarTransforms {
		t.check(errs)
	}
	if s := r.Update.Schedule; s != nil && s.Period.Value != "" && !slices.Contains(periods, s.Period.Value) {
		errs.Add(s.Period.Pos, document.DidYouMean(s.Period.Value, periods), "unknown period %q: it is one of %s", s.Period.Value, strings.Join(periods, ", "))
	}
	checkSteps(errs, r.Pipeline)
	r.Test.check(errs)
	for i := range r.Subpackages {
		s := &r.Subpackages[i]
		if s.Name.Value == "" {
			errs.Add(s.Pos, "", "the subpackage has no name")
		}
		checkSteps(errs, s.Pipeline)
		s.Test.check(errs)
	}
}

// periods are how often bots look for a new version.
var periods = []string{"daily", "weekly", "monthly"}

func (p *Package) check(place func(document.Pos) document.Pos, errs *document.ErrorList) {
	if p.Name.Value == "" {
		errs.Add(place(p.Name.Pos), "", "the package has no name")
	}
	if p.Version.Value == "" {
		errs.Add(place(p.Version.Pos), "", "the package has no version")
	}
	for _, c := range p.Copyright {
		if c.License.Value == "" {
			errs.Add(place(c.Pos), "", "an entry of copyright has no license")
		}
	}
}

// group is a reference to a group in a replacement, as regexp.Expand has them.
var group = regexp.MustCompile(`\$(?:(\$)|(\w+)|\{(\w+)\})`)

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

func (t *VarTransform) check(errs *document.ErrorList) {
	if t.To.Value == "" {
		errs.Add(t.Pos, "to: names it", "the transform defines no variable")
	}
	match, err := regexp.Compile(t.Match.Value)
	if err != nil {
		errs.Add(t.Match.Pos, "", "%v", regexpMistake(err))
		return
	}
	for _, m := range group.FindAllStringSubmatchIndex(t.Replace.Value, -1) {
		if m[2] >= 0 {
			continue // $$ is a $
		}
		from, to := m[4], m[5]
		if from < 0 {
			from, to = m[6], m[7]
		}
		name := t.Replace.Value[from:to]
		if n, err := strconv.Atoi(name); err == nil && n <= match.NumSubexp() || slices.Contains(match.SubexpNames(), name) {
			continue
		}
		hint := ""
		if digits := strings.TrimRight(name, letters); digits != "" && digits != name {
			hint = fmt.Sprintf("write ${%s}%s", digits, name[len(digits):])
		}
		errs.Add(t.Replace.At(m[0]), hint, "the match has no group %q", name)
	}
}

func (r *Recipe) checkArch(a document.String, errs *document.ErrorList) {
	if _, err := apk.ParseArch(a.Value); err == nil || a.Value == "all" || a.Value == "noarch" || strings.Contains(a.Value, "${{") {
		return
	}
	known := []string{"all"}
	for _, k := range apk.Archs() {
		known = append(known, string(k))
	}
	errs.Add(a.Pos, document.DidYouMean(a.Value, known), "unknown architecture %q", a.Value)
}

// place is pos, or the best that is known when the value was not written at all.
func (r *Recipe) place(pos document.Pos) document.Pos {
	switch {
	case pos.Line > 0:
		return pos
	case r.Package.Pos.Line > 0:
		return r.Package.Pos
	}
	return document.Pos{File: r.File}
}

func (t *TestSection) check(errs *document.ErrorList) {
	if t != nil {
		checkSteps(errs, t.Pipeline)
	}
}

func checkSteps(errs *document.ErrorList, steps []PipelineStep) {
	for i := range steps {
		s := &steps[i]
		switch {
		case s.Uses.Value != "" && s.Runs.Value != "":
			errs.Add(s.Runs.Pos, "", "a step has either uses or runs, not both")
		case s.Wasm.Value != "" && s.otherKind() != "":
			errs.Add(s.Wasm.Pos, "", "a step has either wasm or %s, not both", s.otherKind())
		case s.Check.Value != "" && (s.otherKind() != "" || s.Wasm.Value != ""):
			errs.Add(s.Check.Pos, "", "a step has a check or something else, not both")
		case len(s.With) > 0 && s.Uses.Value == "" && s.Source.Value == "" && s.Wasm.Value == "" && s.Check.Value == "":
			errs.Add(s.With[0].Key.Pos, "", "with is for the inputs of uses or wasm, and there is neither")
		}
		for _, o := range s.Options {
			if o.Value != optionNetwork {
				errs.Add(o.Pos, document.DidYouMean(o.Value, []string{optionNetwork}), "unknown step option %q", o.Value)
			}
		}
		checkSteps(errs, s.Pipeline)
	}
}

// otherKind is what the step is besides a portable one.
func (s *PipelineStep) otherKind() string {
	switch {
	case s.Runs.Value != "":
		return "runs"
	case s.Uses.Value != "":
		return "uses"
	case s.Source.Value != "":
		return "source"
	}
	return ""
}
