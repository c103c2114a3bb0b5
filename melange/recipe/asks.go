package recipe

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/shared/document"
)

// Recipes run package managers, and those want what a lock file names. A pipeline says so with a source of its own, as
// cargo/build does. What a recipe's own commands ask for is found here, so that "cd ui; npm ci" needs nothing beyond
// itself: the lock file is looked for where the command runs, once the sources are in place, and what it names is
// there before the first step.
//
// Only what is plainly written is followed: folders that are words, not what a shell makes of variables. A command that
// is not understood asks for nothing, and fails in its own words. A recipe can always say it itself:
//
//	- source: npm
//	  with: {directory: ui}

// An ask is a lock file that a command reads.
type ask struct {
	kind, dir, lock string
	deps, replaces  []string // of Go modules
	tidy            bool
}

// asked is what a step's commands want from lock files.
func (p *planner) asked(s Step, f frame, r *run) []Source {
	if s.Network {
		return nil // they fetch it themselves
	}
	var sources []Source
	for _, a := range append(p.bumps(s, f), asks(s.Script, s.Dir, p.hasGo(r))...) {
		rest, inside := strings.CutPrefix(a.dir+"/", Workspace+"/")
		src := Source{
			Kind: a.kind, Directory: path.Clean(rest), Lock: a.lock, Arch: f.runner, Found: true, Output: s.Output, Pos: s.Pos,
			Deps: a.deps, Replaces: a.replaces, Tidy: a.tidy,
		}
		if src.Kind == SourceGoMod {
			src.Arch = "" // modules are for every machine
		}
		same := func(o Source) bool {
			return o.Kind == src.Kind && o.Directory == src.Directory && o.Lock == src.Lock && (!src.Changes() || o.changesAs(src))
		}
		if inside && !slices.ContainsFunc(r.sources, same) && !slices.ContainsFunc(sources, same) {
			sources = append(sources, src)
		}
	}
	return sources
}

func (s Source) changesAs(o Source) bool {
	return slices.Equal(s.Deps, o.Deps) && slices.Equal(s.Replaces, o.Replaces) && s.Tidy == o.Tidy
}

// hasGo says whether steps find the compiler, as far as the recipe and what came before tell. Makefiles then build programs
// whose modules are Written.
func (p *planner) hasGo(r *run) bool {
	for _, t := range p.recipe.Environment.Contents.Packages {
		if goPackage.MatchString(t.Value) {
			return true
		}
	}
	return slices.ContainsFunc(r.needs, func(w Written) bool { return goPackage.MatchString(w.Text) })
}

var goPackage = regexp.MustCompile(`^(go|golang)(-fips|-msft)?(-[0-9.]+)?(-go)?([~=<>].*)?$`)

// bumps is what omnibump is told: a pipeline puts its words together in ways that cannot be followed, but of that pipeline
// the inputs are known.
func (p *planner) bumps(s Step, f frame) []ask {
	if !strings.Contains(s.Script, "omnibump") || f.scope.lookup("inputs.modroot") == nil {
		return nil
	}
	input := func(name string) string {
		if name = "inputs." + name; f.scope.lookup(name) == nil {
			return ""
		}
		value, _ := p.value(name, f.scope, document.String{}, 0)
		return value
	}
	if l := input("language"); l != "go" && l != "auto" || input("analyze") == "true" {
		return nil
	}
	deps := modulesOf(strings.Fields(input("deps") + " " + input("packages")))
	var list []ask
	for line := range strings.Lines(input("modroot")) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, ask{
				kind: SourceGoMod, dir: path.Join(s.Dir, line), deps: deps, replaces: modulesOf(strings.Fields(input("replaces"))),
				tidy: input("tidy") == "true",
			})
		}
	}
	return list
}

// modulesOf are the words that are modules with a version.
func modulesOf(words []string) []string {
	var list []string
	for _, w := range words {
		if path, version, ok := strings.Cut(w, "@"); ok && path != "" && version != "" && !strings.HasPrefix(w, "-") && !strings.Contains(w, unknown) {
			list = append(list, w)
		}
	}
	return list
}

