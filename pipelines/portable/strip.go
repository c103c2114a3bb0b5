package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	machine "debug/elf"

	"distro.internal/pipelines/portable/ar"
	"distro.internal/pipelines/portable/elf"
)

// machines are the architectures of ELF files by those of packages.
var machines = map[string]machine.Machine{
	"aarch64":     machine.EM_AARCH64,
	"armhf":       machine.EM_ARM,
	"armv7":       machine.EM_ARM,
	"loongarch64": machine.EM_LOONGARCH,
	"ppc64le":     machine.EM_PPC64,
	"riscv64":     machine.EM_RISCV,
	"s390x":       machine.EM_S390,
	"x86":         machine.EM_386,
	"x86_64":      machine.EM_X86_64,
}

// stripper drops what a package does not need from its programs and libraries.
type stripper struct {
	machine  machine.Machine
	options  elf.Options
	archives bool
}

// strip drops from all programs and shared libraries of a package, that are not firmware for another machine, what its
// options say; and on request from the objects in static libraries what only debuggers read.
func strip(args []string) error {
	var s stripper
	f := flag.NewFlagSet("strip", flag.ContinueOnError)
	dir := f.String("dir", "", "folder of the package")
	arch := f.String("arch", "", "architecture of the package")
	words := f.String("opts", "-g", "what to drop")
	f.BoolVar(&s.archives, "archives", false, "static libraries too")
	if err := parse(f, args); err != nil {
		return err
	}
	var known bool
	if s.machine, known = machines[*arch]; !known {
		return fmt.Errorf("unknown architecture %s", *arch)
	}
	var err error
	if s.options, err = stripOptions(strings.Fields(*words)); err != nil {
		return err
	}
	return filepath.WalkDir(*dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if err := s.file(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
}

// stripSymbols are the words that say which symbols go, the last of them counts.
var stripSymbols = map[string]elf.Symbols{
	"-g": elf.Debugging, "-S": elf.Debugging, "-d": elf.Debugging, "--strip-debug": elf.Debugging,
	"--strip-unneeded": elf.Unneeded,
	"-s":               elf.All, "--strip-all": elf.All,
}

// Words that are already true of what is done here, or concern nothing that packages keep.
var stripAnyway = []string{"-p", "--preserve-dates", "-D", "--enable-deterministic-archives"}

const (
	stripLocals  = "-x"
	stripSection = "-R"
	longLocals   = "--discard-all"
	longSection  = "--remove-section="
)

func stripOptions(words []string) (elf.Options, error) {
	var o elf.Options
	var patterns []string
	for i := 0; i < len(words); i++ {
		word := words[i]
		symbols, found := stripSymbols[word]
		pattern, long := strings.CutPrefix(word, longSection)
		switch {
		case found:
			o.Symbols = symbols
		case word == stripLocals || word == longLocals:
			o.Locals = true
		case long:
			patterns = append(patterns, pattern)
		case word == stripSection && i+1 < len(words):
			i++
			patterns = append(patterns, words[i])
		case slices.Contains(stripAnyway, word):
		default:
			all := slices.Sorted(maps.Keys(stripSymbols))
			all = append(append(all, stripLocals, longLocals, stripSection+" SECTION", longSection+"SECTION"), stripAnyway...)
			return o, fmt.Errorf("unknown option %q; there are %s", word, strings.Join(all, " "))
		}
	}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return o, fmt.Errorf("section %s: %w", p, err)
		}
	}
	o.Sections = func(name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { yes, _ := path.Match(p, name); return yes })
	}
	return o, nil
}

// file strips one, if it is of the right kind. A file with several names is stripped more than once, which changes nothing.
func (s stripper) file(name string) error {
	var change func([]byte) ([]byte, error)
	data, err := readIf(name, func(head []byte) bool {
		change = s.changes(head)
		return change != nil
	})
	if err != nil || data == nil {
		return err
	}
	stripped, err := change(data)
	if err != nil || stripped == nil || bytes.Equal(stripped, data) {
		return err
	}
	return overwrite(name, stripped)
}

// readIf reads a file if it is wanted, which its first bytes decide; else it is nil.
func readIf(name string, wanted func(head []byte) bool) ([]byte, error) {
	f, err := openReadable(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, elf.IdentitySize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if !wanted(head[:n]) {
		return nil, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size()) // to grow it would be to copy it again and again
	copy(data, head[:n])
	_, err = io.ReadFull(f, data[n:])
	return data, err
}

// changes is what to do with a file that begins so; nil for nothing.
func (s stripper) changes(head []byte) func([]byte) ([]byte, error) {
	if id, ok := elf.Identify(head); ok {
		program := id.Type == machine.ET_EXEC || id.Type == machine.ET_DYN
		if program && id.Machine == s.machine && id.OSABI != machine.ELFOSABI_STANDALONE {
			return func(data []byte) ([]byte, error) { return elf.Strip(data, s.options) }
		}
		return nil
	}
	if s.archives && bytes.HasPrefix(head, []byte(ar.Magic)) {
		return s.archive
	}
	return nil
}

// archive strips the objects of a static library, and takes away who made it when.
func (s stripper) archive(data []byte) ([]byte, error) {
	return ar.Rewrite(data, func(member []byte) ([]byte, error) {
		if id, ok := elf.Identify(member); !ok || id.Type != machine.ET_REL {
			return member, nil
		}
		stripped, err := elf.Strip(member, elf.Options{Symbols: elf.Debugging})
		if stripped == nil {
			return member, err
		}
		return stripped, err
	})
}

// openReadable opens a file that its owner may not be able to read.
func openReadable(name string) (*os.File, error) {
	f, err := os.Open(name)
	if !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	bits, err := modeOf(name)
	if err == nil {
		err = setMode(name, bits|0o400)
	}
	if err != nil {
		return nil, err
	}
	f, err = os.Open(name)
	return f, errors.Join(err, setMode(name, bits))
}

// overwrite gives a file another content, and leaves it its names, owner and mode.
func overwrite(name string, data []byte) error {
	bits, err := modeOf(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		if err := setMode(name, bits|0o200); err != nil {
			return err
		}
		f, err = os.OpenFile(name, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Truncate(int64(len(data))), f.Close()); err != nil {
		return err
	}
	return setMode(name, bits) // writing takes setuid bits away
}
