//go:build judge

package policy

import (
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The judge of what becomes of a library's symbols is libabigail's abidiff, named
// by the environment variable ABIDIFF. It is asked of libraries of this machine
// by twos, which have little or much in common, and of ones that gcc makes.

// deviant are libraries of which abidiff speaks otherwise, and why.
var deviant = map[string]string{
	"libc.so.6": "with debug information it takes names of one function for one, of which another library has only some",
}

func TestJudgeLibraries(t *testing.T) {
	var libraries []string
	for _, dir := range []string{"/usr/lib/*-linux-gnu/*.so.[0-9]*", "/usr/lib/*-linux-gnu/*/*.so.[0-9]*"} {
		found, err := filepath.Glob(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			info, err := os.Lstat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().IsRegular() && info.Size() < 8<<20 {
				libraries = append(libraries, name)
			}
		}
	}
	pairs, removed := 0, 0
	for i := range libraries[1:] {
		if deviant[filepath.Base(libraries[i])] != "" {
			continue
		}
		removed += againstAbidiff(t, libraries[i], libraries[i+1])
		pairs++
	}
	t.Logf("%d pairs, %d symbols gone, and abidiff says the same", pairs, removed)
	if removed == 0 {
		t.Error("nothing was compared")
	}
}

// TestJudgeChanges lets gcc make libraries of functions and variables, with and without versions, and change them.
func TestJudgeChanges(t *testing.T) {
	removed := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		versions := seed%2 == 0
		old, now := compileLibrary(t, dir, "old", r, versions), compileLibrary(t, dir, "new", r, versions)
		removed += againstAbidiff(t, old, now)
	}
	t.Logf("%d symbols gone or changed, and abidiff says the same", removed)
}

// compileLibrary makes a library of half of ten functions and ten variables, which have one of three sizes.
func compileLibrary(t *testing.T, dir, name string, r *rand.Rand, versions bool) string {
	t.Helper()
	var code, script strings.Builder
	var named []string
	for i := range 10 {
		if r.IntN(2) == 0 {
			fmt.Fprintf(&code, "int f%d(int x) { return x + %d; }\n", i, i)
			named = append(named, fmt.Sprintf("f%d", i))
		}
		if r.IntN(2) == 0 {
			fmt.Fprintf(&code, "char v%d[%d] = {1};\n", i, 8<<r.IntN(3))
			named = append(named, fmt.Sprintf("v%d", i))
		}
	}
	source, object, mapFile := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so"), filepath.Join(dir, name+".map")
	args := []string{"-g", "-shared", "-fPIC", "-Wl,-soname,libx.so.1", "-o", object, source}
	if versions && len(named) > 1 {
		cut := r.IntN(len(named)-1) + 1
		fmt.Fprintf(&script, "V1 { global: %s; local: *; };\nV2 { global: %s; } V1;\n", strings.Join(named[:cut], "; "), strings.Join(named[cut:], "; "))
		args = append(args, "-Wl,--version-script="+mapFile)
	}
	for file, text := range map[string]string{source: code.String(), mapFile: script.String()} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return object
}

var changedSize = regexp.MustCompile(`size of symbol changed from (\d+) to (\d+)`)

// againstAbidiff compares what is gone, and how many variables have another size. It returns how many.
func againstAbidiff(t *testing.T, old, now string) int {
	t.Helper()
	out, err := exec.Command(os.Getenv("ABIDIFF"), "--no-added-syms", "--redundant", old, now).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		t.Fatal(err)
	}
	var theirs []string
	resized := 0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  [D] ") {
			theirs = append(theirs, goneSymbols(line)...)
		}
		if changedSize.MatchString(line) {
			resized++
		}
	}
	var ours []string
	ourResized := 0
	for _, d := range differences(exportsOf(t, old), exportsOf(t, now)) {
		if d.how == "" {
			ours = append(ours, d.symbol.String())
		} else if d.symbol.Data {
			ourResized++
		}
	}
	slices.Sort(theirs)
	theirs = slices.Compact(theirs) // an alias of two is told twice
	slices.Sort(ours)
	if !slices.Equal(ours, theirs) {
		t.Errorf("%s, %s: only abidiff: %v; only we: %v", old, now, without(theirs, ours), without(ours, theirs))
	}
	if debugged := strings.HasSuffix(old, "old.so"); debugged && resized != ourResized {
		t.Errorf("%s, %s: abidiff finds %d variables of another size, we %d\n%s", old, now, resized, ourResized, out)
	}
	return len(ours) + ourResized
}

func asExit(err error, to **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*to = e
	return ok
}

// goneSymbols takes the symbols out of a line: "[D] name@@V", "[D] name, aliases other, third",
// "[D] 'function int f(int)'    {f@@V}". What linkers add is left out.
func goneSymbols(line string) []string {
	text := strings.TrimPrefix(line, "  [D] ")
	if _, braces, ok := strings.Cut(text, "{"); ok {
		text = strings.TrimSuffix(braces, "}")
	}
	list := strings.Split(strings.Replace(text, "aliases ", "", 1), ", ")
	return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(linkers, s) })
}

func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

func exportsOf(t *testing.T, name string) []Symbol {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scratch, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	o, err := readObject(f, scratch)
	if err != nil {
		t.Fatal(err)
	}
	if o == nil {
		return nil
	}
	typed := typedSymbols(t, scratch)
	return slices.DeleteFunc(o.Exports, func(s Symbol) bool { return !typed[s.Name] })
}

// typedSymbols are those that abidiff looks at: assembly written by hand often says neither function nor variable.
func typedSymbols(t *testing.T, file *os.File) map[string]bool {
	t.Helper()
	f, err := elf.NewFile(file)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	typed := map[string]bool{}
	for _, s := range symbols {
		typed[s.Name] = typed[s.Name] || elf.ST_TYPE(s.Info) != elf.STT_NOTYPE
	}
	return typed
}
