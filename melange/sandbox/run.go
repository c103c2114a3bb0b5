package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	if err := a.ids.check(c.UID, c.GID); err != nil {
		return fmt.Errorf("running %s: %w", c.Args[0], err)
	}
	s, inside, err := newStreams(c, a.limits.Output)
	if err != nil {
		return fmt.Errorf("running %s: %w", c.Args[0], err)
	}
	a.group.cause(a.limits) // what an earlier command met is not this one's doing
	err = a.wire.send(request{Run: c.request(a.env, a.limits)}, inside...)
	closeAll(inside)
	if err != nil {
		s.abandon()
	}
	r, cause := a.await(ctx, s)
	copyErr := s.finish()
	switch {
	case r == nil:
		return a.end
	case r.Error != "":
		return fmt.Errorf("running %s: %s", c.Args[0], r.Error)
	}
	if err := a.verdict(ctx, *r, cause); err != nil {
		return err
	}
	if copyErr != nil {
		return fmt.Errorf("copying the streams of %s: %w", c.Args[0], copyErr)
	}
	return nil
}

func (c Command) request(env []string, l Limits) *run {
	r := &run{Args: c.Args, Env: environment(env, c.Env), Dir: c.Dir, UID: c.UID, GID: c.GID, TTY: c.TTY, Network: c.Network, Limits: l}
	if r.Dir == "" {
		r.Dir = "/"
	}
	return r
}

// await waits for the last reply, and ends the command before when a limit or the context says so.
func (a *Agent) await(ctx context.Context, s *streams) (*reply, string) {
	var cause string
	wall, silence := timer(a.limits.Wall), timer(a.limits.Silence)
	ticker := a.group.ticker()
	defer ticker.Stop()
	groups, interrupted, flood := ticker.C, ctx.Done(), s.flood
	var overdue <-chan time.Time
	kill := func(why string) {
		cause = why
		wall, silence, groups, interrupted, flood = nil, nil, nil, nil, nil
		overdue = time.After(grace)
		a.wire.send(request{Kill: true})
	}
	for {
		select {
		case r, alive := <-a.replies:
			if !alive {
				return nil, cause
			}
			if !r.TTY {
				return &r.reply, cause
			}
			s.attach(r.files[0])
		case <-interrupted:
			kill("interrupted: " + context.Cause(ctx).Error())
		case <-wall:
			kill("exceeded wall-clock limit " + duration(a.limits.Wall))
		case <-silence:
			if quiet := s.quiet(); quiet < a.limits.Silence {
				silence = time.After(a.limits.Silence - quiet)
			} else {
				kill("no output for " + duration(a.limits.Silence))
			}
		case <-flood:
			kill("exceeded output limit " + bytesText(a.limits.Output))
		case <-groups:
			if why := a.group.cause(a.limits); why != "" {
				kill(why)
			}
		case <-overdue:
			a.kill(fmt.Errorf("a command did not die (%s)", cause))
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
func (a *Agent) verdict(ctx context.Context, r reply, cause string) error {
	if r.Status.Exited() && r.Status.ExitStatus() == 0 && cause == "" && r.Cause == "" {
		return nil
	}
	e := &ExitError{Code: r.Status.ExitStatus(), Cause: cause}
	if r.Status.Signaled() {
		e.Signal = r.Status.Signal()
	}
	if e.Cause == "" {
		e.Cause = r.Cause
	}
	if e.Cause == "" {
		e.Cause = a.group.cause(a.limits)
	}
	if e.Cause == "" && r.Full && a.limits.Disk > 0 {
		e.Cause = causeDisk(a.limits)
	}
	if strings.HasPrefix(cause, "interrupted") {
		e.err = context.Cause(ctx)
	}
	return e
}

// streams carries what a command reads and prints, and notes when it printed last and how much.
type streams struct {
	command Command
	limit   int64

	outside []*os.File     // our ends
	copies  sync.WaitGroup // of output
	last    atomic.Int64   // when something was printed, in nanoseconds since start
	start   time.Time
	printed atomic.Int64
	flood   chan struct{} // gets one value when the limit is passed

	mu  sync.Mutex
	err error // the first error of a writer that is not ours

	screen *terminal
}

// newStreams makes the pipes of a command and starts to copy. The files returned are the command's ends, for
// the caller to pass on and to close. A command on a terminal has none: see attach.
func newStreams(c Command, limit int64) (*streams, []*os.File, error) {
	s := &streams{command: c, limit: limit, flood: make(chan struct{}, 1), start: time.Now()}
	if c.TTY {
		return s, nil, nil
	}
	var inside []*os.File
	add := func(in, out *os.File) { inside, s.outside = append(inside, in), append(s.outside, out) }
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	add(stdinR, stdinW)
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		return nil, nil, errors.Join(err, s.drop(inside))
	}
	add(stdoutW, stdoutR)
	if sameWriter(c.Stdout, c.Stderr) {
		s.begin()
		return s, append(inside, stdoutW), nil
	}
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		return nil, nil, errors.Join(err, s.drop(inside))
	}
	add(stderrW, stderrR)
	s.begin()
	return s, inside, nil
}

func (s *streams) drop(inside []*os.File) error {
	closeAll(inside)
	closeAll(s.outside)
	return nil
}

func (s *streams) begin() {
	s.feed(s.outside[0])
	s.pump(s.command.Stdout, s.outside[1])
	if len(s.outside) > 2 {
		s.pump(s.command.Stderr, s.outside[2])
	}
}

// sameWriter reports whether two writers are one. Writers of types that cannot be compared are not.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	return a != nil && a == b
}

