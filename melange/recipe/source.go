package recipe

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// Kinds of sources.
const (
	SourceFetch  = "fetch"  // a file by URI, with its digest
	SourceGit    = "git"    // a git commit
	SourceGoMod  = "gomod"  // the modules that the go.sum in Directory names, once the sources before it are in place
	SourceModule = "module" // one Go module, by its go.sum hash
	SourceNPM    = "npm"    // the packages that npm's lock file in Directory names, as SourceGoMod
	SourceYarn   = "yarn"   // the packages that the yarn.lock in Directory names, as SourceGoMod
	SourcePNPM   = "pnpm"   // the packages that the pnpm-lock.yaml in Directory names, as SourceGoMod
	SourceCargo  = "cargo"  // the crates that the Cargo.lock in Directory names, as SourceGoMod
	SourcePip    = "pip"    // the files that Lock in Directory names with their hashes, as SourceGoMod
)

// Source is something from outside that is in the workspace before the first step runs.
type Source struct {
	Kind      string
	Directory string // relative to the workspace, clean; "." for the workspace itself

	// fetch
	URI            string
	SHA256, SHA512 string // hex; one of them, unless the plan allows unpinned sources
	Strip          int    // leading path elements to drop
	Extract        bool   // else the file is put into Directory under the last element of the URI
	Delete         bool   // drop the archive after extracting it

	// git; the repository is URI
	Commit      string // hex
	Branch, Tag string // where to look for the commit
	Tip         bool   // the commit must be the newest of the branch
	Submodules  bool
	Depth       int      // 0: only the commit; -1: all history
	SparsePaths []string // empty: everything
	CherryPicks []CherryPick

	// module
	Module, Version string
	Sum             string // h1:...

	// gomod: what a step changes of the modules, and what is fetched for that
	Deps     []string // modules that it wants in other versions: PATH@VERSION
	Replaces []string // what it takes in their place: PATH=PATH@VERSION
	Tidy     bool     // it has the compiler add what is missing

	// npm, yarn, pnpm, cargo, pip
	Lock  string   // the lock file, in Directory; empty: the one of the usual name
	Arch  apk.Arch // of the machine that runs the steps, whose files are needed
	Found bool     // a step's commands ask for it, not the recipe: where no lock file is, nothing is fetched

	Output string       // the package whose pipeline has the step
	Pos    document.Pos // the step in the recipe
}

// CherryPick is a commit to apply on top, from a branch that must be fetched for it when one is given.
type CherryPick struct{ Branch, Commit, Comment string }

// sourceFields is what with: may say, by kind.
var sourceFields = map[string][]string{
	SourceFetch:  {"delete", "directory", "extract", "sha256", "sha512", "strip", "unpinned", "uri"},
	SourceGit:    {"branch", "cherry-picks", "commit", "depth", "directory", "repository", "sparse-paths", "submodules", "tag", "tip"},
	SourceGoMod:  {"deps", "directory", "replaces", "tidy"},
	SourceModule: {"directory", "module", "sum", "version"},
	SourceNPM:    {"directory", "lock"},
	SourceYarn:   {"directory", "lock"},
	SourcePNPM:   {"directory", "lock"},
	SourceCargo:  {"directory", "lock"},
	SourcePip:    {"directory", "lock"},
}

// NPMLocks are the names of npm's lock files, the one that wins first.
var NPMLocks = []string{"npm-shrinkwrap.json", "package-lock.json"}

// Locked says that a lock file names what the source is, which is known once the sources before it are in place.
func (s Source) Locked() bool {
	switch s.Kind {
	case SourceGoMod, SourceNPM, SourceYarn, SourcePNPM, SourceCargo, SourcePip:
		return true
	}
	return false
}

