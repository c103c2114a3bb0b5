package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/chainguard-dev/clog"
	"golang.org/x/sys/unix"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
)

// A StepError is a step that ended badly.
type StepError struct {
	Step  recipe.Step
	N, Of int   // its number, from 1, and that of all
	Err   error // a *sandbox.ExitError, mostly
}

func (e *StepError) Error() string {
	name := e.Step.Name
	if name == "" {
		name = e.Step.Uses
	}
	if name != "" {
		name = fmt.Sprintf(" %q", name)
	}
	return fmt.Sprintf("%s: step %d%s of %s: %v", e.Step.Pos, e.N, name, e.Step.Output, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// A PackError is what is wrong with what the steps left, none of which failed: linters refuse it, or no package can be
// made of it.
type PackError struct{ Err error }

func (e *PackError) Error() string { return e.Err.Error() }
func (e *PackError) Unwrap() error { return e.Err }

// A Room is the environment of a job, entered: its packages as the root, its
// sources and files in the workspace, no step run yet. Commands of a Room run
// one after the other.
type Room struct {
	builder *Builder
	job     Job
	ws      *workspace
	held    *os.File          // marks the workspace as in use
	modules map[string]string // of the portable steps: their digests in the store, by identity
	box     *sandbox.Sandbox
	agent   *sandbox.Agent
	kept    bool // the workspace outlives the room
}

// Enter prepares the environment of a job. Who enters must Close.
func (b *Builder) Enter(ctx context.Context, job Job) (_ *Room, err error) {
	r := &Room{builder: b, job: job, ws: &workspace{epoch: b.Epoch}}
	if err := b.occupy(ctx, r); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := b.furnish(ctx, job, r.ws); err != nil {
		return nil, fmt.Errorf("preparing the workspace of %s: %w", job.name(), err)
	}
	if r.modules, err = b.modules(ctx, job); err != nil {
		return nil, err
	}
	if r.box, err = b.box(ctx, job, r.ws); err != nil {
		return nil, fmt.Errorf("preparing the environment of %s: %w", job.name(), err)
	}
	if r.agent, err = r.box.Start(ctx); err != nil {
		return nil, err
	}
	for _, dir := range []string{recipe.Workspace, recipe.CacheDir} {
		if err = r.agent.Own(dir); err != nil {
			return nil, err
		}
	}
	clog.InfoContext(ctx, "environment ready", "package", job.name(), "arch", job.Plan.Arch, "layers", len(r.box.Layers))
	return r, nil
}

// occupy makes the folder of a room's workspace, and marks it as in use. That of one that may be kept has a place of
// its own; what was there before goes.
func (b *Builder) occupy(ctx context.Context, r *Room) error {
	if r.job.Keep == KeepNever {
		if err := os.MkdirAll(b.WorkDir, 0o755); err != nil {
			return err
		}
		moment, err := between(b.WorkDir, unix.LOCK_SH)
		if err != nil {
			return err
		}
		defer moment.Close()
		dir, err := os.MkdirTemp(b.WorkDir, r.job.name()+"-")
		if err != nil {
			return err
		}
		r.ws.dir = dir
		if r.held, err = hold(dir); err != nil {
			return errors.Join(err, os.Remove(dir))
		}
		return nil
	}
	dir := b.keptDir(r.job.KeptName())
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if held, err := holdAnew(dir); err != nil {
		return fmt.Errorf("another process is in the kept workspace %s", r.job.KeptName())
	} else if err := errors.Join(discard(ctx, dir), held.Close()); err != nil {
		return err
	}
	r.ws.dir = dir
	var err error
	r.held, err = holdAnew(dir)
	return err
}

// Close ends what runs, and removes the workspace unless it is kept.
func (r *Room) Close() error {
	var err error
	if r.agent != nil {
		err = r.agent.Close()
	}
	if !r.kept {
		err = errors.Join(err, discard(context.Background(), r.ws.dir))
	}
	if r.held != nil {
		err = errors.Join(err, r.held.Close())
	}
	return err
}

// steps runs all steps of the job, in the time that the recipe has for them. The error of a step that ended badly is a
// *StepError.
func (r *Room) steps(ctx context.Context) error {
	whole := ctx
	if d := r.job.Plan.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, fmt.Errorf("exceeded the recipe's timeout %s", d))
		defer cancel()
	}
	steps := r.job.steps()
	for i, s := range steps {
		if i+1 < r.job.From {
			continue
		}
		if r.job.OnStep != nil {
			r.job.OnStep(i+1, len(steps), s)
		}
		err := r.step(ctx, s)
		if err == nil {
			continue
		}
		return r.fail(whole, i+1, &StepError{Step: s, N: i + 1, Of: len(steps), Err: err})
	}
	r.kept = false
	if r.job.Keep == KeepAlways {
		return r.keep(len(steps) + 1)
	}
	return nil
}

// fail lets who wants to look into a failure, now or in the kept workspace; next is the step to go on from.
func (r *Room) fail(ctx context.Context, next int, failure error) error {
	if r.job.Keep != KeepNever {
		if err := r.keep(next); err != nil {
			return errors.Join(failure, fmt.Errorf("keeping the workspace: %w", err))
		}
	}
	if r.job.OnFailure == nil || ctx.Err() != nil {
		return failure
	}
	return errors.Join(failure, r.job.OnFailure(ctx, r, failure))
}

// A Terminal is where a person types.
type Terminal struct {
	In       *os.File
	Out, Err io.Writer
	Raw      bool   // In is a terminal: the shell gets one of its own
	Kind     string // of the terminal, as TERM has it
}

// Shell gives a person a shell in the room, in the folder and with the
// variables and rights of a step. The error of a shell that ends with another
// exit code than 0 is a *sandbox.ExitError.
func (r *Room) Shell(ctx context.Context, t Terminal, at recipe.Step) error {
	c := sandbox.Command{
		Args: []string{"/bin/sh"}, Dir: at.Dir, Env: variables(at.Env), Network: at.Network,
		Stdin: t.In, Stdout: t.Out, Stderr: t.Err, TTY: t.Raw,
	}
	if t.Kind != "" {
		c.Env = append(c.Env, "TERM="+t.Kind)
	}
	return r.agent.Run(ctx, c)
}

// step runs one step in its folder.
func (r *Room) step(ctx context.Context, s recipe.Step) error {
	switch {
	case s.Module != nil:
		return r.portable(ctx, s)
	case s.Check != nil:
		return r.builder.check(ctx, r.job, s.Check)
	}
	return r.script(ctx, s)
}

// script runs a step that is for the shell, with an empty input.
func (r *Room) script(ctx context.Context, s recipe.Step) error {
	return r.agent.Run(ctx, sandbox.Command{
		Args:    shell(s, r.job.Trace),
		Env:     variables(s.Env),
		Network: s.Network,
		Stdout:  r.log(),
		Stderr:  r.log(),
	})
}

func (r *Room) log() io.Writer {
	if r.job.Log == nil {
		return io.Discard
	}
	return r.job.Log
}