// worthReading saves most scripts from being read as shell, which takes longer than all else that is done to them.
func worthReading(script string, withGo bool) bool {
	if withGo && strings.Contains(script, "make") || strings.Contains(script, "yarn") || names(script, "go") || names(script, "gobump") || names(script, "npm") || names(script, "pnpm") || names(script, "cargo") || names(script, "maturin") {
		return true
	}
	asks := strings.Contains(script, " -r ") || strings.Contains(script, " --requirement") || strings.Contains(script, " sync ")
	return asks && names(script, "pip")
}

// names says whether a script has the name of a program, maybe with a version, and more behind it.
func names(script, program string) bool {
	for {
		i := strings.Index(script, program)
		if i < 0 {
			return false
		}
		before := script[:i]
		script = script[i+len(program):]
		whole := before == "" || strings.IndexByte(" \t\n/(;&|", before[len(before)-1]) >= 0
		if rest := strings.TrimLeft(script, "0123456789."); whole && rest != "" && strings.IndexByte(" \t\\", rest[0]) >= 0 {
			return true
		}
	}
}

// asks reads a script that begins in a folder.
func asks(script, dir string, withGo bool) []ask {
	if !worthReading(script, withGo) {
		return nil
	}
	f, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil
	}
	w := &shellWalk{dir: dir, withGo: withGo}
	w.statements(f.Stmts)
	return w.asks
}

// shellWalk follows a script from command to command.
type shellWalk struct {
	dir  string   // where the next command runs; empty when that is not known
	left []string // by pushd
	asks []ask

	withGo bool // make may build with it
}

func (w *shellWalk) statements(list []*syntax.Stmt) {
	for _, s := range list {
		if s.Cmd != nil {
			w.command(s.Cmd)
		}
	}
}

// apart follows what leaves no trace on the commands after it.
func (w *shellWalk) apart(list []*syntax.Stmt) {
	dir, left := w.dir, slices.Clone(w.left)
	w.statements(list)
	w.dir, w.left = dir, left
}

func (w *shellWalk) command(c syntax.Command) {
	switch c := c.(type) {
	case *syntax.CallExpr:
		w.call(c.Args)
	case *syntax.BinaryCmd:
		w.statements([]*syntax.Stmt{c.X, c.Y})
	case *syntax.Block:
		w.statements(c.Stmts)
	case *syntax.Subshell:
		w.apart(c.Stmts)
	case *syntax.IfClause:
		for ; c != nil; c = c.Else {
			holds, isKnown := decided(c.Cond)
			if !isKnown {
				w.statements(c.Cond)
			}
			if !isKnown || holds {
				w.apart(c.Then)
			}
			if isKnown && holds {
				break
			}
		}
	case *syntax.WhileClause:
		w.apart(c.Do)
	case *syntax.ForClause:
		w.apart(c.Do)
	case *syntax.CaseClause:
		for _, item := range c.Items {
			w.apart(item.Stmts)
		}
	case *syntax.TimeClause:
		if c.Stmt != nil && c.Stmt.Cmd != nil {
			w.command(c.Stmt.Cmd)
		}
	}
}

// decided says what comes out of a test of words, as those are where a pipeline asks for its inputs.
func decided(cond []*syntax.Stmt) (holds, isKnown bool) {
	if len(cond) != 1 || cond[0].Negated {
		return false, false
	}
	call, ok := cond[0].Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 {
		return false, false
	}
	var words []string
	for _, a := range call.Args {
		w := fixed(a)
		if strings.Contains(w, unknown) {
			return false, false
		}
		words = append(words, w)
	}
	if n := len(words); n < 4 || words[0] != "[" || words[n-1] != "]" {
		return false, false
	}
	switch words = words[1 : len(words)-1]; {
	case len(words) == 2 && words[0] == "-n":
		return words[1] != "", true
	case len(words) == 2 && words[0] == "-z":
		return words[1] == "", true
	case len(words) == 3 && words[1] == "=":
		return words[0] == words[2], true
	case len(words) == 3 && words[1] == "!=":
		return words[0] != words[2], true
	}
	return false, false
}

