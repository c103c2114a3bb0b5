package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/rogpeppe/go-internal/testscript"

	"distro.internal/melange/plugin"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/testshell"
	"distro.internal/shared/apk"
)

// The stories of testdata/script run the melange command, as people do. Their
// environments hold the one package of testshell and what the stories build, so
// that they need nothing of the machine but its kernel.

func TestMain(m *testing.M) {
	sandbox.Main()
	plugin.Main()
	testscript.Main(&stories{m}, map[string]func(){"melange": main})
}

// stories prepares what all stories share, before any of them runs.
type stories struct{ tests *testing.M }

// sharedVariable names the folder with the tools' repository and a key.
const sharedVariable = "STORY_SHARED"

func (s *stories) Run() int {
	code, err := s.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (s *stories) run() (int, error) {
	dir, err := os.MkdirTemp("", "stories-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Setenv(sharedVariable, dir); err != nil {
		return 0, err
	}
	shell := filepath.Join(dir, "sh")
	if err := testshell.Compile(shell); err != nil {
		return 0, err
	}
	if err := testshell.Write(filepath.Join(dir, "tools"), shell, apk.Arch(hostArch())); err != nil {
		return 0, err
	}
	if err := writeKey(filepath.Join(dir, "key.rsa")); err != nil {
		return 0, err
	}
	return s.tests.Run(), nil
}

func writeKey(file string) error {
	key, err := apk.GenerateKey(2048)
	if err != nil {
		return err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(file, apk.EncodePrivateKey(key), 0o600),
		os.WriteFile(file+".pub", public, 0o644),
	)
}

var update = flag.Bool("update", false, "write what commands print into the stories")

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			dir := os.Getenv(sharedVariable)
			tools := filepath.Join(dir, "tools")
			web := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(e.WorkDir, "web"))))
			e.Defer(web.Close)
			if err := offerEmulator(e); err != nil {
				return err
			}
			for name, value := range map[string]string{
				"HOME": e.WorkDir, "XDG_CACHE_HOME": filepath.Join(e.WorkDir, "cache"), "HOST": hostArch(),
				"WEB": web.URL, "KEY": filepath.Join(dir, "key.rsa"), "TOOLS": tools, "TOOLSKEY": filepath.Join(tools, testshell.KeyName),
			} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"edit": edit, "install": install, "control": control, "module": module, "tags": tags},
		Condition: func(name string) (bool, error) {
			if name != "static" {
				return false, fmt.Errorf("condition %s is not known", name)
			}
			return static()
		},
	})
}

// offerEmulator puts the emulator that "make test" brings where a story's melange looks for one: the machine may have
// none of its own.
func offerEmulator(e *testscript.Env) error {
	file := os.Getenv("SANDBOX_TEST_QEMU_AARCH64")
	if file == "" {
		return nil
	}
	dir := filepath.Join(e.WorkDir, ".emulators")
	e.Setenv("PATH", dir+string(filepath.ListSeparator)+e.Getenv("PATH"))
	return errors.Join(os.Mkdir(dir, 0o755), os.Symlink(file, filepath.Join(dir, "qemu-aarch64-static")))
}

// edit replaces a text in a file: edit FILE OLD NEW.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not say %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o644))
}

// control prints a file of a package's control section: control PACKAGE FILE.
func control(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: control PACKAGE FILE")
	}
	c, err := openContent(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = ts.Stdout().Write(c.Control[args[1]])
	ts.Check(err)
}

// tags makes a git repository with a commit for each tag, or adds commits to it: tags FOLDER TAG.... A tag that ends in !
// is an object of its own. It prints each tag and its commit.
func tags(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: tags FOLDER TAG...")
	}
	dir := ts.MkAbs(args[0])
	repo, err := git.PlainOpen(dir)
	if err != nil {
		repo, err = git.PlainInit(dir, false)
	}
	ts.Check(err)
	tree, err := repo.Worktree()
	ts.Check(err)
	who := &object.Signature{Name: "Upstream", Email: "upstream@example.com", When: time.Unix(1e9, 0).UTC()}
	for _, name := range args[1:] {
		name, annotated := strings.CutSuffix(name, "!")
		ts.Check(os.WriteFile(filepath.Join(dir, "VERSION"), []byte(name+"\n"), 0o644))
		_, err := tree.Add(".")
		ts.Check(err)
		commit, err := tree.Commit("Release "+name, &git.CommitOptions{Author: who, Committer: who})
		ts.Check(err)
		var o *git.CreateTagOptions
		if annotated {
			o = &git.CreateTagOptions{Tagger: who, Message: name}
		}
		_, err = repo.CreateTag(name, commit, o)
		ts.Check(err)
		fmt.Fprintf(ts.Stdout(), "%s %s\n", name, commit)
	}
}
