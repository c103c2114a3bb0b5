package recipe

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
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
type ask struct{ kind, dir, lock string }

// asked is what a step's commands want from lock files.
func (p *planner) asked(s Step, f frame, r *run) []Source {
	if s.Network {
		return nil // they fetch it themselves
	}
	var sources []Source
	for _, a := range asks(s.Script, s.Dir) {
		rest, inside := strings.CutPrefix(a.dir+"/", Workspace+"/")
		src := Source{
			Kind: a.kind, Directory: path.Clean(rest), Lock: a.lock, Arch: f.runner, Found: true, Output: s.Output, Pos: s.Pos,
		}
		same := func(o Source) bool { return o.Kind == src.Kind && o.Directory == src.Directory && o.Lock == src.Lock }
		if inside && !slices.ContainsFunc(r.sources, same) && !slices.ContainsFunc(sources, same) {
			sources = append(sources, src)
		}
	}
	return sources
}

// worthReading saves most scripts from being read as shell, which takes longer than all else that is done to them.
func worthReading(script string) bool {
	if names(script, "npm") || names(script, "cargo") || names(script, "maturin") {
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
func asks(script, dir string) []ask {
	if !worthReading(script) {
		return nil
	}
	f, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil
	}
	w := &shellWalk{dir: dir}
	w.statements(f.Stmts)
	return w.asks
}

// shellWalk follows a script from command to command.
type shellWalk struct {
	dir  string   // where the next command runs; empty when that is not known
	left []string // by pushd
	asks []ask
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
			w.statements(c.Cond)
			w.apart(c.Then)
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
	case name == "cargo":
		w.cargo(rest)
	case name == "maturin":
		w.asks = append(w.asks, ask{SourceCargo, w.dir, ""})
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

func (w *shellWalk) npm(words []string) {
	dir := w.dir
	if prefix, ok := valueOf(words, "--prefix", "-C"); ok {
		dir = w.at(prefix)
	}
	switch v, rest := verb(words, "--prefix", "-C"); v {
	case "ci", "clean-install", "install", "i", "it", "cit", "install-test", "install-ci-test", "add", "update":
		if dir != "" && !slices.Contains(rest, "-g") && !slices.Contains(rest, "--global") {
			w.asks = append(w.asks, ask{SourceNPM, dir, ""})
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
	if dir != "" {
		w.asks = append(w.asks, ask{SourceCargo, dir, ""})
	}
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
		w.asks = append(w.asks, ask{SourcePip, path.Dir(file), path.Base(file)})
	}
}
