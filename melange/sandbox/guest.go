package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"distro.internal/shared/filetree"
	"golang.org/x/sys/unix"
)

// guest is the agent's own side: process 1 inside. It forks commands and reaps everything; it ends with the wire.
type guest struct {
	wire         *wire
	launchers    launchers
	who          identity
	owners       *owners    // that files were given, and the kernel does not know
	setgroups    bool       // commands may change their groups
	measured     []*os.File // folders of the host whose size is limited
	memoryMounts []string   // filesystems whose content counts as memory
}

// execution is one command and what it started.
type execution struct {
	mu    sync.Mutex
	over  bool
	cause string // the limit that ended it
}

// end kills everything, unless it is over: by then it might be the next command that is killed. The first cause
// is the cause.
func (x *execution) end(cause string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	if x.cause == "" {
		x.cause = cause
	}
	killAll()
}

func (x *execution) finish() (cause string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	return x.cause
}

// serve answers requests until the caller is gone. Commands are forked before the next request is read, so a
// Kill always finds what it is meant for.
func (g *guest) serve() error {
	if err := g.prepare(); err != nil {
		return err
	}
	if err := g.wire.send(reply{}); err != nil {
		return err
	}
	for {
		var r request
		files, err := g.wire.receive(&r)
		if err != nil {
			os.Exit(0) // and so ends everything inside
		}
		switch {
		case r.Kill:
			killAll()
		case r.Run != nil:
			g.run(r.Run, files)
		case r.Tar != nil:
			go g.tar(*r.Tar, files)
		case r.Own != "":
			g.own(r.Own)
		}
	}
}

// prepare makes the agent fit to be process 1 among commands that it does not trust.
func (g *guest) prepare() error {
	unix.CloseOnExec(controlFD)
	// Commands are free to signal process 1. What has no handler does not reach it; the runtime's own handlers would
	// end it. Caught signals, unlike ignored ones, are back to normal in commands.
	signal.Notify(make(chan os.Signal, 1))
	unix.Umask(0o022)
	// When the machine runs out of memory, the sandbox goes before its caller. Failing to say so harms nobody.
	os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0o644)
	// Commands are root like the agent. This keeps them from its memory, its files, and its program, which is the
	// caller's on the host.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("protecting the agent: %w", err)
	}
	makeThreads(agentThreads)
	return setRlimits()
}

// agentThreads is more than the agent ever has in calls to the kernel at one time.
const agentThreads = 16

// makeThreads has the runtime make its threads now, which it keeps. Where a control group counts commands and agent
// together, a fork bomb leaves room for none, and a runtime that cannot make one ends the program.
func makeThreads(n int) {
	var made sync.WaitGroup
	made.Add(n)
	release := make(chan struct{})
	for range n {
		go func() {
			runtime.LockOSThread() // waiting like this takes a thread each
			defer runtime.UnlockOSThread()
			made.Done()
			<-release
		}()
	}
	made.Wait()
	close(release)
}

// setRlimits makes what commands may use the same whoever the caller is, as far as the caller itself may. A core of one
// byte is none, and unlike one of nothing is not handed to a program of the host either.
func setRlimits() error {
	for _, r := range []struct {
		resource int
		soft     uint64
	}{{unix.RLIMIT_CORE, 1}, {unix.RLIMIT_NOFILE, 1 << 16}, {unix.RLIMIT_STACK, 8 << 20}} {
		var l unix.Rlimit
		if err := unix.Getrlimit(r.resource, &l); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		l.Cur = min(r.soft, l.Max)
		if err := unix.Setrlimit(r.resource, &l); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}

// run starts the command and answers when it and all that it started are gone.
func (g *guest) run(r *run, files []*os.File) {
	from := g.launchers.private
	if r.Network {
		from = g.launchers.shared
	}
	var pid int
	err := errors.New("the sandbox permits no network")
	if from != nil {
		from.do(func() { pid, err = g.start(r, files) })
	}
	closeAll(files)
	if err != nil {
		g.wire.send(reply{Error: err.Error()})
		return
	}
	// And a command goes before the agent, which is to say why.
	os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("700"), 0o644)
	x, done, watched := new(execution), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		g.watch(x, r.Limits, done)
	}()
	go g.watchDisk(x, r.Limits, done)
	go func() {
		status := reap(pid, func() { lastLook(x, r.Limits) })
		close(done)
		<-watched // who looks at a process holds its memory, which the next command may need
		g.wire.send(reply{Status: status, Cause: x.finish(), Full: full("/")})
	}()
}

// agentTasks is how many threads the agent may have, which count where the ids inside are all one user's.
const agentTasks = 64

// limitProcesses sets what the next command inherits. Where the kernel counts processes for each namespace, it stops
// what is faster than the watch; root of the host is exempt. The agent must not keep it: it has to make threads
// when a command has used everything up.
func limitProcesses(n int) (restore func()) {
	var old unix.Rlimit
	if n <= 0 || unix.Getrlimit(unix.RLIMIT_NPROC, &old) != nil {
		return func() {}
	}
	unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: min(uint64(n+agentTasks), old.Max), Max: old.Max})
	return func() { unix.Setrlimit(unix.RLIMIT_NPROC, &old) }
}

