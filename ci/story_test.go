package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"distro.internal/melange/plugin"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/testshell"
	"distro.internal/shared/apk"
)

// The stories of testdata/story run the world command, as people do, in a small
// workspace whose recipes take milliseconds. Their tools are the one package of
// testshell, so that they need nothing of the machine but its kernel.

func TestMain(m *testing.M) {
	sandbox.Main()
	plugin.Main()
	testscript.Main(
		testshell.Stories{Tests: m, Repositories: []string{"tools", "strange"}, Furnish: lendProgram},
		map[string]func(){"world": main, "as": as, "measured": measured},
	)
}

// lendProgram copies this program: other users may not enter the folder that it is in.
func lendProgram(dir string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "world")
	return errors.Join(copyTo(name, program), os.Chmod(name, 0o755))
}

// as runs a program with another umask and, if that is not negative, as another
// user: as UMASK UID PROGRAM ARGUMENT...
func as() {
	mask, err := strconv.ParseInt(os.Args[1], 8, 32)
	check(err)
	syscall.Umask(int(mask))
	uid, err := strconv.Atoi(os.Args[2])
	check(err)
	program, err := exec.LookPath(os.Args[3])
	check(err)
	if uid >= 0 {
		check(syscall.Setgroups(nil))
		check(syscall.Setgid(uid))
		check(syscall.Setuid(uid))
	}
	check(syscall.Exec(program, os.Args[3:], os.Environ()))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "as:", err)
		os.Exit(1)
	}
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/story",
		Setup: setup,
		Cmds:  storyCommands,
	})
}

// setup lays the workspace of testdata/workspace under the files of a story.
func setup(env *testscript.Env) error {
	work := env.WorkDir
	if err := layWorkspace(filepath.Join("testdata", "workspace"), work); err != nil {
		return err
	}
	for name, value := range storyEnv(work) {
		env.Setenv(name, value)
	}
	env.Setenv("HOST", string(apk.HostArch()))
	env.Values[callerKey{}] = new(caller)
	return nil
}

// storyEnv is what world finds in its environment.
func storyEnv(work string) map[string]string {
	return map[string]string{
		"HOME": filepath.Join(work, ".home"), "XDG_CACHE_HOME": filepath.Join(work, ".cache"),
		"XDG_CONFIG_HOME": filepath.Join(work, ".config"), "SOURCE_DATE_EPOCH": "",
		"PATH": testshell.Path(),
	}
}

// layWorkspace copies the files that are not there yet, and brings tools and key.
func layWorkspace(from, to string) error {
	err := filepath.WalkDir(from, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(to, rel)); err == nil {
			return nil
		}
		return copyTo(filepath.Join(to, rel), file)
	})
	if err != nil {
		return err
	}
	shared := testshell.Shared()
	for _, name := range []string{"distro.rsa", "distro.rsa.pub"} {
		if err := copyTo(filepath.Join(to, ".config", "distro", name), filepath.Join(shared, name)); err != nil {
			return err
		}
	}
	return os.CopyFS(filepath.Join(to, "tools"), os.DirFS(filepath.Join(shared, "tools")))
}

func copyTo(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

var storyCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"branch":    branch,
	"called":    called,
	"commit":    commit,
	"edit":      edit,
	"exits":     exits,
	"flip":      flip,
	"hostonly":  hostOnly,
	"listen":    listen,
	"linked":    linked,
	"remember":  remember,
	"strange":   strange,
	"strays":    strays,
	"switch":    checkoutBranch,
	"unchanged": unchanged,
	"unsigned":  unsigned,
}

// edit FILE OLD NEW replaces the one place of OLD.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	file := ts.MkAbs(args[0])
	text := ts.ReadFile(file)
	unescape := strings.NewReplacer(`\n`, "\n")
	old, replacement := unescape.Replace(args[1]), unescape.Replace(args[2])
	if n := strings.Count(text, old); n != 1 {
		ts.Fatalf("%s has %q %d times", args[0], old, n)
	}
	ts.Check(os.WriteFile(file, []byte(strings.Replace(text, old, replacement, 1)), 0o644))
}

// exits CODE PROGRAM ARGUMENT... wants an exact exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Logf("[exit %d]", code)
	if (strconv.Itoa(code) == args[0]) == neg {
		ts.Fatalf("exit code %d", code)
	}
}

// flip FILE changes one byte in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	data := []byte(ts.ReadFile(file))
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(file, data, 0o644))
}