func (w *shellWalk) call(args []*syntax.Word) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = fixed(a)
	}
	for len(words) > 0 && (words[0] == "exec" || words[0] == "env" || words[0] == "command" || strings.Contains(words[0], "=")) {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	switch name, rest := path.Base(words[0]), words[1:]; {
	case name == "cd":
		w.enter(rest)
	case name == "pushd":
		w.left = append(w.left, w.dir)
		w.enter(rest)
	case name == "popd" && len(w.left) > 0:
		w.dir, w.left = w.left[len(w.left)-1], w.left[:len(w.left)-1]
	case w.dir == "":
	case name == "npm":
		w.npm(rest)
	case name == "yarn" || name == "yarnpkg":
		w.yarn(rest)
	case name == "pnpm":
		w.pnpm(rest)
	case name == "cargo":
		w.cargo(rest)
	case name == "maturin":
		w.add(SourceCargo, w.dir)
	case name == "go":
		w.golang(rest)
	case name == "gobump":
		w.gobump(rest)
	case name == "make" && w.withGo:
		dir, _ := valueOf(rest, "-C", "--directory")
		w.add(SourceGoMod, w.at(cmp.Or(dir, ".")))
	case isPip.MatchString(name):
		w.pip(rest)
	case strings.HasPrefix(name, "python") && len(rest) > 2 && rest[0] == "-m" && rest[1] == "pip":
		w.pip(rest[2:])
	case name == "uv" && len(rest) > 1 && rest[0] == "pip":
		w.pip(rest[1:])
	}
}

var isPip = regexp.MustCompile(`^pip[0-9.]*$`)

// unknown stands for a word whose text is known only when the script runs.
const unknown = "\x00"

// fixed is the text of a word.
func fixed(word *syntax.Word) string {
	var b strings.Builder
	for _, part := range word.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(part.Value)
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			for _, inner := range part.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok {
					return unknown
				}
				b.WriteString(lit.Value)
			}
		default:
			return unknown
		}
	}
	return b.String()
}

func (w *shellWalk) enter(words []string) {
	words = slices.DeleteFunc(slices.Clone(words), func(s string) bool { return s == "--" })
	if len(words) != 1 || words[0] == "-" {
		w.dir = ""
		return
	}
	w.dir = w.at(words[0])
}

// at is a path as the next command sees it; empty when that is not known.
func (w *shellWalk) at(name string) string {
	switch {
	case strings.Contains(name, unknown) || strings.HasPrefix(name, "~"):
		return ""
	case path.IsAbs(name):
		return path.Clean(name)
	case w.dir == "":
		return ""
	}
	return path.Join(w.dir, name)
}

// valueOf takes the value of an option out of words: --name value, or --name=value.
func valueOf(words []string, names ...string) (value string, found bool) {
	for i, s := range words {
		for _, name := range names {
			if s == name && i+1 < len(words) {
				return words[i+1], true
			}
			if rest, ok := strings.CutPrefix(s, name+"="); ok {
				return rest, true
			}
		}
	}
	return "", false
}

// verb is the first word that is no option, nor the value of one of those that have one.
func verb(words []string, valued ...string) (string, []string) {
	for i := 0; i < len(words); i++ {
		switch s := words[i]; {
		case slices.Contains(valued, s):
			i++
		case !strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "+"):
			return s, words[i+1:]
		}
	}
	return "", nil
}

// add asks for the lock file of a folder, when that is known.
func (w *shellWalk) add(kind, dir string) {
	if dir != "" {
		w.asks = append(w.asks, ask{kind: kind, dir: dir})
	}
}

func (w *shellWalk) golang(words []string) {
	dir := w.dir
	if to, ok := valueOf(words, "-C"); ok {
		dir = w.at(to)
	}
	v, rest := verb(words, "-C")
	a := ask{kind: SourceGoMod, dir: dir}
	switch v {
	case "build", "run", "test", "generate", "vet", "list", "tool", "work":
	case "install":
		if slices.ContainsFunc(rest, func(s string) bool { return strings.Contains(s, "@") }) {
			return // a program by its name, which no go.sum is for
		}
	case "get":
		a.deps = modulesOf(rest)
	case "mod":
		v, rest = verb(rest)
		switch v {
		case "tidy":
			a.tidy = true
		case "edit":
			a.replaces = replacements(rest)
		case "download", "vendor", "verify", "graph", "why":
		default:
			return
		}
	default:
		return
	}
	if dir != "" {
		w.asks = append(w.asks, a)
	}
}

