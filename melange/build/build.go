// Package build is the flow from a plan to packages, and nothing else:
//
//	plan + environment ─ steps in a sandbox ─▶ one tree per output   (the tree action)
//	trees + metadata   ─ scan, SBOM, sections ─▶ unsigned packages    (the package action)
//	unsigned packages  ─ a key ─▶ .apk files                          (signing)
//
// The first two are actions: what they make is a function of what is named in
// their keys, and is kept in the content-addressed store under them. They are
// two so that a change of a description packages again what was built before,
// and signing is a third so that keys never come near a sandbox and differently
// signed packages share all results.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"distro.internal/melange/lint"
	"distro.internal/melange/plugin"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/rootfs"
)

// A Builder holds what outlives a build. It may run many builds at once.
type Builder struct {
	Store   cas.Layered
	Roots   rootfs.Store
	Sources *source.Store
	Modules *plugin.Store // of portable steps
	WorkDir string        // builds under way have their folders below it

	Limits    sandbox.Limits // of a step, where the recipe says nothing else
	Overrides sandbox.Limits // those that are not 0 win over the recipe's: CPU, Memory, Disk

	Distribution Distribution // what packages are of

	Lint   lint.Policy // what packages are looked at for
	Epoch  int64       // SOURCE_DATE_EPOCH from outside, in seconds; 0: the newest file of the sources
	Record bool        // packages say what they were built in, see Record

	// Emulator returns a static user-mode emulator that runs programs of an
	// architecture on this machine. It is asked when something is built for
	// another architecture than this machine's; nil: there is none.
	Emulator func(context.Context, apk.Arch) (string, error)
}

// A Distribution is what bills of materials tell of where packages come from. All of it may be empty.
type Distribution struct {
	Name    string `json:"name,omitempty"`    // in the packages' URLs: pkg:apk/NAME/zlib@1.3-r0
	Recipes string `json:"recipes,omitempty"` // URL of the git repository that the recipes are in
	License string `json:"license,omitempty"` // of the recipes
}

// A Job is a plan whose environment is decided, or one of the plan's tests.
type Job struct {
	Plan        *recipe.Plan
	Test        *recipe.Test // nil: the build itself
	Environment Environment
	Local       fs.FS                          // the folder of the recipe's own files; nil when it has none
	Network     bool                           // commands in the room may use the network, whatever the steps may
	Keep        Keep                           // when the workspace outlives the job
	From        int                            // go on in the kept workspace from this step, counted from 1; one more than there are: make packages of it; 0: from the beginning
	Log         io.Writer                      // what the steps print; nil: nowhere
	Trace       bool                           // the shell says which commands of a step it runs
	OnStep      func(n, of int, s recipe.Step) // before each step; may be nil

	// OnFailure is called with a *StepError or a *PackError, while all is still
	// there as the steps left it. Its error adds to that one. It may be nil.
	OnFailure func(context.Context, *Room, error) error
}

// name is what the job works for.
func (j Job) name() string {
	if j.Test != nil {
		return j.Test.Output
	}
	return j.Plan.Name
}

func (j Job) environment() recipe.Environment {
	if j.Test != nil {
		return j.Test.Environment
	}
	return j.Plan.Environment
}

func (j Job) sources() []recipe.Source {
	if j.Test != nil {
		return j.Test.Sources
	}
	return j.Plan.Sources
}

func (j Job) steps() []recipe.Step {
	if j.Test != nil {
		return j.Test.Steps
	}
	return j.Plan.Steps
}

// rootArch is the architecture of the programs that run in the job's root.
func (j Job) rootArch() apk.Arch {
	if j.environment().Cross {
		return j.Plan.BuildArch
	}
	return j.Plan.Arch
}

// outputs are the packages that the steps fill.
func (j Job) outputs() []recipe.Output {
	if j.Test != nil {
		return nil
	}
	return j.Plan.Outputs
}

