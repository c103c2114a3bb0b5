package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"distro.internal/shared/document"
)

// Library finds pipelines, the files that uses: names, and remembers what it has read. The first folder that has the
// file wins whole. One library serves any number of plans at the same time; its folders must not change meanwhile.
type Library struct {
	*shelf
	note func(file string) // may be nil
}

// A shelf is what all views of a library share.
type shelf struct {
	folders []fs.FS

	mu      sync.Mutex
	read    map[string]*entry
	modules map[string][]byte // by the path of the file
}

type entry struct {
	step   *PipelineStep
	folder fs.FS // that has the file
	err    error
}

// NewLibrary looks in the folders in order; the built-in pipelines come last.
func NewLibrary(folders ...fs.FS) *Library {
	return &Library{shelf: &shelf{folders: folders, read: map[string]*entry{}, modules: map[string][]byte{}}}
}

// Noting returns the library as seen by one who wants to know what of it was asked for: note is told the name of each
// file, which may be in one of the folders or in none.
func (l *Library) Noting(note func(file string)) *Library { return &Library{l.shelf, note} }

// errNoPipeline means that no folder has the file.
var errNoPipeline = errors.New("no such pipeline")

// pipeline reads uses: name. The error is errNoPipeline or one with a place of its own.
func (l *Library) pipeline(name string) (*PipelineStep, error) {
	l.noted(name + ".yaml")
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.read[name]
	if e == nil {
		e = l.load(name)
		l.read[name] = e
	}
	return e.step, e.err
}

// module reads a file that lies beside the pipeline of a name, which was read before.
func (l *Library) module(pipeline, file string) ([]byte, error) {
	file = path.Join(path.Dir(pipeline), file)
	l.noted(file)
	l.mu.Lock()
	defer l.mu.Unlock()
	if data, ok := l.modules[file]; ok {
		return data, nil
	}
	data, err := fs.ReadFile(l.read[pipeline].folder, file)
	if err == nil {
		l.modules[file] = data
	}
	return data, err
}

func (l *Library) noted(file string) {
	if l.note != nil && fs.ValidPath(file) {
		l.note(file)
	}
}

func (l *Library) load(name string) *entry {
	file := name + ".yaml"
	if !fs.ValidPath(file) {
		return &entry{err: errNoPipeline}
	}
	for _, folder := range l.folders {
		data, err := fs.ReadFile(folder, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return &entry{err: fmt.Errorf("reading pipeline %s: %w", name, err)}
		}
		step, err := parsePipeline(path.Join("pipelines", file), data)
		return &entry{step, folder, err}
	}
	return &entry{err: errNoPipeline}
}

// parsePipeline reads a pipeline file. Keys it does not know are ignored: such files carry documentation of their own.
func parsePipeline(file string, data []byte) (*PipelineStep, error) {
	doc, err := document.Parse(file, data)
	if err != nil {
		return nil, err
	}
	step := &PipelineStep{Pos: document.Pos{File: file}}
	var errs document.ErrorList
	errs.AddError(step.Pos, doc.DecodeKnown(step))
	for i := range step.Inputs {
		step.Inputs[i].Value.name = "inputs." + step.Inputs[i].Key.Value
	}
	checkSteps(&errs, []PipelineStep{*step})
	return step, errs.Err()
}

// Names lists every pipeline of the library, sorted.
func (l *Library) Names() []string {
	var names []string
	for _, folder := range l.folders {
		// A folder that cannot be listed has no names to offer; its files may still be readable.
		_ = fs.WalkDir(folder, ".", func(file string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(file, ".yaml") {
				names = append(names, strings.TrimSuffix(file, ".yaml"))
			}
			return nil
		})
	}
	slices.Sort(names)
	return slices.Compact(names)
}
