package main

import (
	"cmp"
	machine "debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"distro.internal/pipelines/portable/elf"
)

// arch is this machine's.
var arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]

// corpusVariable names folders, with colons between them, whose files are all compared. Without it only some are.
const corpusVariable = "STRIP_CORPUS"

// stripPrograms are the programs of binutils that are there, by whose files they strip.
func stripPrograms() map[machine.Machine]string {
	programs := make(map[machine.Machine]string)
	for name, m := range machines {
		command := name + "-linux-gnu-strip"
		if name == arch {
			command = "strip"
		}
		if program, err := exec.LookPath(command); err == nil {
			programs[m] = program
		}
	}
	return programs
}

// TestStripLikeBinutils: of the machine's own programs and libraries the strip of binutils leaves the same sections and
// symbols, and as many bytes but for one in a hundred.
func TestStripLikeBinutils(t *testing.T) {
	programs := stripPrograms()
	if programs[machines[arch]] == "" {
		t.Skip("there is no strip to compare with")
	}
	files := corpus(t, programs)
	if len(files) == 0 {
		t.Fatal("there are no files to compare")
	}
	for _, opts := range []string{"-g", "--strip-unneeded", "--strip-all"} {
		t.Run(opts, func(t *testing.T) {
			options, err := stripOptions([]string{opts})
			must(t, err)
			theirs := filepath.Join(t.TempDir(), "theirs")
			for file, m := range files {
				// Notes of compilers, which it would merge, stay as they are.
				if out, err := exec.Command(programs[m], opts, "--no-merge-notes", "-o", theirs, file).CombinedOutput(); err != nil {
					t.Logf("%s: %v: %s", file, err, out)
					continue
				}
				compare(t, file, options, theirs)
			}
			t.Logf("%d files compared", len(files))
		})
	}
}

// corpus lists files for which there is a program, with their machines. Of folders that somebody named nothing is left out:
// there a program that is missing is an error.
func corpus(t *testing.T, programs map[machine.Machine]string) map[string]machine.Machine {
	files := samples(t)
	folders, most := []string{"/usr/bin", "/usr/lib"}, 8
	if list := os.Getenv(corpusVariable); list != "" {
		folders, most = filepath.SplitList(list), 1<<30
	}
	left := make(map[machine.Machine]int)
	for _, folder := range folders {
		n := 0
		filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || n == most {
				return nil
			}
			if f, err := machine.Open(file); err == nil {
				switch finished := f.Type == machine.ET_DYN || f.Type == machine.ET_EXEC; {
				case finished && programs[f.Machine] != "":
					files[file] = f.Machine
					n++
				case finished:
					left[f.Machine]++
				}
				f.Close()
			}
			return nil
		})
	}
	for name, m := range machines {
		if left[m] == 0 {
			continue
		}
		report := t.Logf
		if os.Getenv(corpusVariable) != "" {
			report = t.Errorf
		}
		report("%d files of %s are not compared: there is no %s-linux-gnu-strip", left[m], name, name)
	}
	return files
}

const source = `
#include <stdio.h>
static int once(int x) { return x + 1; }
int twice(int x) { return once(once(x)); }
int main(void) { printf("%d\n", twice(40)); return 0; }
`

// samples are programs with everything in them, when the machine has a compiler.
func samples(t *testing.T) map[string]machine.Machine {
	files := make(map[string]machine.Machine)
	cc, err := exec.LookPath("cc")
	if err != nil {
		return files
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.c"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, flags := range []string{"-g", "-g -no-pie", "-g -static", "-g -shared -fPIC", "-g -Wl,-q", "-g3 -gz"} {
		file := filepath.Join(dir, fmt.Sprintf("sample%d", i))
		cmd := exec.Command(cc, append(strings.Fields(flags), "-o", file, "x.c")...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("cc %s: %s", flags, out)
			continue
		}
		files[file] = machines[arch]
	}
	return files
}