// feed gives the command its input. Nobody waits for it: a reader may block long after the command has ended.
func (s *streams) feed(to *os.File) {
	if s.command.Stdin == nil {
		to.Close()
		return
	}
	go func() {
		io.Copy(to, s.command.Stdin)
		if !s.command.TTY {
			to.Close()
		}
	}()
}

func (s *streams) pump(to io.Writer, from *os.File) {
	if to == nil {
		to = io.Discard
	}
	s.copies.Go(func() {
		defer from.Close()
		for buf := make([]byte, 32<<10); ; {
			n, err := from.Read(buf)
			if n > 0 {
				s.last.Store(int64(time.Since(s.start)))
				s.write(to, buf[:n])
			}
			if err != nil { // the end; of a terminal that is an error as well
				return
			}
		}
	})
}

// write passes on what is within the limit. A broken writer does not block the command: the rest is dropped.
func (s *streams) write(to io.Writer, b []byte) {
	if total := s.printed.Add(int64(len(b))); s.limit > 0 && total > s.limit {
		select {
		case s.flood <- struct{}{}:
		default:
		}
		b = b[:max(0, int64(len(b))-(total-s.limit))]
	}
	s.mu.Lock()
	broken := s.err != nil
	s.mu.Unlock()
	if broken || len(b) == 0 {
		return
	}
	if _, err := to.Write(b); err != nil {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
	}
}

// quiet is how long nothing was printed.
func (s *streams) quiet() time.Duration {
	return time.Since(s.start) - time.Duration(s.last.Load())
}

// attach connects a command's terminal.
func (s *streams) attach(master *os.File) {
	s.screen = newTerminal(master, s.command.Stdin)
	s.outside = append(s.outside, master)
	if s.command.Stdin != nil {
		s.feed(master)
	}
	s.pump(s.command.Stdout, master)
}

// abandon gives up on a command that was not started.
func (s *streams) abandon() { closeAll(s.outside) }

// finish waits for the last output. The command and all it started are gone, so the streams do end.
func (s *streams) finish() error {
	if s.screen != nil {
		s.screen.restore()
	}
	s.copies.Wait()
	closeAll(s.outside)
	return s.err
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