// replacements are what go mod edit is told to take in place of modules, where that has a version and so is fetched.
func replacements(words []string) []string {
	var list []string
	for i, s := range words {
		value, ok := valueOf(words[i:min(i+2, len(words))], "-replace", "--replace")
		if ok && strings.HasPrefix(s, "-") {
			list = append(list, modulesOf([]string{value})...)
		}
	}
	return list
}

func (w *shellWalk) gobump(words []string) {
	a := ask{kind: SourceGoMod, dir: w.dir, tidy: true}
	if modroot, ok := valueOf(words, "--modroot"); ok {
		a.dir = w.at(modroot)
	}
	packages, _ := valueOf(words, "--packages")
	replaces, _ := valueOf(words, "--replaces")
	a.deps, a.replaces = modulesOf(strings.Fields(packages)), modulesOf(strings.Fields(replaces))
	if a.dir != "" {
		w.asks = append(w.asks, a)
	}
}

func (w *shellWalk) npm(words []string) {
	dir := w.dir
	if prefix, ok := valueOf(words, "--prefix", "-C"); ok {
		dir = w.at(prefix)
	}
	switch v, rest := verb(words, "--prefix", "-C"); v {
	case "ci", "clean-install", "install", "i", "it", "cit", "install-test", "install-ci-test", "add", "update":
		if !slices.Contains(rest, "-g") && !slices.Contains(rest, "--global") {
			w.add(SourceNPM, dir)
		}
	}
}

// yarn installs when nothing else is said.
func (w *shellWalk) yarn(words []string) {
	dir := w.dir
	if to, ok := valueOf(words, "--cwd"); ok {
		dir = w.at(to)
	}
	v, _ := verb(words, "--cwd")
	switch {
	case v == "" && slices.ContainsFunc(words, func(s string) bool { return slices.Contains(yarnTells, s) }):
	case slices.Contains([]string{"", "install", "add", "remove"}, v):
		w.add(SourceYarn, dir)
	}
}

// yarnTells are the options with which yarn does nothing but tell.
var yarnTells = []string{"-v", "--version", "-h", "--help"}

func (w *shellWalk) pnpm(words []string) {
	dir := w.dir
	if to, ok := valueOf(words, "-C", "--dir"); ok {
		dir = w.at(to)
	}
	switch v, _ := verb(words, "-C", "--dir", "-F", "--filter"); v {
	case "install", "i", "install-test", "it", "add", "fetch":
		if !slices.Contains(words, "-g") && !slices.Contains(words, "--global") {
			w.add(SourcePNPM, dir)
		}
	}
}

func (w *shellWalk) cargo(words []string) {
	v, rest := verb(words)
	if v == "auditable" || v == "zigbuild" {
		v, rest = verb(rest)
	}
	dir := w.dir
	if manifest, ok := valueOf(rest, "--manifest-path"); ok {
		dir = w.at(path.Dir(manifest))
	}
	switch v {
	case "install":
		name, ok := valueOf(rest, "--path")
		if !ok {
			return // a program by its name, which no lock file is for
		}
		dir = w.at(name)
	case "build", "b", "check", "c", "test", "t", "run", "r", "rustc", "fetch", "vendor", "doc", "bench", "metadata", "cbuild", "cinstall":
	default:
		return
	}
	w.add(SourceCargo, dir)
}

func (w *shellWalk) pip(words []string) {
	v, rest := verb(words)
	if v == "sync" { // uv's: the files are its arguments
		for _, name := range rest {
			if path.Ext(name) == ".txt" {
				w.requirements(name)
			}
		}
	}
	if v != "install" && v != "wheel" && v != "download" {
		return
	}
	for i, s := range rest {
		switch {
		case (s == "-r" || s == "--requirement" || s == "--requirements") && i+1 < len(rest):
			w.requirements(rest[i+1])
		case strings.HasPrefix(s, "--requirement="):
			w.requirements(strings.TrimPrefix(s, "--requirement="))
		}
	}
}

func (w *shellWalk) requirements(name string) {
	if file := w.at(name); file != "" {
		w.asks = append(w.asks, ask{kind: SourcePip, dir: path.Dir(file), lock: path.Base(file)})
	}
}