func compare(t *testing.T, file string, o elf.Options, theirs string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stripped, err := elf.Strip(data, o)
	if err != nil {
		t.Errorf("%s: %v", file, err)
		return
	}
	ours := filepath.Join(t.TempDir(), "ours")
	if err := os.WriteFile(ours, stripped, 0o755); err != nil {
		t.Fatal(err)
	}
	before := segments(t, file)
	if diff := firstDifference(before, segments(t, ours)); diff != "" {
		t.Errorf("%s: its segments differ: %s", file, diff)
	}
	want, madeUp := outline(t, theirs)
	got, _ := outline(t, ours)
	// Tools that change finished programs move what had to grow, and leave what no section names in its place. Binutils
	// puts such sections into another order, and takes away the rest; here what is loaded stays.
	moved := firstDifference(before, segments(t, theirs)) != ""
	if moved {
		slices.Sort(want)
		slices.Sort(got)
	}
	if diff := firstDifference(want, got); diff != "" {
		t.Errorf("%s: its outline differs: %s", file, diff)
	}
	checkPlaces(t, file, ours)
	if diff := firstDifference(places(t, theirs), places(t, ours)); diff != "" && !moved {
		t.Errorf("%s: what lies where differs: %s", file, diff)
	}
	info, err := os.Stat(theirs)
	if err != nil || moved {
		must(t, err)
		return
	}
	size := info.Size() - int64(madeUp)
	if d := int64(len(stripped)) - size; d*100 > size || -d*100 > size {
		t.Errorf("%s: %d bytes, and %d from binutils, %d of them made up", file, len(stripped), info.Size(), madeUp)
	}
}

// firstDifference says where two lists begin to differ; it is empty when they do not.
func firstDifference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		if w, g := at(want, i), at(got, i); w != g {
			return fmt.Sprintf("line %d is %q, want %q", i, g, w)
		}
	}
	return ""
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}

// segments is what of a file is loaded where.
func segments(t *testing.T, file string) (lines []string) {
	f, err := machine.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		lines = append(lines, fmt.Sprintf("%v %v %#x %#x %#x", p.Type, p.Flags, p.Vaddr, p.Filesz, p.Memsz))
	}
	return lines
}

// places is the order in which sections lie in a file, those that are loaded with their places in a page (which page it is
// depends on how closely segments move together), and which of them each segment covers. What is not loaded lies wherever there is room; relocations among it, which binutils puts behind all else
// whatever their number is, are left out.
func places(t *testing.T, file string) (lines []string) {
	f, err := machine.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range inFile(f) {
		switch loaded := s.Flags&machine.SHF_ALLOC != 0; {
		case loaded:
			lines = append(lines, fmt.Sprintf("%s %#x", s.Name, s.Offset%4096))
		case s.Type != machine.SHT_REL && s.Type != machine.SHT_RELA:
			lines = append(lines, s.Name)
		}
	}
	for _, p := range f.Progs {
		covered := []string{}
		for _, s := range f.Sections {
			if s.Flags&machine.SHF_ALLOC != 0 && s.Addr >= p.Vaddr && s.Addr+s.Size <= p.Vaddr+p.Memsz {
				covered = append(covered, s.Name)
			}
		}
		lines = append(lines, fmt.Sprintf("%v at %#x: %s", p.Type, p.Off%4096, strings.Join(covered, " ")))
	}
	return lines
}

// inFile lists the sections that have bytes in a file, by their places.
func inFile(f *machine.File) []*machine.Section {
	var list []*machine.Section
	for _, s := range f.Sections {
		if s.Type != machine.SHT_NULL && s.Type != machine.SHT_NOBITS && s.FileSize > 0 {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b *machine.Section) int { return cmp.Compare(a.Offset, b.Offset) })
	return list
}

// checkPlaces is what holds for any file: sections lie as they ask to be aligned, not in each other, those that are loaded
// where their segments have them, and segments where the kernel can map them.
func checkPlaces(t *testing.T, name, file string) {
	f, err := machine.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	end := uint64(0)
	for _, s := range inFile(f) {
		if s.Addralign > 1 && s.Offset%s.Addralign != 0 {
			t.Errorf("%s: %s at %#x is not aligned to %#x", name, s.Name, s.Offset, s.Addralign)
		}
		if s.Offset < end {
			t.Errorf("%s: %s at %#x lies in what goes to %#x", name, s.Name, s.Offset, end)
		}
		end = s.Offset + s.FileSize
	}
	for _, p := range f.Progs {
		if p.Type == machine.PT_LOAD && p.Align > 1 && p.Off%p.Align != p.Vaddr%p.Align {
			t.Errorf("%s: the segment for %#x cannot be mapped from %#x", name, p.Vaddr, p.Off)
		}
		for _, s := range f.Sections {
			if p.Type == machine.PT_LOAD && s.Flags&machine.SHF_ALLOC != 0 && s.Flags&machine.SHF_TLS == 0 && s.Type != machine.SHT_NOBITS &&
				s.Addr >= p.Vaddr && s.Addr < p.Vaddr+p.Filesz && s.Offset-p.Off != s.Addr-p.Vaddr {
				t.Errorf("%s: %s at %#x is not where its segment at %#x has %#x", name, s.Name, s.Offset, p.Off, s.Addr)
			}
		}
	}
}

