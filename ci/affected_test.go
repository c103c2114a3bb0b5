package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
)

// What CI clones is cut off: there is no branch but its own, or the branch is there without where the two parted.
func TestMergeBaseOfShallowClones(t *testing.T) {
	dir := t.TempDir()
	run := func(in string, args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com", "-C", filepath.Join(dir, in)}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	run("", "init", "-q", "-b", "main", "origin")
	for _, step := range []string{"commit first", "checkout work", "commit mine", "checkout main", "commit theirs"} {
		switch verb, what, _ := strings.Cut(step, " "); verb {
		case "commit":
			run("origin", "commit", "-q", "--allow-empty", "-m", what)
		case "checkout":
			if what == "work" {
				run("origin", "branch", what)
			}
			run("origin", "checkout", "-q", what)
		}
	}
	origin := "file://" + filepath.Join(dir, "origin")
	run("", "clone", "-q", "-b", "work", origin, "whole")
	run("", "clone", "-q", "-b", "work", "--depth", "1", origin, "shallow")
	run("", "clone", "-q", "-b", "work", "--depth", "1", origin, "both")
	run("both", "fetch", "-q", "--depth", "1", "origin", "main:main")
	for _, c := range []struct{ clone, base, want string }{
		{"whole", "origin/main", ""},
		{"whole", "main", "git knows no branch or commit main (but origin/main)"},
		{"shallow", "main", "git knows no branch or commit main (the clone is shallow: git fetch --unshallow, and git fetch that branch)"},
		{"both", "main", "this clone has not the history back to where HEAD left it: git fetch --unshallow"},
	} {
		repo, err := git.PlainOpen(filepath.Join(dir, c.clone))
		if err != nil {
			t.Fatal(err)
		}
		commit, err := mergeBase(repo, c.base)
		switch {
		case c.want != "":
			if err == nil || err.Error() != c.want {
				t.Errorf("%s, %s: %v, want %s", c.clone, c.base, err, c.want)
			}
		case err != nil || commit.Message != "first\n":
			t.Errorf("%s, %s: %v, %v", c.clone, c.base, commit, err)
		}
	}
}