// A Result is what a job made, and how it came to it.
type Result struct {
	Packages []Package  // in the order of the plan's outputs
	Ran      bool       // the steps ran
	Fetched  bool       // they were made elsewhere
	Packed   bool       // packages were made of the trees
	Warnings int        // what linters found that does not keep the packages from being made
	Keys     []*cas.Key // of the actions, as far as they were known: what all this is a function of
}

// Build makes the packages of a job, or finds them made already. The result of
// a failed build tells the keys.
func (b *Builder) Build(ctx context.Context, job Job) (*Result, error) {
	if job.From > 0 {
		return b.goOn(ctx, job)
	}
	r, made, err := b.lookup(ctx, job)
	if err == nil && r.Fetched {
		err = b.bring(ctx, r.Packages)
	}
	if job.Keep == KeepAlways && (err == nil || absent(err)) {
		r, made = &Result{Keys: r.Keys}, nil
	} else if !absent(err) {
		return r, err
	}
	r.Fetched = false
	if made != nil {
		err := b.finish(ctx, job, r, made)
		if err == nil {
			return r, nil
		} else if !lost(err) && job.Keep == KeepNever && job.OnFailure == nil {
			return r, &PackError{err}
		}
		// Who wants to look into the failure wants what the steps left, and so does who has lost it: they run once more.
	}
	r.Ran = true
	return r, b.run(ctx, job, func(t *trees) error {
		if err := b.storeTrees(ctx, r.Keys[0], t); err != nil {
			return err
		}
		// Equal trees may have been packaged before, for another key.
		err := b.lookupPackages(ctx, r, job, t)
		if err == nil && r.Fetched {
			err = b.bring(ctx, r.Packages)
		}
		if !absent(err) {
			return err
		}
		r.Fetched = false
		return b.finish(ctx, job, r, t)
	})
}

// finish makes the packages of what the steps left, and remembers them.
func (b *Builder) finish(ctx context.Context, job Job, r *Result, t *trees) error {
	r.Packed = true
	packages, warnings, err := b.pack(ctx, job, t)
	if err != nil {
		return err
	}
	r.Packages, r.Warnings = packages, len(warnings)
	return b.storePackages(ctx, r.Keys[1], packages, len(warnings))
}

// goOn makes packages of what comes of a kept workspace. They are nobody else's: only a build from the beginning is the
// recipe's.
func (b *Builder) goOn(ctx context.Context, job Job) (*Result, error) {
	r := &Result{Ran: true, Packed: true}
	return r, b.run(ctx, job, func(t *trees) error {
		packages, warnings, err := b.pack(ctx, job, t)
		r.Packages, r.Warnings = packages, len(warnings)
		return err
	})
}

// Lookup finds what Build would find, and makes nothing. The error is
// fs.ErrNotExist when something would have to be made; the result's keys then
// tell of what it would be made.
func (b *Builder) Lookup(ctx context.Context, job Job) (*Result, error) {
	r, _, err := b.lookup(ctx, job)
	return r, err
}

func (b *Builder) lookup(ctx context.Context, job Job) (*Result, *trees, error) {
	r := &Result{}
	key, err := b.treeKey(job)
	if err != nil {
		return r, nil, fmt.Errorf("describing the build of %s: %w", job.Plan.Name, err)
	}
	r.Keys = []*cas.Key{key}
	trees, err := b.lookupTrees(ctx, job, key)
	if err != nil {
		return r, nil, err
	}
	return r, trees, b.lookupPackages(ctx, r, job, trees)
}

// run runs the steps of a job in the job's environment, takes out what they left for each package, and hands it on while
// the room is still there: when nothing can be made of it, that is a failure to look into like one of a step.
func (b *Builder) run(ctx context.Context, job Job, then func(*trees) error) (err error) {
	enter := b.Enter
	if job.From > 0 {
		enter = b.resume
	}
	r, err := enter(ctx, job)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(), b.dropKept(ctx, 0, keptMost)) }()
	if err := r.steps(ctx); err != nil {
		return err
	}
	t, err := b.collect(ctx, job, r.agent, r.ws)
	if err == nil {
		err = then(t)
	}
	if err != nil {
		return r.fail(ctx, len(job.steps())+1, &PackError{err})
	}
	return nil
}