// outline is what a file has: sections and symbols. Where sections lie that are not loaded is left out, and what
// binutils says of symbols of the linker beside variables of threads; and, where nothing relates to them, symbols of
// sections, which binutils makes up for some machines (aarch64 is one): so many bytes it is.
func outline(t *testing.T, file string) (lines []string, madeUp int) {
	f, err := machine.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range f.Sections {
		size := s.Size
		if s.Flags&machine.SHF_ALLOC == 0 && (s.Type == machine.SHT_STRTAB || s.Type == machine.SHT_SYMTAB) {
			size = 0
		}
		lines = append(lines, fmt.Sprintf("%s %v %v %#x %d %d", s.Name, s.Type, s.Flags&^machine.SHF_INFO_LINK, s.Addr, size, s.Entsize))
	}
	symbols, err := f.Symbols()
	if err != nil && !errors.Is(err, machine.ErrNoSymbols) {
		t.Fatal(err)
	}
	related := slices.ContainsFunc(f.Sections, func(s *machine.Section) bool {
		return (s.Type == machine.SHT_REL || s.Type == machine.SHT_RELA) && s.Flags&machine.SHF_ALLOC == 0
	})
	for _, s := range symbols {
		if machine.ST_TYPE(s.Info) == machine.STT_SECTION && !related {
			madeUp += machine.Sym64Size
			continue
		}
		section := s.Section.String()
		if int(s.Section) < len(f.Sections) {
			section = f.Sections[s.Section].Name
		}
		lines = append(lines, fmt.Sprintf("%s %v %#x %d %s", s.Name, machine.ST_BIND(s.Info), s.Value, s.Size, section))
	}
	return lines, madeUp
}

// TestStripFiles: what is stripped still runs; other names, modes and what is not for this machine stay.
func TestStripFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o644), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(dir, "own")
	compile(t, own, runtime.GOARCH)
	compile(t, filepath.Join(dir, "foreign"), "s390x")
	write("script", "#!/bin/sh\n", 0o755)
	write("cut", "\x7fELF", 0o755)
	must(t, os.Link(own, filepath.Join(dir, "other-name")), os.Chmod(own, 0o555|os.ModeSetuid), os.Symlink("own", filepath.Join(dir, "link")))
	before, foreign := size(t, own), size(t, filepath.Join(dir, "foreign"))
	must(t, strip([]string{"--dir=" + dir, "--arch=" + arch, "--opts=-s"}))

	if n := size(t, own); n >= before {
		t.Errorf("it had %d bytes, and has %d", before, n)
	}
	if n := size(t, filepath.Join(dir, "foreign")); n != foreign {
		t.Errorf("the program of another machine had %d bytes, and has %d", foreign, n)
	}
	a, errA := os.Stat(own)
	b, errB := os.Stat(filepath.Join(dir, "other-name"))
	must(t, errA, errB)
	if !os.SameFile(a, b) || a.Mode() != 0o555|os.ModeSetuid {
		t.Errorf("it has mode %v, and is no longer the file of its other name", a.Mode())
	}
	if out, err := exec.Command(own).CombinedOutput(); err != nil || string(out) != "runs\n" {
		t.Errorf("%v, %q", err, out)
	}
	f, err := machine.Open(own)
	must(t, err)
	defer f.Close()
	if slices.ContainsFunc(f.Sections, func(s *machine.Section) bool { return s.Name == ".symtab" }) {
		t.Error("it has symbols")
	}
}

// compile makes a program that says runs.
func compile(t *testing.T, file, goarch string) {
	t.Helper()
	main := filepath.Join(t.TempDir(), "main.go")
	must(t, os.WriteFile(main, []byte("package main\nfunc main() { println(\"runs\") }\n"), 0o644))
	cmd := exec.Command("go", "build", "-o", file, main)
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0", "GOARCH="+goarch)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func size(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info.Size()
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
