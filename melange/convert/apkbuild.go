package convert

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// Apkbuild makes a recipe of an APKBUILD. Its variables are worked out, as far as that takes no program; its functions
// become uses of pipelines where they do nothing else, and scripts else.
func Apkbuild(file string, text []byte) ([]byte, error) {
	parsed, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(bytes.NewReader(text), file)
	if err != nil {
		return nil, err
	}
	a := &apkbuild{vars: map[string]string{}, functions: map[string]string{}}
	if err := a.read(parsed, string(text)); err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	if a.vars["pkgname"] == "" || a.vars["pkgver"] == "" {
		return nil, fmt.Errorf("%s: it is no APKBUILD: that has pkgname and pkgver", file)
	}
	return a.draft().text(), nil
}

// apkbuild is what the file says.
type apkbuild struct {
	vars      map[string]string
	functions map[string]string // bodies
	notes     []string
}

func (a *apkbuild) read(file *syntax.File, text string) error {
	for _, s := range file.Stmts {
		switch c := s.Cmd.(type) {
		case *syntax.CallExpr:
			for _, as := range c.Assigns {
				if err := a.assign(as); err != nil {
					return fmt.Errorf("%s: %w", as.Pos(), err)
				}
			}
			if len(c.Args) > 0 {
				a.notes = append(a.notes, "Left out: "+text[s.Pos().Offset():s.End().Offset()])
			}
		case *syntax.FuncDecl:
			body := text[c.Body.Pos().Offset():c.Body.End().Offset()]
			a.functions[c.Name.Value] = strings.TrimSuffix(strings.TrimPrefix(body, "{"), "}")
		default:
			a.notes = append(a.notes, "Left out: "+text[s.Pos().Offset():s.End().Offset()])
		}
	}
	return nil
}

// errProgram means that a value takes a program to be known.
var errProgram = errors.New("a value is what a program prints")

func (a *apkbuild) assign(as *syntax.Assign) error {
	value := ""
	if as.Value != nil {
		var err error
		value, err = expand.Literal(&expand.Config{
			Env:      expand.FuncEnviron(func(name string) string { return a.vars[name] }),
			CmdSubst: nil,
		}, as.Value)
		if err != nil {
			a.notes = append(a.notes, fmt.Sprintf("Left out: %s (%v)", as.Name.Value, errProgram))
			return nil
		}
	}
	if as.Append {
		value = a.vars[as.Name.Value] + value
	}
	a.vars[as.Name.Value] = value
	return nil
}

func (a *apkbuild) words(name string) []string { return strings.Fields(a.vars[name]) }

func (a *apkbuild) draft() *draft {
	v := a.vars
	d := &draft{
		name: v["pkgname"], version: v["pkgver"], epoch: "0", description: v["pkgdesc"], url: v["url"],
		licenses: licenseOr(spdx(v["license"])),
		update:   watched(append(a.words("source"), v["url"])...),
		packages: []string{"build-base", "busybox", "ca-certificates-bundle"},
	}
	d.depends = a.dependencies("depends")
	d.provides, d.replaces = a.dependencies("provides"), a.dependencies("replaces")
	for _, list := range []string{"makedepends", "makedepends_build", "makedepends_host"} {
		d.packages = append(d.packages, a.dependencies(list)...)
	}
	d.steps = a.sources()
	for _, name := range []string{"prepare", "build", "package"} {
		d.steps = append(d.steps, a.function(name)...)
	}
	if a.functions["check"] != "" && !slices.Contains(a.words("options"), "!check") {
		d.notes = append(d.notes, "Left out: check(), which is for the build's own tests.")
	}
	d.steps = append(d.steps, step{uses: "strip"})
	a.split(d)
	d.notes = append(a.notes, d.notes...)
	return d
}

// dependencies are names that packages have here too. What is in conflict, and which versions are wanted, stays.
func (a *apkbuild) dependencies(list string) (names []string) {
	for _, n := range a.words(list) {
		if n = strings.ReplaceAll(n, a.vars["pkgver"], "${{package.version}}"); n != "" && !strings.Contains(n, "$") {
			names = append(names, renamed(n))
		} else if n != "" {
			names = append(names, n)
		}
	}
	return names
}

// others are packages that have another name here.
var others = map[string]string{"musl-dev": "glibc-dev", "musl": "glibc", "musl-utils": "posix-libc-utils"}

func renamed(name string) string {
	if other, ok := others[name]; ok {
		return other
	}
	return name
}

// spdx reads the words of a licence: alternatives, or one after another.
func spdx(text string) []string {
	if strings.Contains(text, " OR ") || strings.Contains(text, " AND ") || strings.Contains(text, " WITH ") {
		return []string{text}
	}
	return strings.Fields(text)
}