func (g *guest) start(r *run, files []*os.File) (int, error) {
	program, err := r.program()
	if err != nil {
		return 0, err
	}
	if err := folder(r.Dir); err != nil {
		return 0, err
	}
	attr := &syscall.ProcAttr{Dir: r.Dir, Env: r.Env}
	who := g.who.orRoot(r.Root)
	if attr.Sys, err = who.attributes(g.setgroups); err != nil {
		return 0, err
	}
	if r.TTY {
		master, slave, err := openTerminal(who)
		if err != nil {
			return 0, fmt.Errorf("making a terminal: %w", err)
		}
		defer master.Close()
		defer slave.Close()
		if r.Size != nil {
			if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, r.Size); err != nil {
				return 0, fmt.Errorf("sizing a terminal: %w", err)
			}
		}
		if err := g.wire.send(reply{TTY: true}, master); err != nil {
			return 0, err
		}
		files = []*os.File{slave, slave, slave}
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	for _, f := range files {
		if err := who.ownOpen(f); err != nil { // it may open its streams once more, by name
			return 0, err
		}
		attr.Files = append(attr.Files, f.Fd())
	}
	defer limitProcesses(r.Limits.Pids)()
	pid, err := syscall.ForkExec(program, r.Args, attr)
	switch {
	case err == syscall.ENOENT && r.Self:
		return 0, errors.New("this program needs a loader, which is not inside: build it with CGO_ENABLED=0")
	case err != nil:
		return 0, &fs.PathError{Op: "exec", Path: program, Err: err}
	}
	return pid, nil
}

// reap waits for the command, kills what it left behind, and returns when process 1 is alone. All orphans are
// its children by then, so having no children means that there are no processes. A command that failed leaves behind
// what failed is to look at first.
func reap(pid int, failed func()) (status syscall.WaitStatus) {
	for {
		var ws syscall.WaitStatus
		switch p, err := syscall.Wait4(-1, &ws, syscall.WALL, nil); {
		case err == syscall.EINTR:
		case err != nil:
			return status
		case p == pid:
			if status = ws; !ws.Exited() || ws.ExitStatus() != 0 {
				failed()
			}
			killAll()
		}
	}
}

// killAll kills every process but this one.
func killAll() { syscall.Kill(-1, syscall.SIGKILL) }

// full reports whether the filesystem below path has no room left.
func full(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && s.Bavail == 0
}

// ownProgram is what this process was made from, though its name on the host is out of reach.
const ownProgram = "/proc/self/exe"

func (r *run) program() (string, error) {
	if r.Self {
		return ownProgram, nil
	}
	return lookPath(r.Args[0], r.Env, r.Dir)
}

// lookPath finds a program as execvp would, with the PATH of the environment it will have.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range env {
		list, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, d := range filepath.SplitList(list) {
			candidate := filepath.Join(d, name)
			if !filepath.IsAbs(candidate) {
				candidate = filepath.Join(dir, candidate)
			}
			if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return candidate, nil
			}
		}
	}
	return "", &exec.Error{Name: name, Err: errors.New("not found in the PATH of the command's environment")}
}

func openTerminal(who identity) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	name := fmt.Sprintf("/dev/pts/%d", n)
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, slave, who.own(name)
}

// own makes the commands' id the owner. Where there is only one, it is already.
func (i identity) own(name string) error {
	if i.Alias || i.root() {
		return nil
	}
	return os.Lchown(name, i.UID, i.GID)
}

func (i identity) ownOpen(f *os.File) error {
	if i.Alias || i.root() {
		return nil
	}
	return f.Chown(i.UID, i.GID)
}

// own changes owners by the names inside, while nothing else runs. What is shown read-only stays whose it is.
func (g *guest) own(dir string) {
	var answer reply
	err := folder(dir)
	if err == nil && !g.who.root() && !g.who.Alias {
		err = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = g.who.own(name)
			}
			if errors.Is(err, syscall.EROFS) {
				return nil
			}
			return err
		})
	}
	if err != nil {
		answer.Error = err.Error()
	}
	g.wire.send(answer)
}

// maxNames bounds what the names of a folder take in memory: some four million files.
const maxNames = 1 << 30

// tar writes the folder. It is read by its names inside, and nothing else runs that could change them meanwhile.
func (g *guest) tar(r reading, files []*os.File) {
	var answer reply
	tree, err := g.scan(r)
	if err == nil {
		err = filetree.WriteTar(files[0], tree)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	closeAll(files)
	g.wire.send(answer)
}

func (g *guest) scan(r reading) (*filetree.Tree, error) {
	if err := folder(r.Dir); err != nil {
		return nil, err
	}
	tree, err := filetree.Scan(r.Dir, filetree.ScanOptions{Owner: g.owners.of, Memory: maxNames})
	if err != nil {
		return nil, err
	}
	size := int64(0)
	for e := range tree.All() {
		if size += e.Size; size < 0 {
			size = math.MaxInt64
			break
		}
	}
	if cause := g.contentExcess(size, r.Limits); cause != "" {
		return nil, errors.New(cause)
	}
	return tree, nil
}
