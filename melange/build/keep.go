package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/cas"
)

// A kept workspace is the folder of a build or test that outlives it: the workspace, all that the steps have written
// elsewhere in the root, and a record of how to enter the very same environment again. There is one for each package
// and architecture, and no more than keptMost of them.
//
// A build can go on in one, from any step that it has come to. What comes of that is not kept as the result of the
// recipe, though: whatever was tried out in the workspace, and what the failed step left, is in it.

// Keep says when a workspace is kept.
type Keep string

const (
	KeepNever  Keep = ""
	KeepFailed Keep = "failed" // when a step fails, or nothing can be made of what the steps left
	KeepAlways Keep = "always" // in any case; the steps run although their result is there
)

// keptMost bounds how many workspaces are kept.
const keptMost = 4

// keptFile is the record of a kept workspace. A folder without one is not kept.
const keptFile = "kept.json"

// keptRecord is what there is to know of a kept workspace.
type keptRecord struct {
	Inputs []byte      // a key, of all that each step depends on
	Steps  []cas.Input // the steps and their digests
	Next   int         // the number of the step that failed, counted from 1; one more than there are when none did
	At     recipe.Step // that step, or the last, if there is one
	Box    sandbox.Sandbox

	Layout source.Layout
	Epoch  int64
}

// KeptName is what a job's kept workspace is called.
func (j Job) KeptName() string {
	name := string(j.Plan.Arch) + "/" + j.name()
	if j.Test != nil {
		name += ".test"
	}
	return name
}

func (b *Builder) keptDir(name string) string {
	return filepath.Join(b.WorkDir, keptFolder, filepath.FromSlash(name))
}

// keptFolder is the folder of all kept workspaces, among those of builds under way.
const keptFolder = "kept"

// inputs is the key of what each step of a job depends on besides the steps before it.
func (j Job) inputs() (*cas.Key, error) {
	k := cas.NewKey("kept/1")
	k.Add("arch", string(j.Plan.Arch))
	k.Add("environment", j.environment().Digest())
	k.Add("capabilities", fmt.Sprint(j.Plan.Capabilities))
	for _, s := range j.sources() {
		k.Add("source "+cmp.Or(s.URI, s.Module), s.Digest())
	}
	for _, o := range j.outputs() {
		k.Add("package "+o.Name, "")
	}
	return k, addSurroundings(k, j)
}

func stepInputs(steps []recipe.Step) []cas.Input {
	var list []cas.Input
	for i, s := range steps {
		list = append(list, cas.Input{Name: strings.TrimSpace(fmt.Sprintf("step %d %s", i+1, cmp.Or(s.Name, s.Uses))), Value: s.Digest()})
	}
	return list
}

// keep records where a room stands, so that it is kept.
func (r *Room) keep(next int) error {
	inputs, err := r.job.inputs()
	if err != nil {
		return err
	}
	steps := r.job.steps()
	record := keptRecord{Inputs: inputs.Encode(), Steps: stepInputs(steps), Next: next, Box: *r.box, Layout: r.ws.layout, Epoch: r.ws.epoch}
	if len(steps) > 0 {
		record.At = steps[min(next, len(steps))-1]
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	r.kept = true
	return atomicfile.Write(filepath.Join(r.ws.dir, keptFile), 0o600, atomicfile.Bytes(text))
}

// takeUp opens a kept workspace, and enters its environment again.
func (b *Builder) takeUp(ctx context.Context, name string) (r *Room, record *keptRecord, err error) {
	r = &Room{builder: b, ws: &workspace{dir: b.keptDir(name)}, kept: true}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("entering the kept workspace %s: %w", name, err), r.Close())
		}
	}()
	text, err := os.ReadFile(filepath.Join(r.ws.dir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil, errors.New("there is none; it is kept when a build fails under --keep")
	} else if err != nil {
		return r, nil, err
	}
	record = &keptRecord{}
	if err := json.Unmarshal(text, record); err != nil {
		return r, nil, err
	}
	if r.held, err = hold(r.ws.dir); err != nil {
		return r, nil, errors.New("another process is in it")
	}
	for _, layer := range record.Box.Layers {
		if _, err := os.Stat(layer); err != nil {
			return r, nil, fmt.Errorf("a package of its environment was removed from the cache: %w", err)
		}
	}
	r.ws.home, r.ws.layout, r.ws.epoch = filepath.Join(r.ws.dir, homeFolder), record.Layout, record.Epoch
	r.box = &record.Box
	return r, record, nil
}

