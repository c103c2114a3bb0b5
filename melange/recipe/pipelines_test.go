package recipe

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"mvdan.cc/sh/v3/syntax"

	"distro.internal/pipelines"
)

// TestPipelinesPlan: every built-in pipeline plans, natively and for a cross build, and its scripts are POSIX shell.
func TestPipelinesPlan(t *testing.T) {
	library := NewLibrary(pipelines.Files)
	with := map[string]string{
		"fetch":           "{uri: https://example.org/x.tar, expected-sha512: " + strings.Repeat("0", 128) + "}",
		"git-checkout":    "{repository: https://example.org/x, expected-commit: " + strings.Repeat("0", 40) + "}",
		"git-am":          "{patches: a b}",
		"go/build":        "{packages: ., output: x}",
		"go/bump":         "{deps: a@v1}",
		"go/install":      "{package: example.org/x}",
		"go/module":       "{module: example.org/x, version: v1.0.0, expected-sum: 'h1:x'}",
		"npm/install":     "{package: x, version: 1}",
		"pecl/install":    "{extension: x}",
		"python/test":     "{command: x}",
		"R/build":         "{package: x, version: 1}",
		"ruby/build":      "{gem: x}",
		"ruby/install":    "{version: 1, gem: x}",
		"xcover/profile":  "{executable-path: /usr/bin/x}",
		"autoconf/make":   "{}",
		"split/dev":       "{package: other}",
		"split/static":    "{package: other}",
		"python/import":   "{import: x}",
		"maven/pombump":   "{}",
		"llvm/covreport":  "{}",
		"cargo/build":     "{output: x}",
		"cmake/configure": "{opts: -DX=1}",

		"test/tw/virtualpackage": "{virtual-pkg-name: x}",
	}
	names := library.Names()
	if len(names) < 52 {
		t.Errorf("only %d pipelines: %v", len(names), names)
	}
	for _, name := range names {
		for _, sysroot := range []string{"", "environment: {sysroot: {}}\n"} {
			where := ""
			if strings.HasPrefix(name, "test/") {
				where = "test:\n  "
			}
			text := fmt.Sprintf("package: {name: x, version: 1}\n%s%spipeline:\n  - uses: %s\n    with: %s\n", sysroot, where, name, with[name])
			if with[name] == "" {
				text = strings.TrimSuffix(text, "    with: \n")
			}
			p, err := planText(text, library)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, s := range p.Steps {
				if s.Module != nil {
					continue
				}
				if _, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(s.Script), name); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func planText(text string, library *Library) (*Plan, error) {
	r, err := Parse("x.yaml", []byte(text), ParseOptions{})
	if err != nil {
		return nil, err
	}
	return r.Plan(PlanOptions{Arch: "x86_64", BuildArch: "x86_64", Library: library})
}

// TestPipelinesRun runs what pipelines do to files. In testdata/pipelines.txtar a case is a recipe NAME.yaml, the files
// before as NAME/before (one a line: mode, path, and -> target for a link), and NAME.want: what tools were called, and the
// files after. Every shell of the machine must agree. The portable programs run as programs of the machine.
func TestPipelinesRun(t *testing.T) {
	const golden = "testdata/pipelines.txtar"
	portable := filepath.Join(t.TempDir(), "portable")
	if out, err := exec.Command("go", "build", "-o", portable, "distro.internal/pipelines/portable").CombinedOutput(); err != nil {
		t.Fatalf("building the portable programs: %v\n%s", err, out)
	}
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	library := NewLibrary(pipelines.Files)
	for i := 0; i+2 < len(archive.Files); i += 3 {
		text, before, want := archive.Files[i], archive.Files[i+1], &archive.Files[i+2]
		name := strings.TrimSuffix(text.Name, ".yaml")
		p, err := planText(string(text.Data), library)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, shell := range shells() {
			t.Run(name+"/"+filepath.Base(shell[0]), func(t *testing.T) {
				w := newWorkspace(t, string(before.Data))
				w.portable = portable
				got := w.run(shell, p) + w.files()
				if *update {
					want.Data = []byte(got)
				}
				if d := cmp.Diff(string(want.Data), got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		}
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// shells lists /bin/sh and what else the machine has.
func shells() [][]string {
	var list [][]string
	seen := map[string]bool{}
	for _, s := range [][]string{{"/bin/sh"}, {"dash"}, {"bash"}, {"busybox", "ash"}} {
		file, err := exec.LookPath(s[0])
		if err != nil {
			continue
		}
		real, err := filepath.EvalSymlinks(file)
		if err == nil && !seen[real] {
			seen[real] = true
			list = append(list, append([]string{file}, s[1:]...))
		}
	}
	return list
}

// workspace stands in for /home/build on the machine itself.
type workspace struct {
	t        *testing.T
	dir      string
	bin      string
	tmp      string
	log      string
	portable string // program
}

// tools are programs that only note how they were called.
var tools = []string{
	"cmake", "configure", "gem", "git", "go", "make", "meson", "nproc", "python3", "ruby", "x-strip", "x-ar",
}

func newWorkspace(t *testing.T, before string) *workspace {
	top := t.TempDir()
	w := &workspace{t: t, dir: filepath.Join(top, "build"), bin: filepath.Join(top, "bin"), tmp: filepath.Join(top, "tmp"), log: filepath.Join(top, "log")}
	if err := os.Mkdir(w.tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	fake := "#!/bin/sh\n{ printf %s \"${0##*/}\"; for a; do printf ' %s' \"$a\"; done; echo; } >> " + w.log + "\n"
	for _, tool := range tools {
		w.write(filepath.Join(w.bin, tool), 0o755, fake)
	}
	// Its output is used, and must be the same on every machine.
	w.write(filepath.Join(w.bin, "nproc"), 0o755, "#!/bin/sh\necho 4\n")
	w.write(filepath.Join(w.bin, "ruby"), 0o755, "#!/bin/sh\necho /usr/lib/ruby/gems/3.4.0\n")
	for line := range strings.Lines(before) {
		w.file(strings.TrimSpace(line))
	}
	w.write(w.log, 0o644, "")
	return w
}

// file makes one line of a case: "755 usr/bin/x [content word]" or "link usr/lib/libx.so -> libx.so.1".
func (w *workspace) file(line string) {
	mode, rest, _ := strings.Cut(line, " ")
	path, content, _ := strings.Cut(rest, " ")
	file := filepath.Join(w.dir, path)
	if mode == "link" {
		target := strings.TrimPrefix(content, "-> ")
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			w.t.Fatal(err)
		}
		if err := os.Symlink(target, file); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	var perm fs.FileMode
	if _, err := fmt.Sscanf(mode, "%o", &perm); err != nil {
		w.t.Fatalf("%s: %v", line, err)
	}
	if content == "configure" {
		content = "#!/bin/sh\nexec configure \"$@\"\n"
	}
	w.write(file, perm, elf(content))
}

// elf makes the first bytes of an ELF file from words such as "elf exec x86_64"; other text stays.
func elf(words string) string {
	f := strings.Fields(words)
	if len(f) != 3 || f[0] != "elf" {
		return words
	}
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16] = map[string]byte{"rel": 1, "exec": 2, "dyn": 3}[f[1]]
	b[18] = map[string]byte{"x86_64": 0x3e, "aarch64": 0xb7}[f[2]]
	return string(b)
}

func (w *workspace) write(file string, perm fs.FileMode, content string) {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), perm); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(file, perm); err != nil {
		w.t.Fatal(err)
	}
}

// run runs the plan's steps and returns what the tools noted. Places of this run are named as in the sandbox.
func (w *workspace) run(shell []string, p *Plan) string {
	var out bytes.Buffer
	for _, s := range p.Steps {
		cmd := w.script(shell, s)
		if s.Module != nil {
			cmd = w.module(*s.Module)
		}
		cmd.Dir = strings.Replace(s.Dir, Workspace, w.dir, 1)
		if err := os.MkdirAll(cmd.Dir, 0o777); err != nil {
			w.t.Fatal(err)
		}
		cmd.Env = []string{"PATH=" + w.bin + ":" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + w.tmp, "LC_ALL=C"}
		for _, name := range []string{"AR", "CC", "STRIP", "CROSS_SYSROOT"} {
			if v := p.Environment.Env[name]; v != "" {
				cmd.Env = append(cmd.Env, name+"="+v)
			}
		}
		cmd.Stdout, cmd.Stderr = nil, &out
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(&out, "%s: %v\n", s.Uses, err)
		}
	}
	log, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	text := strings.NewReplacer(w.dir, Workspace, w.bin, "/bin", w.tmp, "/tmp").Replace(out.String() + string(log))
	return temporary.ReplaceAllString(text, "tmp.X")
}

func (w *workspace) script(shell []string, s Step) *exec.Cmd {
	script := strings.ReplaceAll(s.Script, Workspace, w.dir)
	if len(shell) > 1 {
		// Busybox may run its own in place of what stands in PATH, but not in place of functions.
		script = "nproc() { " + w.bin + "/nproc; }\n" + script
	}
	return exec.Command(shell[0], slices.Concat(shell[1:], []string{"-e", "-c", script})...)
}

func (w *workspace) module(m Module) *exec.Cmd {
	cmd := exec.Command(w.portable)
	cmd.Args = []string{m.Name}
	for _, key := range slices.Sorted(maps.Keys(m.With)) {
		cmd.Args = append(cmd.Args, "--"+key+"="+strings.ReplaceAll(m.With[key], Workspace, w.dir))
	}
	return cmd
}

var temporary = regexp.MustCompile(`tmp\.\w+`)

// files lists the workspace.
func (w *workspace) files() string {
	var b strings.Builder
	err := filepath.WalkDir(w.dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.dir, file)
		switch info, _ := d.Info(); {
		case d.IsDir():
			if entries, _ := os.ReadDir(file); len(entries) > 0 {
				return nil
			}
			fmt.Fprintf(&b, "dir %s\n", name)
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(file)
			fmt.Fprintf(&b, "link %s -> %s\n", name, target)
		default:
			fmt.Fprintf(&b, "%o %s\n", info.Mode().Perm(), name)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}
