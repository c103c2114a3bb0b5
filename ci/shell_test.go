package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
)

// A typist sits at a terminal on which one command runs.
type typist struct {
	t        *testing.T
	keyboard *os.File // the terminal's other side
	terminal *os.File
	before   unix.Termios
	cmd      *exec.Cmd

	mu     sync.Mutex
	screen bytes.Buffer // what was printed since it was looked at last
}

// sit starts the command on a new terminal of 12 rows and 34 columns.
func sit(t *testing.T, cmd *exec.Cmd) *typist {
	t.Helper()
	y := &typist{t: t, cmd: cmd}
	var err error
	y.keyboard, y.terminal, err = pty.Open()
	must(t, err)
	t.Cleanup(func() { y.keyboard.Close(); y.terminal.Close() })
	must(t, pty.Setsize(y.terminal, &pty.Winsize{Rows: 12, Cols: 34}))
	y.before = y.modes()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = y.terminal, y.terminal, y.terminal
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := y.keyboard.Read(buf)
			if err != nil {
				return
			}
			y.mu.Lock()
			y.screen.Write(buf[:n])
			y.mu.Unlock()
		}
	}()
	return y
}

func (y *typist) modes() unix.Termios {
	modes, err := unix.IoctlGetTermios(int(y.terminal.Fd()), unix.TCGETS)
	must(y.t, err)
	return *modes
}

func (y *typist) types(keys string) {
	y.t.Helper()
	_, err := y.keyboard.WriteString(keys)
	must(y.t, err)
}

// sees waits until something is printed, and forgets everything up to it.
func (y *typist) sees(text string) {
	y.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		y.mu.Lock()
		_, after, found := bytes.Cut(y.screen.Bytes(), []byte(text))
		if found {
			rest := bytes.Clone(after)
			y.screen.Reset()
			y.screen.Write(rest)
		}
		said := y.screen.String()
		y.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			y.t.Fatalf("%q was never seen; the screen has %q", text, said)
		}
	}
}

// asks types a line and waits for what answers it. The line itself is seen as well, so the answer must not be in it.
func (y *typist) asks(line, answer string) {
	y.t.Helper()
	y.types(line + "\r")
	y.sees(answer)
}

// leaves waits for the end of the command, and looks whether the terminal is as it was.
func (y *typist) leaves(code int) {
	y.t.Helper()
	y.cmd.Wait()
	if got := y.cmd.ProcessState.ExitCode(); got != code {
		y.t.Errorf("the exit code is %d, not %d", got, code)
	}
	if y.modes() != y.before {
		y.t.Error("the terminal is not as it was")
	}
}

// shellPlace is where somebody has a melange and a repository, but none of our caches.
type shellPlace struct {
	dir      string
	emulator string
	uid      int
}

// melange is the command as that somebody calls it.
func (p shellPlace) melange(args ...string) *exec.Cmd {
	args = append([]string{"shell", "-r", filepath.Join(p.dir, "repository"), "-k", filepath.Join(p.dir, "distro.rsa.pub")}, args...)
	cmd := exec.Command(filepath.Join(p.dir, "melange"), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"HOME=" + filepath.Join(p.dir, "home"), "PATH=/usr/bin:/bin", "TERM=xterm", "TMPDIR=" + filepath.Join(p.dir, "home")}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if p.uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}
	}
	return cmd
}

// shells has people sit at terminals in environments of packages and of tests, for every architecture: as the user who runs
// these tests, and, when that is root, as an ordinary one.
func (s *sample) shells(t *testing.T) {
	const ordinary = 54321
	users := map[string]int{"own": os.Geteuid()}
	if os.Geteuid() == 0 {
		users["ordinary"] = ordinary
	}
	for name, uid := range users {
		t.Run(name, func(t *testing.T) {
			p := s.shellPlace(t, uid)
			before := registrations(t)
			for _, arch := range s.config.Archs {
				t.Run(arch, func(t *testing.T) {
					with := []string{"--arch", arch, "--emulator", p.emulator}
					if apk.Arch(arch) == apk.HostArch() {
						with = with[:2]
					}
					shellOfPackages(sit(t, p.melange(append(with, "busybox")...)), arch)
					shellOfTest(sit(t, p.melange(append(with, "lua.yaml", "--test", "lua")...)), arch)
				})
			}
			if after := registrations(t); after != before {
				t.Errorf("registered on the host: %s, before %s", after, before)
			}
		})
	}
	t.Run("build", func(t *testing.T) { s.shellOfBuild(t) })
}