// sources are the files by address, then the patches beside the recipe.
func (a *apkbuild) sources() (steps []step) {
	sums := map[string]string{}
	words := a.words("sha512sums")
	for i := 0; i+1 < len(words); i += 2 {
		sums[words[i+1]] = words[i]
	}
	var patches []string
	for _, s := range a.words("source") {
		name, uri, renamed := strings.Cut(s, "::")
		if !renamed {
			name, uri = path.Base(s), s
		}
		if !strings.Contains(uri, "://") {
			if strings.HasSuffix(name, ".patch") || strings.HasSuffix(name, ".diff") {
				patches = append(patches, name)
			}
			a.notes = append(a.notes, fmt.Sprintf("%s belongs into the folder %s.", name, a.vars["pkgname"]))
			continue
		}
		if renamed && name != path.Base(uri) {
			a.notes = append(a.notes, fmt.Sprintf("%s is called %s there.", path.Base(uri), name))
		}
		f := step{uses: "fetch", with: []pair{{"uri", versioned(uri, a.vars["pkgver"])}, {"expected-sha512", sums[name]}}}
		if !archive.MatchString(name) {
			f.with = append(f.with, pair{"extract", "false"})
		}
		steps = append(steps, f)
	}
	if len(patches) > 0 {
		steps = append(steps, step{uses: "patch", with: []pair{{"patches", strings.Join(patches, "\n")}}})
	}
	return steps
}

var archive = regexp.MustCompile(`\.(tar(\.(gz|bz2|xz|zst|lz|lzma))?|tgz|tbz2?|txz|zip)$`)

// The functions that do what pipelines do, and nothing else.
var (
	noise     = regexp.MustCompile(`^(cd\s+"?\$\{?builddir\}?"?|default_prepare|export\s+[A-Z]+=\S+|#.*|)$`)
	configure = regexp.MustCompile(`^(\./configure)(\s|$)`)
	makeAll   = regexp.MustCompile(`^make(\s+-j\S*)?$`)
	install   = regexp.MustCompile(`^make\s+(-j\S+\s+)?DESTDIR="?\$\{?pkgdir\}?"?\s+install$|^make\s+install\s+DESTDIR="?\$\{?pkgdir\}?"?$`)
	cmake     = regexp.MustCompile(`^cmake\s+(-G\s*Ninja\s+)?-B\s*build(\s|$)`)
	cmakeMake = regexp.MustCompile(`^cmake\s+--build\s+build$`)
	cmakeInst = regexp.MustCompile(`^DESTDIR="?\$\{?pkgdir\}?"?\s+cmake\s+--install\s+build$`)
	meson     = regexp.MustCompile(`^(abuild-)?meson\s`)
	mesonMake = regexp.MustCompile(`^meson\s+compile\s`)
	mesonInst = regexp.MustCompile(`^DESTDIR="?\$\{?pkgdir\}?"?\s+meson\s+install\s`)
)

var idioms = []struct {
	line *regexp.Regexp
	uses string
}{
	{configure, "autoconf/configure"}, {makeAll, "autoconf/make"}, {install, "autoconf/make-install"},
	{cmake, "cmake/configure"}, {cmakeMake, "cmake/build"}, {cmakeInst, "cmake/install"},
	{mesonMake, "meson/compile"}, {mesonInst, "meson/install"}, {meson, "meson/configure"},
}

// usual are options that the pipelines give themselves.
var usual = regexp.MustCompile(`^(\./configure|cmake|meson|abuild-meson|setup|-G|Ninja|-B|build|output|\.|--(build|host|target|prefix|sysconfdir|mandir|infodir|localstatedir|libdir|buildtype)=\S*|-DCMAKE_(INSTALL_PREFIX|INSTALL_LIBDIR|BUILD_TYPE)=\S*)$`)

// function is what a function does, in steps.
func (a *apkbuild) function(name string) []step {
	body := a.functions[name]
	if strings.TrimSpace(body) == "" {
		return nil
	}
	var steps []step
	for line := range strings.Lines(strings.ReplaceAll(body, "\\\n", " ")) {
		line, _, _ = strings.Cut(line, " #")
		line = strings.TrimSuffix(oneLine(line), " || return 1")
		if noise.MatchString(line) {
			continue
		}
		i := slices.IndexFunc(idioms, func(idiom struct {
			line *regexp.Regexp
			uses string
		}) bool {
			return idiom.line.MatchString(line)
		})
		if i < 0 {
			return []step{{name: name + "()", runs: a.script(body)}}
		}
		s := step{uses: idioms[i].uses}
		if strings.HasSuffix(s.uses, "/configure") {
			if opts := options(line); opts != "" {
				s.with = []pair{{"opts", opts}}
			}
		}
		steps = append(steps, s)
	}
	return steps
}

