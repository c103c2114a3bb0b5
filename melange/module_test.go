package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"
)

// module compiles a portable step: module FILE.wasm FILE.go.
func module(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: module FILE.wasm FILE.go")
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	cmd := exec.Command("go", "build", "-trimpath", "-o", ts.MkAbs(args[0]), ts.MkAbs(args[1]))
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	ts.Check(err)
}

// static tells whether these tests are a program without a loader, as the tools are when make builds them.
func static() (bool, error) {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false, err
	}
	defer program.Close()
	return !slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}