func registrations(t *testing.T) string {
	files, err := filepath.Glob("/proc/sys/fs/binfmt_misc/*")
	must(t, err)
	return strings.Join(files, " ")
}

func (s *sample) shellPlace(t *testing.T, uid int) shellPlace {
	t.Helper()
	p := shellPlace{dir: t.TempDir(), uid: uid}
	must(t, os.Chmod(filepath.Dir(p.dir), 0o755)) // other users may go there
	emulators := s.emulators(t)
	for _, arch := range s.config.Archs {
		must(t, os.CopyFS(filepath.Join(p.dir, "repository", arch), os.DirFS(s.out("repository", arch))))
		if program, foreign := emulators[arch]; foreign {
			p.emulator = filepath.Join(p.dir, "qemu-"+arch)
			lend(t, program, p.emulator)
		}
	}
	lend(t, s.path(filepath.Join(s.config.Keys, "distro.rsa.pub")), filepath.Join(p.dir, "distro.rsa.pub"))
	lend(t, s.path("packages/lua.yaml"), filepath.Join(p.dir, "lua.yaml"))
	must(t, os.CopyFS(filepath.Join(p.dir, "include"), os.DirFS(s.path("packages/include"))))
	must(t, os.Mkdir(filepath.Join(p.dir, "home"), 0o755))
	must(t, os.Chown(filepath.Join(p.dir, "home"), uid, uid))
	buildMelange(t, filepath.Join(p.dir, "melange"))
	return p
}

func buildMelange(t *testing.T, file string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", file, "distro.internal/melange")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// lend copies a file to where everybody may read and run it.
func lend(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, data, 0o755))
}

// shellOfPackages does what people do at a prompt.
func shellOfPackages(y *typist, arch string) {
	y.sees("# ")
	if y.modes().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		y.t.Error("the terminal interprets keys that are the shell's")
	}
	y.asks("uname -m", "\n"+arch)
	y.asks("stty size", "\n12 34\r")
	must(y.t, pty.Setsize(y.terminal, &pty.Winsize{Rows: 50, Cols: 132}))
	y.asks("sleep 1; stty size", "\n50 132\r")

	y.asks("sleep 1000 &", "# ")
	y.asks("jobs", "Running")
	y.types("fg\r")
	y.sees("\nsleep 1000")
	time.Sleep(time.Second) // until it is in the foreground
	y.types("\x1a")
	y.sees("Stopped")
	y.asks("kill -9 %1; sleep 1; jobs", "Killed")

	y.asks("echo re''ady; sleep 1000", "\nready")
	time.Sleep(time.Second)
	y.types("\x03") // Ctrl-C is for what runs inside, and neither for its shell nor for melange
	y.asks("echo code $?", "\ncode 130")
	y.types("wrong\x03")
	y.asks("echo wr''ong", "\nwrong")
	y.asks("exit 7", "7")
	y.leaves(7)
}

// shellOfTest looks for what is to be tested, and ends as typists do.
func shellOfTest(y *typist, arch string) {
	y.sees("# ")
	y.asks("lua -e 'print(6 * 7)'; uname -m; pwd", "\n42\r\n"+arch+"\r\n/home/build\r")
	y.sees("# ")
	y.types("\x04")
	y.leaves(0)
}

// shellOfBuild finds the sources of a recipe where its first step would.
func (s *sample) shellOfBuild(t *testing.T) {
	dir := t.TempDir()
	buildMelange(t, filepath.Join(dir, "melange"))
	emulators := s.emulators(t)
	for _, arch := range s.config.Archs {
		cmd := exec.Command(filepath.Join(dir, "melange"), "shell", s.path("packages/lua.yaml"), "--arch", arch,
			"-r", s.out("repository"), "-k", s.path(filepath.Join(s.config.Keys, "distro.rsa.pub")))
		if program, foreign := emulators[arch]; foreign {
			cmd.Args = append(cmd.Args, "--emulator", program)
		}
		cmd.Dir, cmd.Env, cmd.SysProcAttr = s.flags.dir, append(os.Environ(), "TERM=xterm"), &syscall.SysProcAttr{}
		y := sit(t, cmd)
		y.sees("# ")
		y.asks("test -e src/lua.c && test -e Makefile && echo un''packed", "\nunpacked")
		y.asks("${CC:-cc} --version >/dev/null && echo com''piler", "\ncompiler")
		y.asks("exit", "exit")
		y.leaves(0)
	}
}
