package sandbox

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

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
		closeAll(append(inside, s.outside...))
		return nil, nil, err
	}
	add(stdoutW, stdoutR)
	if sameWriter(c.Stdout, c.Stderr) {
		s.begin()
		return s, append(inside, stdoutW), nil
	}
	stderrR, stderrW, err := os.Pipe()
	if err != nil {
		closeAll(append(inside, s.outside...))
		return nil, nil, err
	}
	add(stderrW, stderrR)
	s.begin()
	return s, inside, nil
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

// endOfTransmission is what Ctrl-D types: to a terminal's reader it is the end of the input.
const endOfTransmission = 4

// feed gives the command its input. Nobody waits for it: a reader may block long after the command has ended.
func (s *streams) feed(to *os.File) {
	if s.command.Stdin == nil {
		to.Close()
		return
	}
	go func() {
		io.Copy(to, s.command.Stdin)
		if s.command.TTY {
			to.Write([]byte{endOfTransmission})
			return
		}
		to.Close()
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

// finish waits for the last output. The command and all it started are gone, so the streams do end.
func (s *streams) finish() error {
	if s.screen != nil {
		s.screen.restore()
	}
	s.copies.Wait()
	closeAll(s.outside)
	return s.err
}
