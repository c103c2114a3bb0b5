package main

import (
	machine "debug/elf"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestSplitDebug: what debuggers read is in a file that the program names, by a sum of its content; the program still runs,
// and its second name was not split again.
func TestSplitDebug(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "x"), filepath.Join(dir, "x-dbg")
	must(t, os.MkdirAll(filepath.Join(from, "usr/bin"), 0o755))
	program := filepath.Join(from, "usr/bin/program")
	compile(t, program, runtime.GOARCH)
	must(t, os.Link(program, filepath.Join(from, "usr/bin/alias")), os.WriteFile(filepath.Join(from, "usr/bin/script"), []byte("#!/bin/sh\n"), 0o755))
	must(t, splitDebug([]string{"--from=" + from, "--to=" + to, "--name=x-dbg"}))

	if out, err := exec.Command(program).CombinedOutput(); err != nil || string(out) != "runs\n" {
		t.Errorf("%v, %q", err, out)
	}
	debug := filepath.Join(to, "usr/lib/debug/usr/bin/program.debug")
	f, err := machine.Open(debug)
	must(t, err)
	defer f.Close()
	if _, err := f.DWARF(); err != nil {
		t.Error(err)
	}
	if s := f.Section(".text"); s == nil || s.Type != machine.SHT_NOBITS || s.Addr == 0 {
		t.Errorf("the program's text in the other file: %v", s)
	}
	if symbols, err := f.Symbols(); err != nil || len(symbols) == 0 {
		t.Errorf("%d symbols, %v", len(symbols), err)
	}
	content, err := os.ReadFile(debug)
	must(t, err)
	stripped, err := machine.Open(program)
	must(t, err)
	defer stripped.Close()
	link, err := stripped.Section(".gnu_debuglink").Data()
	must(t, err)
	// The first alphabetically has the name.
	want := binary.NativeEndian.AppendUint32([]byte("alias.debug\x00"), crc32.ChecksumIEEE(content))
	if string(link) != string(want) {
		t.Errorf("the link is %q, want %q", link, want)
	}
	a, errA := os.Stat(debug)
	b, errB := os.Stat(filepath.Join(to, "usr/lib/debug/usr/bin/alias.debug"))
	must(t, errA, errB)
	if !os.SameFile(a, b) {
		t.Error("the second name has a file of its own")
	}
}
