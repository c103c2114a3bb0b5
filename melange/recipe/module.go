package recipe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"distro.internal/pipelines"
	"distro.internal/shared/document"
)

// Module is the WebAssembly program of a portable step.
type Module struct {
	Name string // of a built-in program, or the file as it was written

	// Identity tells what the program does: of a built-in one its name and version, so that compiling it anew makes
	// nothing else of a recipe; of a file its SHA-256.
	Identity string

	With map[string]string // its arguments
	Data []byte            `json:"-"` // of a file; nil for a built-in program
}

// portable plans a step that is a portable program.
func (p *planner) portable(n *PipelineStep, f frame, r *run) {
	name, ok := p.try(n.Wasm, f.scope)
	if !ok {
		return
	}
	m := &Module{Name: name, With: map[string]string{}}
	if strings.HasPrefix(name, "./") {
		ok = p.file(m, n, f)
	} else {
		ok = p.program(m, n)
	}
	p.merge(m.With, n.With, f.scope)
	for _, o := range n.Options {
		if o.Value == optionNetwork {
			p.errs.Add(o.Pos, "", "a portable step has no network")
		}
	}
	s := p.step(n, f)
	s.Module, s.ScriptPos = m, n.Wasm.Pos
	if ok {
		r.steps = append(r.steps, s)
	}
}

// program finds a built-in one.
func (p *planner) program(m *Module, n *PipelineStep) bool {
	version, ok := pipelines.Programs[m.Name]
	if ok {
		m.Identity = fmt.Sprintf("%s/%d", m.Name, version)
		return true
	}
	hint := document.DidYouMean(m.Name, slices.Sorted(maps.Keys(pipelines.Programs)))
	if strings.HasSuffix(m.Name, ".wasm") {
		hint = "a file begins with ./"
	}
	p.errs.Add(n.Wasm.Pos, hint, "unknown portable program %q", m.Name)
	return false
}

// magic is how a WebAssembly module of the only version there is begins.
var magic = []byte("\x00asm\x01\x00\x00\x00")

// file reads a module from the recipe's own files, or from beside the pipeline that has the step.
func (p *planner) file(m *Module, n *PipelineStep, f frame) bool {
	file := path.Clean(m.Name)
	var where string
	var err error
	switch {
	case !fs.ValidPath(file):
		p.errs.Add(n.Wasm.Pos, "", "%s leads out of its folder", m.Name)
		return false
	case len(f.uses) > 0:
		pipeline := f.uses[len(f.uses)-1]
		where = "beside the pipeline " + pipeline
		m.Data, err = p.options.Library.module(pipeline, file)
	default:
		where = "in " + p.Name + "/, the folder of the recipe's own files"
		m.Data, err = p.ownFile(file)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.errs.Add(n.Wasm.Pos, "", "there is no %s %s", file, where)
	case err != nil:
		p.errs.Add(n.Wasm.Pos, "", "reading %s: %v", m.Name, err)
	case !bytes.HasPrefix(m.Data, magic):
		p.errs.Add(n.Wasm.Pos, "", "%s is not a WebAssembly module", m.Name)
	default:
		sum := sha256.Sum256(m.Data)
		m.Identity = "sha256:" + hex.EncodeToString(sum[:])
		return true
	}
	return false
}

// ownFile reads one of the recipe's own files.
func (p *planner) ownFile(file string) ([]byte, error) {
	if p.options.Dir == nil || !fs.ValidPath(p.Name) {
		return nil, fs.ErrNotExist
	}
	return fs.ReadFile(p.options.Dir, path.Join(p.Name, file))
}