// Reenter enters the environment of a kept workspace, for a person to look around. The step is the one that failed there.
func (b *Builder) Reenter(ctx context.Context, name string) (*Room, recipe.Step, error) {
	r, record, err := b.takeUp(ctx, name)
	if err != nil {
		return nil, recipe.Step{}, err
	}
	r.box.Limits = b.Limits
	if r.agent, err = r.box.Start(ctx); err != nil {
		return nil, recipe.Step{}, errors.Join(err, r.Close())
	}
	return r, record.At, nil
}

// resume enters the kept workspace of a job to go on from one of its steps, if all that was done there is what the job
// would have done before that step.
func (b *Builder) resume(ctx context.Context, job Job) (*Room, error) {
	name := job.KeptName()
	r, record, err := b.takeUp(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := record.fits(job); err != nil {
		return nil, errors.Join(fmt.Errorf("going on from step %d in the kept workspace %s: %w", job.From, name, err), r.Close())
	}
	r.job, r.box.Limits = job, b.limits(job)
	if r.modules, err = b.modules(ctx, job); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.agent, err = r.box.Start(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// fits says what is in the way of going on.
func (k *keptRecord) fits(job Job) error {
	steps := stepInputs(job.steps())
	switch {
	case job.From > len(steps)+1:
		return fmt.Errorf("the recipe has %d steps", len(steps))
	case job.From > k.Next:
		return fmt.Errorf("it has come to step %d only", k.Next)
	}
	older, err := cas.ParseKey(k.Inputs)
	if err != nil {
		return err
	}
	newer, err := job.inputs()
	if err != nil {
		return err
	}
	for _, s := range k.Steps[:min(job.From-1, len(k.Steps))] {
		older.Add(s.Name, s.Value)
	}
	for _, s := range steps[:job.From-1] {
		newer.Add(s.Name, s.Value)
	}
	var changed []string
	for _, c := range cas.Diff(older, newer) {
		if what := c.Name; !slices.Contains(changed, what) {
			changed = append(changed, what)
		}
	}
	if len(changed) > 0 {
		return fmt.Errorf("it was made from another plan: changed since: %s", strings.Join(changed, ", "))
	}
	return nil
}

// dropKept removes the kept workspaces that are older than an age, but 0 is no age; and of the others the oldest, until
// there are most of them.
func (b *Builder) dropKept(ctx context.Context, age time.Duration, most int) error {
	records, err := filepath.Glob(b.keptDir("*/*/" + keptFile))
	if err != nil {
		return err
	}
	times := map[string]time.Time{}
	for _, file := range records {
		if info, err := os.Stat(file); err == nil {
			times[file] = info.ModTime()
		}
	}
	slices.SortFunc(records, func(a, b string) int { return times[b].Compare(times[a]) })
	for i, file := range records {
		if i < most && (age == 0 || time.Since(times[file]) < age) {
			continue
		}
		dir := filepath.Dir(file)
		held, err := hold(dir)
		if err != nil {
			continue // somebody is in it
		}
		if err := errors.Join(discard(ctx, dir), held.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Kept are the names of all kept workspaces.
func (b *Builder) Kept() []string {
	records, _ := filepath.Glob(b.keptDir("*/*/" + keptFile))
	var names []string
	for _, file := range records {
		if name, err := filepath.Rel(b.keptDir(""), filepath.Dir(file)); err == nil {
			names = append(names, filepath.ToSlash(name))
		}
	}
	return names
}