// strange takes the tools from a repository that another key signed.
func strange(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		from := filepath.Join(testshell.Shared(), "strange", name)
		ts.Check(os.RemoveAll(ts.MkAbs(filepath.Join("tools", name))))
		info, err := os.Stat(from)
		ts.Check(err)
		if info.IsDir() {
			ts.Check(os.CopyFS(ts.MkAbs(filepath.Join("tools", name)), os.DirFS(from)))
		} else {
			ts.Check(copyTo(ts.MkAbs(filepath.Join("tools", name)), from))
		}
	}
}

// remember PATH... notes what is there, down to when it was written.
func remember(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Setenv(stateVariable(name), state(ts, name))
	}
}

// unchanged PATH... compares with what remember noted.
func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		was, is := ts.Getenv(stateVariable(name)), state(ts, name)
		if (was == is) == neg {
			ts.Fatalf("%s: as it was is not %v:\n%s", name, !neg, cmp.Diff(strings.Split(was, "\n"), strings.Split(is, "\n")))
		}
	}
}

func stateVariable(name string) string {
	return "STATE_" + strings.NewReplacer("/", "_", ".", "_").Replace(name)
}

func state(ts *testscript.TestScript, name string) string {
	var b strings.Builder
	ts.Check(filepath.WalkDir(ts.MkAbs(name), func(file string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || info.IsDir() || d.Name() == ".lock" {
			return err
		}
		fmt.Fprintln(&b, strings.TrimPrefix(file, ts.MkAbs(".")), info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	}))
	return b.String()
}

// hostOnly FILE... makes recipes ones for this machine's architecture.
func hostOnly(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		edit(ts, false, []string{name, "HOSTARCH", string(apk.HostArch())})
	}
}

// A caller notes whether somebody connects.
type caller struct {
	net.Listener
	calls atomic.Int32
}

type callerKey struct{}

// listen VARIABLE waits for calls, at the address that the variable will hold.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
	c := ts.Value(callerKey{}).(*caller)
	c.Listener = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.calls.Add(1)
			conn.Close()
		}
	}()
}

// called tells whether there was a call.
func called(ts *testscript.TestScript, neg bool, _ []string) {
	if n := ts.Value(callerKey{}).(*caller).calls.Load(); (n > 0) == neg {
		ts.Fatalf("%d calls", n)
	}
}

// strays fails when something below the story's folder is mounted, or a
// process of an environment is left.
func strays(ts *testscript.TestScript, _ bool, _ []string) {
	left, err := straysOf(ts.MkAbs("."))
	ts.Check(err)
	if left != "" {
		ts.Fatalf("left behind:\n%s", left)
	}
}

func straysOf(work string) (string, error) {
	var left strings.Builder
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, work) {
			left.WriteString(line)
		}
	}
	// A process of an environment has its root or folder, and so its command
	// line's or its mounts' words, below the work folder.
	processes, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return "", err
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), work+"/") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			fmt.Fprintf(&left, "process %s: %q\n", filepath.Base(filepath.Dir(file)), line)
		}
	}
	return left.String(), nil
}

// unsigned FILE takes the signature off an index.
func unsigned(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	index, err := apk.ReadIndex(strings.NewReader(ts.ReadFile(file)), apk.Verify{Insecure: true})
	ts.Check(err)
	var b bytes.Buffer
	ts.Check(apk.WriteIndex(&b, index, nil))
	ts.Check(os.WriteFile(file, b.Bytes(), 0o644))
}

// commit MESSAGE commits everything in the story's folder, on main at first.
func commit(ts *testscript.TestScript, _ bool, args []string) {
	repo, err := git.PlainOpen(ts.MkAbs("."))
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainInitWithOptions(ts.MkAbs("."), &git.PlainInitOptions{
			InitOptions: git.InitOptions{DefaultBranch: plumbing.NewBranchReferenceName("main")},
		})
	}
	ts.Check(err)
	tree, err := repo.Worktree()
	ts.Check(err)
	ts.Check(tree.AddWithOptions(&git.AddOptions{All: true}))
	_, err = tree.Commit(args[0], &git.CommitOptions{Author: &object.Signature{Name: "Somebody", Email: "somebody@example.com"}})
	ts.Check(err)
}

// branch NAME begins a branch.
func branch(ts *testscript.TestScript, _ bool, args []string) { checkoutTo(ts, args[0], true) }

// switch NAME goes to a branch.
func checkoutBranch(ts *testscript.TestScript, _ bool, args []string) { checkoutTo(ts, args[0], false) }

func checkoutTo(ts *testscript.TestScript, name string, create bool) {
	repo, err := git.PlainOpen(ts.MkAbs("."))
	ts.Check(err)
	tree, err := repo.Worktree()
	ts.Check(err)
	ts.Check(tree.Checkout(&git.CheckoutOptions{Branch: plumbing.NewBranchReferenceName(name), Create: create}))
}
