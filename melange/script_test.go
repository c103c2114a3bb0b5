package main

import (
	"flag"
	"fmt"
	"io"
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
)

// The stories of testdata/script run the melange command, as people do. Their
// environments hold the one package of testshell and what the stories build, so
// that they need nothing of the machine but its kernel.

func TestMain(m *testing.M) {
	sandbox.Main()
	plugin.Main()
	testscript.Main(testshell.Stories{Tests: m, Repositories: []string{"tools"}}, map[string]func(){"melange": main})
}

var update = flag.Bool("update", false, "write what commands print into the stories")

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			tools := filepath.Join(testshell.Shared(), "tools")
			web := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(e.WorkDir, "web"))))
			e.Defer(web.Close)
			for name, value := range map[string]string{
				"HOME": e.WorkDir, "XDG_CACHE_HOME": filepath.Join(e.WorkDir, "cache"), "HOST": hostArch(),
				"PATH": testshell.Path(), "WEB": web.URL, "KEY": filepath.Join(testshell.Shared(), testshell.KeyFile), "TOOLS": tools, "TOOLSKEY": filepath.Join(tools, testshell.KeyName),
			} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"attested": attested, "edit": edit, "install": install, "file": fileOf, "control": control, "module": module, "tags": tags},
		Condition: func(name string) (bool, error) {
			if name != "static" {
				return false, fmt.Errorf("condition %s is not known", name)
			}
			return static()
		},
	})
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

// fileOf prints a file of a package: file PACKAGE PATH.
func fileOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: file PACKAGE PATH")
	}
	c, err := openContent(ts.MkAbs(args[0]))
	ts.Check(err)
	e, ok := c.tree.Lookup(args[1])
	if !ok {
		ts.Fatalf("%s has no %s", args[0], args[1])
	}
	r, err := e.Open()
	ts.Check(err)
	defer r.Close()
	_, err = io.Copy(ts.Stdout(), r)
	ts.Check(err)
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