// options are those of a command that its pipeline does not give.
func options(line string) string {
	var opts []string
	for _, w := range strings.Fields(line) {
		if !usual.MatchString(w) && !strings.Contains(w, "$") {
			opts = append(opts, w)
		}
	}
	return strings.Join(opts, "\n")
}

// script is the body of a function with what it expects to be set.
func (a *apkbuild) script(body string) string {
	var b strings.Builder
	for _, p := range []pair{
		{"pkgname", a.vars["pkgname"]}, {"pkgver", "${{package.version}}"}, {"srcdir", "${{package.srcdir}}"}, {"startdir", "${{package.srcdir}}"},
		{"builddir", "${{package.srcdir}}"}, {"pkgdir", "${{targets.destdir}}"}, {"subpkgdir", "${{targets.contextdir}}"},
	} {
		if p.key == "pkgver" || regexp.MustCompile(`\$\{?`+p.key+`\b`).MatchString(body) && p.key != "pkgver" {
			fmt.Fprintf(&b, "%s=%s\n", p.key, p.value)
		}
	}
	if strings.Contains(body, "amove ") {
		b.WriteString(amove)
	}
	indent := -1
	lines := strings.Split(strings.Trim(body, "\n"), "\n")
	for _, line := range lines {
		if n := len(line) - len(strings.TrimLeft(line, "\t ")); strings.TrimSpace(line) != "" && (indent < 0 || n < indent) {
			indent = n
		}
	}
	for _, line := range lines {
		if defaults.MatchString(line) {
			continue
		}
		b.WriteString(strings.TrimRight(line[min(max(indent, 0), len(line)):], " \t") + "\n")
	}
	return b.String()
}

// defaults are calls of what abuild does anyway; pipelines do it here.
var defaults = regexp.MustCompile(`^\s*default_[a-z]+\s*$`)

// amove is what functions of subpackages call to take files out of the origin.
const amove = `pkgdir=${{targets.destdir}}
amove() {
  for pattern; do
    for file in "$pkgdir"/${pattern#/}; do
      [ -e "$file" ] || [ -L "$file" ] || continue
      to="${{targets.contextdir}}/${file#"$pkgdir"/}"
      mkdir -p "${to%/*}"
      mv "$file" "$to"
    done
  done
}
`

// splits are the pipelines that fill packages whose names end so.
var splits = []struct{ suffix, uses, what string }{
	{"-dev", "split/dev", "development"}, {"-doc", "split/alldocs", "documentation"}, {"-static", "split/static", "static library"},
	{"-lang", "split/locales", "translations"}, {"-libs", "split/lib", "libraries"}, {"-dbg", "split/debug", "debugging symbols"},
}

// split adds the subpackages.
func (a *apkbuild) split(d *draft) {
	for _, word := range a.words("subpackages") {
		name, rest, _ := strings.Cut(word, ":")
		function, _, _ := strings.Cut(rest, ":")
		if function == "" {
			function = strings.ReplaceAll(name[strings.LastIndexByte(name, '-')+1:], "-", "_")
		}
		s := subpackage{name: ownName(name, a.vars["pkgname"]), description: d.description}
		i := slices.IndexFunc(splits, func(k struct{ suffix, uses, what string }) bool { return strings.HasSuffix(name, k.suffix) })
		switch body := a.functions[function]; {
		case strings.TrimSpace(body) != "":
			if i >= 0 && strings.Contains(body, "default_"+function) {
				s.steps = []step{{uses: splits[i].uses}}
			}
			s.steps = append(s.steps, step{name: function + "()", runs: a.script(body)})
			if m := ownDescription.FindStringSubmatch(body); m != nil {
				s.description = m[1]
			}
		case i >= 0:
			s.steps = []step{{uses: splits[i].uses}}
			s.description = oneLine(d.description + ", " + splits[i].what)
			if splits[i].uses == "split/dev" {
				s.depends = append(a.dependencies("depends_dev"), "${{package.name}}")
			}
		default:
			d.notes = append(d.notes, fmt.Sprintf("Left out: the subpackage %s, whose function %s is not here.", name, function))
			continue
		}
		d.subpackages = append(d.subpackages, s)
	}
}

// ownDescription is a description that a subpackage's function gives.
var ownDescription = regexp.MustCompile(`(?m)^\s*pkgdesc="([^"$]+)"`)

// ownName has the origin's name as a variable.
func ownName(name, origin string) string {
	if rest, ok := strings.CutPrefix(name, origin+"-"); ok {
		return "${{package.name}}-" + rest
	}
	return name
}
