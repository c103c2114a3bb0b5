package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// The re-executed program knows what it is by its name and first argument. The name is also what ps shows.
const processName = "sandbox"

const (
	stageMapped = "mapped" // wait for the ids to be mapped by someone else, then become the setup stage
	stageSetup  = "setup"
	stageRemove = "remove"
)

// controlFD is the wire's end in every stage.
const controlFD = 3

// Agent is a running environment. Its methods may be called from several goroutines; commands run one after
// the other, and nothing that a command started outlives it.
type Agent struct {
	cmd    *exec.Cmd
	wire   *wire
	stderr bytes.Buffer // what the stages print when they break; complete when replies is closed
	group  *cgroup
	ids    mapping
	env    []string
	limits Limits

	turn    sync.Mutex            // held for the length of a request
	replies chan answer           // closed when the environment has ended
	end     error                 // why; set before replies is closed
	reason  atomic.Pointer[error] // why the caller ended it, if it did
	release func() bool           // ends the watch over the context that the environment was started with
}

type answer struct {
	reply
	files []*os.File
}

// spawn starts this program as the stage, in namespaces of its own, with ids mapped and control groups joined.
func spawn(ctx context.Context, stage string, network bool, l Limits) (*Agent, error) {
	ids, err := callerMapping()
	if err != nil {
		return nil, fmt.Errorf("mapping ids: %w", err)
	}
	w, child, err := pair()
	if err != nil {
		return nil, err
	}
	defer child.Close()
	a := &Agent{wire: w, ids: ids, limits: l, replies: make(chan answer)}
	a.cmd = stageCommand(stage, network, ids)
	a.cmd.Stderr = &a.stderr
	a.cmd.ExtraFiles = []*os.File{child}
	if err := startProcess(a.cmd); err != nil {
		return nil, errors.Join(explain(err, "/proc/sys"), w.conn.Close())
	}
	a.group, err = newCgroup(a.cmd.Process.Pid, l)
	go a.listen()
	a.release = context.AfterFunc(ctx, func() { a.kill(context.Cause(ctx)) })
	if err == nil && ids.helpers {
		err = a.mapIDs()
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// startProcess starts the command from a thread that lives as long as this process: a parent-death signal is sent
// when the thread dies, and the caller's goroutine may be locked to one that does.
func startProcess(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() { started <- cmd.Start() }()
	return <-started
}

func stageCommand(stage string, network bool, ids mapping) *exec.Cmd {
	flags := syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if !network {
		flags |= syscall.CLONE_NEWNET
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{processName, stage}
	if ids.helpers {
		cmd.Args = []string{processName, stageMapped, stage}
	}
	cmd.Env = []string{} // nil would be the caller's
	cmd.Dir = "/"
	// A session of its own keeps the terminal's Ctrl-C away: whether it ends anything is the caller's to say.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: uintptr(flags), Setsid: true, Pdeathsig: syscall.SIGKILL}
	ids.apply(cmd.SysProcAttr)
	return cmd
}

func (a *Agent) mapIDs() error {
	if err := a.ids.write(a.cmd.Process.Pid); err != nil {
		return err
	}
	if err := a.wire.send(request{}); err != nil {
		return fmt.Errorf("telling that ids are mapped: %w", err)
	}
	return nil
}

// enter hands over the policy and waits for the agent to be ready.
func (a *Agent) enter(policy *policy) error {
	r, err := a.ask(request{Policy: policy})
	if err != nil {
		return err
	}
	if r.Error != "" {
		return explain(errors.New(r.Error), "/proc/sys")
	}
	return nil
}

// ask sends a request and waits for its reply.
func (a *Agent) ask(r request, files ...*os.File) (answer, error) {
	if err := a.wire.send(r, files...); err != nil {
		a.cmd.Process.Kill() // it is of no use any more; its end says better why
	}
	reply, alive := <-a.replies
	if !alive {
		return answer{}, a.end
	}
	return reply, nil
}

// listen hands replies to whoever asked. When the other end is gone it finds out why, and tells everybody.
func (a *Agent) listen() {
	defer close(a.replies)
	for {
		var r answer
		files, err := a.wire.receive(&r.reply)
		if r.files = files; err != nil {
			closeAll(files)
			a.end = a.lost(err)
			return
		}
		a.replies <- r
	}
}

// lost buries the environment and returns what is known about its end. Process 1 of the namespace is gone
// only when everything in it is.
func (a *Agent) lost(err error) error {
	a.cmd.Process.Kill()
	a.cmd.Wait()
	a.wire.conn.Close()
	if reason := a.reason.Load(); reason != nil {
		return fmt.Errorf("the sandbox ended: %w", *reason)
	}
	if cause := a.group.cause(a.limits); cause != "" {
		return &ExitError{Code: -1, Signal: syscall.SIGKILL, Cause: cause}
	}
	if said := strings.TrimSpace(a.stderr.String()); said != "" {
		return fmt.Errorf("the sandbox ended: %s", said)
	}
	return fmt.Errorf("the sandbox ended: %w", err)
}

// kill ends the environment, and with it every process in it.
func (a *Agent) kill(reason error) {
	a.reason.CompareAndSwap(nil, &reason)
	a.cmd.Process.Kill()
}

// Close kills what runs, ends the environment and waits until nothing is left of it.
func (a *Agent) Close() error {
	a.release()
	a.kill(errors.New("it was closed"))
	for r := range a.replies {
		closeAll(r.files)
	}
	return a.group.remove()
}

// Own gives a folder, and all below it, to the id that commands have. Links are not followed.
func (a *Agent) Own(dir string) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	r, err := a.ask(request{Own: dir})
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return fmt.Errorf("changing the owner of %s in the sandbox: %w", dir, err)
	}
	return nil
}

// Tar writes a folder of the environment as a tar: modes, capabilities and hard links as they are seen inside,
// which is not how they lie on the disk, and owners as commands gave them, which is more than what is seen inside. Nothing
// runs meanwhile. What is larger than the limits let commands write, though it takes up less, is refused.
func (a *Agent) Tar(ctx context.Context, dir string, w io.Writer) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { out.Close() })() // the agent's next write is an error
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, out)
		out.Close()
		copied <- err
	}()
	r, err := a.ask(request{Tar: &reading{dir, a.limits}}, in)
	in.Close()
	copyErr := <-copied
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case copyErr != nil:
		err = copyErr
	case err == nil && r.Error != "":
		err = errors.New(r.Error)
	}
	if err != nil {
		return fmt.Errorf("reading %s in the sandbox: %w", dir, err)
	}
	return nil
}
