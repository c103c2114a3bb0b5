package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"

	machine "debug/elf"

	"distro.internal/pipelines/portable/elf"
)

// debugFolder is where debuggers look for what was taken out of a file, below it by the file's own path.
const debugFolder = "usr/lib/debug"

// splitDebug takes what only debuggers read out of programs and libraries, and leaves a link to it.
func splitDebug(args []string) error {
	var s split
	f := flag.NewFlagSet("split/debug", flag.ContinueOnError)
	s.register(f)
	if err := parse(f, args); err != nil {
		return err
	}
	if there, err := s.check(); !there {
		return err
	}
	files, err := s.find([]string{"."}, func(_ string, d fs.DirEntry) (bool, bool) { return d.Type().IsRegular(), false })
	if err != nil {
		return err
	}
	d := debugSplit{split: s}
	for _, name := range files {
		if err := d.file(name); err != nil {
			return fmt.Errorf("%s: %w", s.source(name), err)
		}
	}
	return nil
}

type debugSplit struct {
	split
	done []splitFile
}

// splitFile is a file that was split. A second name of it must not split it again.
type splitFile struct {
	info  fs.FileInfo
	debug string
}

func (d *debugSplit) file(name string) error {
	info, err := os.Lstat(d.source(name))
	if err != nil {
		return err
	}
	debug := path.Join(d.to, debugFolder, name+".debug")
	for _, other := range d.done {
		if os.SameFile(info, other.info) {
			if err := os.MkdirAll(path.Dir(debug), 0o755); err != nil {
				return err
			}
			return os.Link(other.debug, debug)
		}
	}
	data, err := readProgram(d.source(name))
	if err != nil || data == nil {
		return err
	}
	content, err := elf.Debug(data)
	if err != nil || content == nil {
		return err
	}
	stripped, err := elf.Strip(data, elf.Options{
		Symbols:  elf.Unneeded,
		Sections: func(name string) bool { return name == ".comment" },
		Link:     elf.Link(path.Base(debug), content),
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path.Dir(debug), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(debug, content, 0o644); err != nil {
		return err
	}
	d.done = append(d.done, splitFile{info, debug})
	return overwrite(d.source(name), stripped)
}

// readProgram reads a program or shared library; nil when it is neither.
func readProgram(name string) ([]byte, error) {
	return readIf(name, func(head []byte) bool {
		id, ok := elf.Identify(head)
		return ok && (id.Type == machine.ET_EXEC || id.Type == machine.ET_DYN)
	})
}
