package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// grace is how long the agent has to kill a command before the whole environment is killed.
const grace = 5 * time.Second

// Run runs the command and waits for its end, and for the end of everything it started. An ending that is not
// exit code 0 is an *[ExitError]; any other error says that the command was not run, or that the environment is lost.
func (a *Agent) Run(ctx context.Context, c Command) error {
	if len(c.Args) == 0 {
		return errors.New("running a command without a name")
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("running %s: %w", c.Args[0], context.Cause(ctx))
	}
	s, inside, err := newStreams(c, a.limits.Output)
	if err != nil {
		return fmt.Errorf("running %s: %w", c.Args[0], err)
	}
	a.group.cause(a.limits) // what an earlier command met is not this one's doing
	if err := a.wire.send(request{Run: c.request(a.env, a.limits)}, inside...); err != nil {
		a.cmd.Process.Kill() // its end says better why
	}
	closeAll(inside)
	r, why := a.await(ctx, s)
	copyErr := s.finish()
	switch {
	case r == nil && why.cause != "" && a.reason.Load() == nil: // the kernel killed the agent for it as well
		return &ExitError{Code: -1, Signal: syscall.SIGKILL, Cause: why.cause, err: why.err}
	case r == nil:
		return a.end
	case r.Error != "":
		return fmt.Errorf("running %s: %s", c.Args[0], r.Error)
	}
	if err := a.verdict(*r, why); err != nil {
		return err
	}
	if copyErr != nil {
		return fmt.Errorf("copying the streams of %s: %w", c.Args[0], copyErr)
	}
	return nil
}

// ending is why a command was ended from outside; the zero value is that it was not.
type ending struct {
	cause string
	err   error // of the context
}

func (c Command) request(env []string, l Limits) *run {
	r := &run{Args: c.Args, Self: c.Self, Env: environment(env, c.Env), Dir: c.Dir, TTY: c.TTY, Root: c.Root, Network: c.Network, Limits: l}
	if r.Dir == "" {
		r.Dir = "/"
	}
	if r.TTY {
		r.Size = sizeOf(c.Stdin)
	}
	return r
}

// await waits for the last reply, and ends the command before when a limit or the context says so.
func (a *Agent) await(ctx context.Context, s *streams) (*reply, ending) {
	var end ending
	wall, silence := timer(a.limits.Wall), timer(a.limits.Silence)
	ticker := a.group.ticker()
	defer ticker.Stop()
	groups, interrupted, flood := ticker.C, ctx.Done(), s.flood
	var overdue <-chan time.Time
	kill := func(cause string, err error) {
		end = ending{cause, err}
		wall, silence, groups, interrupted, flood = nil, nil, nil, nil, nil
		overdue = time.After(grace)
		a.wire.send(request{Kill: true})
	}
	for {
		select {
		case r, alive := <-a.replies:
			if !alive {
				return nil, end
			}
			if !r.TTY {
				return &r.reply, end
			}
			s.attach(r.files[0])
		case <-interrupted:
			kill("interrupted: "+context.Cause(ctx).Error(), context.Cause(ctx))
		case <-wall:
			kill("exceeded wall-clock limit "+duration(a.limits.Wall), nil)
		case <-silence:
			if quiet := s.quiet(); quiet < a.limits.Silence {
				silence = time.After(a.limits.Silence - quiet)
			} else {
				kill("no output for "+duration(a.limits.Silence), nil)
			}
		case <-flood:
			kill("exceeded output limit "+bytesText(a.limits.Output), nil)
		case <-groups:
			if why := a.group.cause(a.limits); why != "" {
				kill(why, nil)
			}
		case <-overdue:
			reason := fmt.Errorf("a command did not die (%s)", end.cause)
			if end.err != nil { // it still is the caller's own doing
				reason = fmt.Errorf("a command did not die: %w", end.err)
			}
			a.kill(reason)
		}
	}
}

func timer(d time.Duration) <-chan time.Time {
	if d <= 0 {
		return nil
	}
	return time.After(d)
}

// verdict turns a reply into the error it stands for. The first cause that is known is the cause.
func (a *Agent) verdict(r reply, why ending) error {
	ok := r.Status.Exited() && r.Status.ExitStatus() == 0
	cause := cmp.Or(why.cause, r.Cause)
	if ok && cause == "" {
		return nil
	}
	if cause == "" {
		cause = a.group.cause(a.limits)
	}
	if cause == "" && r.Full && a.limits.Disk > 0 {
		cause = causeDisk(a.limits)
	}
	e := &ExitError{Code: r.Status.ExitStatus(), Cause: cause, err: why.err}
	if r.Status.Signaled() {
		e.Signal = r.Status.Signal()
	}
	return e
}

// environment joins lists of "key=value"; the last of equal keys wins, at the place where the first stood.
func environment(lists ...[]string) []string {
	place := make(map[string]int)
	env := []string{}
	for _, kv := range slices.Concat(lists...) {
		key, _, _ := strings.Cut(kv, "=")
		if i, seen := place[key]; seen {
			env[i] = kv
			continue
		}
		place[key] = len(env)
		env = append(env, kv)
	}
	return env
}

// duration is time.Duration.String without the units that are zero.
func duration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// bytesText is a size in the largest unit that divides it.
func bytesText(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n != 0 && n%u.size == 0 {
			return fmt.Sprintf("%d%s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