// source takes a step out of the pipeline and puts what it asks for into the sources.
func (p *planner) source(n *PipelineStep, f frame, r *run) {
	kind := p.expand(n.Source, f.scope)
	known, ok := sourceFields[kind]
	if !ok {
		p.errs.Add(n.Source.Pos, "", "unknown kind of source %q", kind)
		return
	}
	for _, w := range n.With {
		if !slices.Contains(known, w.Key.Value) {
			p.errs.Add(w.Key.Pos, document.DidYouMean(w.Key.Value, known), "a %s source has no %q", kind, w.Key.Value)
		}
	}
	d := declaration{planner: p, step: n, frame: f, run: r, source: Source{Kind: kind, Output: f.output, Pos: f.pos}}
	d.directory()
	switch kind {
	case SourceFetch:
		d.fetch()
	case SourceGit:
		d.git()
	case SourceGoMod:
		d.modules()
	case SourceModule:
		d.module()
	case SourceNPM, SourceYarn, SourcePNPM, SourceCargo, SourcePip:
		d.lock()
	}
	if d.source.Locked() && f.network {
		return // with the network, package managers fetch for themselves
	}
	r.sources = append(r.sources, d.source)
}

// declaration is a source on its way from text to value.
type declaration struct {
	*planner
	step   *PipelineStep
	frame  frame
	run    *run
	source Source
	broken bool // a field could not be expanded: what follows from that is not said
}

func (d *declaration) text(field string) string {
	t, _ := d.step.With.Lookup(field)
	value, ok := d.try(t, d.frame.scope)
	d.broken = d.broken || !ok
	return strings.TrimSpace(value)
}

// maxForwards ends the way back of an input that is given to itself.
const maxForwards = 20

// at is where the value of a field comes from: when it only passes on an input, the place where that was given.
func (d *declaration) at(field string) document.Pos {
	t, _ := d.step.With.Lookup(field)
	in := d.frame.scope
	for range maxForwards {
		ref, bad, found := nextReference(t.Value, 0)
		def := in.lookup(ref.name)
		if !found || bad != nil || def == nil || def.in == nil || ref.end-ref.start < len(t.Value) {
			break
		}
		t, in = def.written(), def.in
	}
	if t.Pos.File != d.frame.pos.File || t.Value == "" {
		return d.frame.pos
	}
	return t.Pos
}

func (d *declaration) fail(field, hint, format string, args ...any) {
	if !d.broken {
		d.errs.Add(d.at(field), hint, format, args...)
	}
}

func (d *declaration) bool(field string) bool {
	switch s := d.text(field); s {
	case "true":
		return true
	case "false", "":
	default:
		d.fail(field, "", "%s: want true or false, found %q", field, s)
	}
	return false
}

func (d *declaration) int(field string) int {
	s := d.text(field)
	if s == "" || s == "unset" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		d.fail(field, "", "%s: want a number, found %q", field, s)
	}
	return n
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

func (d *declaration) digest(field, what string, length int) string {
	s := d.text(field)
	if s != "" && (len(s) != length || !hexDigits.MatchString(s)) {
		hint := ""
		if len(s) == length && hexDigits.MatchString(strings.ToLower(s)) {
			hint = "in lower case"
		}
		d.fail(field, hint, "a %s is %d hexadecimal digits, found %q", what, length, s)
	}
	return s
}

func (d *declaration) required(field, what string) string {
	s := d.text(field)
	if s == "" {
		d.fail(field, "", "the source has no %s", what)
		d.broken = true
	}
	return s
}

// directory decides where the source goes: below the step's working directory, inside the workspace.
func (d *declaration) directory() {
	dir := d.text("directory")
	if !path.IsAbs(dir) {
		dir = path.Join(d.frame.absolute(), dir)
	}
	dir = path.Clean(dir)
	switch rest, inside := strings.CutPrefix(dir, Workspace+"/"); {
	case dir == Workspace:
		d.source.Directory = "."
	case inside:
		d.source.Directory = rest
	default:
		d.outside(dir)
	}
}

// outside puts the source into a folder of its own in the workspace, from where a step copies it to its place.
func (d *declaration) outside(dir string) {
	name := ".sources/" + strconv.Itoa(d.aside)
	d.aside++
	d.source.Directory = name
	d.run.steps = append(d.run.steps, Step{
		Name:      "Copy the source to " + dir,
		Uses:      strings.Join(d.frame.uses, " > "),
		Script:    "mkdir -p " + quote(dir) + "\ncp -a " + Workspace + "/" + name + "/. " + quote(dir) + "/\n",
		Dir:       Workspace,
		Output:    d.frame.output,
		Pos:       d.frame.pos,
		ScriptPos: d.frame.pos,
	})
}

