// Package sandbox runs commands in a Linux environment of their own: namespaces made by executing this
// program again, a root that is an overlay of read-only layers, no network, and limits with named ends.
//
// It knows namespaces, mounts, ids, system calls and processes. It refuses to know what the layers hold, what
// the commands are for, and where anything is kept: it is handed folders, and gives back exit codes and streams.
//
// Three have a part. The caller decides: a [Sandbox] becomes an ordered list of operations, which
// is plain data. The setup stage, the caller's own program in new namespaces, interprets that list once and then
// is the agent: process 1 of the environment, which forks the commands, reaps what they leave behind, and dies
// with the caller.
//
// What it holds against: commands that are careless or hostile, and want to reach the network, the caller's files,
// processes and keys, or more of the machine than they were given. What it does not: flaws of the kernel itself
// (the filter of system calls makes its surface smaller, a virtual machine would make it another), and what can be told from
// timing. Processor and kernel are no secret inside. What commands leave in Upper and in writable mounts is theirs:
// read it with [Agent.Tar], which sees it as they did, and follow none of its links outside.
//
// Every main, and every TestMain, must call [Main] before anything else.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// Sandbox describes an environment. The zero value of every field but Layers is useful: a writable layer in
// memory, no further mounts, no network, no limits.
type Sandbox struct {
	Layers []string // folders that make up the root, lowest first

	// Upper is a folder for what commands write, so that it outlives the environment and can be entered
	// again. It is made when missing, and holds "upper" and "work"; what is in it may belong to ids that only
	// the sandbox can touch, see [Remove]. Empty keeps the writable layer in memory.
	Upper string

	// Copies is a folder for hosts whose kernel lacks something: where users have no overlays, layers are copied to
	// it; before Linux 6.6 the writable layer is there, since in memory folders could not be replaced. Limits.Disk does not
	// count what is there. It is made when missing. Empty keeps all in memory.
	Copies string

	Mounts   []Mount // in order; a later one may lie inside an earlier one
	Hostname string  // "build" when empty
	Network  bool    // share the caller's network; else there is only a loopback of its own

	// Emulators are static user-mode emulators by architecture as apk spells it ("aarch64"): programs of
	// that architecture run inside as if they were native. Nothing is registered on the host.
	Emulators map[string]string

	Limits       Limits
	UID, GID     int // of commands, as seen inside; ids beyond the mapped range are refused
	Capabilities Capabilities
	Env          []string // of every command, "key=value"; nothing is inherited
}

// Kind says what a mount shows.
type Kind string

const (
	Bind    Kind = "bind"    // Source, a file or a folder of the host
	Tmpfs   Kind = "tmpfs"   // an empty folder in memory
	Overlay Kind = "overlay" // Layers, one above the other
)

// Mount is something that appears at Target, an absolute path inside. Missing parents are made.
//
// When the caller is root, root inside is the same id on the host's disks: what commands leave in a writable Source, setuid
// files among it, should lie below a folder that others cannot enter.
type Mount struct {
	Kind     Kind // Bind when empty
	Source   string
	Target   string
	Layers   []string // of an overlay, lowest first
	ReadOnly bool
}

// Limits bound one command at a time, except Disk and Free, which bound the environment, and what Tar reads of it. Zero is
// no limit.
type Limits struct {
	Memory  int64         // bytes, of all processes together
	Pids    int           // processes and threads
	CPU     float64       // processors
	Wall    time.Duration // from start to end
	Silence time.Duration // without a byte on stdout or stderr
	Output  int64         // bytes on stdout and stderr together
	Disk    int64         // bytes in the writable layer and the writable mounts together
	Free    int64         // bytes that stay free on the disks of writable mounts: who wrote more than this is ended before
}