// quote makes one word of the shell's language.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (d *declaration) fetch() {
	s := &d.source
	s.URI = d.required("uri", "uri")
	s.SHA256 = d.digest("sha256", "SHA-256", 64)
	s.SHA512 = d.digest("sha512", "SHA-512", 128)
	if s.Extract = d.bool("extract"); s.Extract {
		if s.Strip = d.int("strip"); s.Strip < 0 {
			d.fail("strip", "", "strip-components: want a number, zero or more, found \"%d\"", s.Strip)
		}
		s.Delete = d.bool("delete")
	}
	unpinned := d.bool("unpinned") || d.options.AllowUnpinned
	if s.SHA256 == "" && s.SHA512 == "" && !unpinned {
		d.fail("uri", "give expected-sha256 or expected-sha512, or allow unpinned sources", "%s has no digest", s.URI)
	}
}

func (d *declaration) git() {
	s := &d.source
	s.URI = d.required("repository", "repository")
	s.Commit = d.digest("commit", "commit", 40)
	s.Branch = d.text("branch")
	s.Tag = d.text("tag")
	s.Tip = d.bool("tip")
	s.Submodules = d.bool("submodules")
	s.Depth = d.int("depth")
	s.SparsePaths = strings.Fields(d.text("sparse-paths"))
	s.CherryPicks = d.cherryPicks()
	switch {
	case s.Branch != "" && s.Tag != "":
		d.fail("tag", "", "a checkout has a branch or a tag, not both")
	case s.Tip && s.Branch == "":
		d.fail("tip", "", "expected-commit-is-branch-tip is about a branch, and none is given")
	}
	if s.Commit == "" && !d.options.AllowUnpinned {
		d.fail("repository", "give expected-commit, or allow unpinned sources", "%s has no commit", s.URI)
	}
}

// cherryPicks reads lines of [branch/]commit: comment.
func (d *declaration) cherryPicks() []CherryPick {
	var picks []CherryPick
	for line := range strings.Lines(d.text("cherry-picks")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		where, comment, found := strings.Cut(line, ":")
		pick := CherryPick{Commit: strings.TrimSpace(where), Comment: strings.TrimSpace(comment)}
		if i := strings.LastIndexByte(pick.Commit, '/'); i >= 0 {
			pick.Branch, pick.Commit = pick.Commit[:i], pick.Commit[i+1:]
		}
		if !found || pick.Comment == "" || len(pick.Commit) != 40 || !hexDigits.MatchString(pick.Commit) {
			d.fail("cherry-picks", "", "want [branch/]commit: comment, found %q", line)
		}
		picks = append(picks, pick)
	}
	return picks
}

func (d *declaration) module() {
	s := &d.source
	s.Module = d.required("module", "module")
	s.Version = d.required("version", "version")
	s.Sum = d.text("sum")
	s.Extract = true
	switch {
	case s.Sum == "" && !d.options.AllowUnpinned:
		d.fail("module", "give expected-sum, or allow unpinned sources", "module %s has no sum", s.Module)
	case s.Sum != "" && !strings.HasPrefix(s.Sum, "h1:"):
		d.fail("sum", "", "a module's sum starts with h1:, found %q", s.Sum)
	}
}

func (d *declaration) modules() {
	s := &d.source
	s.Deps, s.Replaces = strings.Fields(d.text("deps")), strings.Fields(d.text("replaces"))
	s.Tidy = d.bool("tidy")
	for _, dep := range s.Deps {
		if path, version, _ := strings.Cut(dep, "@"); path == "" || version == "" || strings.HasPrefix(dep, "-") {
			d.fail("deps", "", "deps: want PATH@VERSION, found %q", dep)
		}
	}
}

// Changes says that a step of the recipe will change which modules there are.
func (s Source) Changes() bool { return len(s.Deps)+len(s.Replaces) > 0 || s.Tidy }

func (d *declaration) lock() {
	s := &d.source
	s.Arch = d.frame.runner
	if s.Lock = d.text("lock"); path.IsAbs(s.Lock) || path.Clean("/"+s.Lock) != "/"+s.Lock && s.Lock != "" {
		d.fail("lock", "", "lock is a file in the folder, found %q", s.Lock)
	}
}