// Command is something to run inside.
type Command struct {
	Args []string // Args[0] is looked up in the PATH of the command's environment
	Self bool     // the caller's own program, static, and not what Args[0] is called in the layers
	Dir  string   // "/" when empty
	Env  []string // after the sandbox's; the last of equal keys wins

	Root bool // whoever other commands are

	// Network runs the command in the caller's network, if the sandbox permits; else there is only a loopback.
	Network bool

	Stdin          io.Reader // nothing when nil
	Stdout, Stderr io.Writer // discarded when nil; equal writers share one stream, in order

	// TTY runs the command on a terminal of its own. When Stdin is a terminal it is put into raw mode
	// meanwhile, and its size followed. Everything the command prints goes to Stdout.
	TTY bool
}

// ExitError says how a command ended that did not end well.
type ExitError struct {
	Code   int            // as the command gave it; -1 when it was killed
	Signal syscall.Signal // that ended it, or 0
	Cause  string         // why the sandbox ended it ("exceeded wall-clock limit 10m"); empty when it ended by itself

	err error
}

func (e *ExitError) Error() string {
	switch {
	case e.Cause != "":
		return e.Cause
	case e.Signal != 0:
		return fmt.Sprintf("signal: %v", e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Unwrap gives the context's error when the command was interrupted by its context.
func (e *ExitError) Unwrap() error { return e.err }

// Start makes the environment. It lives until the agent is closed, the context is done, or the caller dies;
// then every process in it is killed, and nothing of it remains but what was written to Upper and to writable mounts.
func (s *Sandbox) Start(ctx context.Context) (*Agent, error) {
	policy, err := s.policy()
	if err != nil {
		return nil, err
	}
	return s.enter(ctx, policy)
}

func (s *Sandbox) enter(ctx context.Context, policy *policy) (*Agent, error) {
	if s.Upper != "" {
		if err := os.MkdirAll(s.Upper, 0o755); err != nil {
			return nil, err
		}
	}
	agent, err := spawn(ctx, stageSetup, s.Network, s.Limits)
	if err != nil {
		return nil, fmt.Errorf("starting the sandbox: %w", err)
	}
	agent.env = s.Env
	if policy.Identity, err = s.identity(agent.ids); err != nil {
		agent.Close()
		return nil, fmt.Errorf("starting the sandbox: %w", err)
	}
	if err := agent.enter(policy); err != nil {
		agent.Close()
		return nil, fmt.Errorf("starting the sandbox: %w", err)
	}
	return agent, nil
}

func (m Mount) check() error {
	switch m.Kind {
	case Bind, "":
		if !path.IsAbs(m.Source) {
			return fmt.Errorf("mount %s: source %q is not an absolute path", m.Target, m.Source)
		}
	case Overlay:
		if len(m.Layers) == 0 {
			return fmt.Errorf("mount %s: an overlay needs layers", m.Target)
		}
	case Tmpfs:
	default:
		return fmt.Errorf("mount %s: kind %q is not known", m.Target, m.Kind)
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) != m.Target || m.Target == "/" {
		return fmt.Errorf("mount target %q is not a clean absolute path below /", m.Target)
	}
	return nil
}

func (s *Sandbox) check() error {
	if len(s.Layers) == 0 {
		return errors.New("sandbox without layers")
	}
	for _, l := range s.Layers {
		if !path.IsAbs(l) {
			return fmt.Errorf("layer %q is not an absolute path", l)
		}
	}
	if s.Upper != "" && !path.IsAbs(s.Upper) {
		return fmt.Errorf("upper %q is not an absolute path", s.Upper)
	}
	if s.Copies != "" && !path.IsAbs(s.Copies) {
		return fmt.Errorf("copies %q is not an absolute path", s.Copies)
	}
	for _, m := range s.Mounts {
		if err := m.check(); err != nil {
			return err
		}
	}
	for _, kv := range s.Env {
		if !strings.Contains(kv, "=") {
			return fmt.Errorf("environment entry %q has no value", kv)
		}
	}
	return nil
}
