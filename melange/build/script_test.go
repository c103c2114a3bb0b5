package build

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"distro.internal/melange/recipe"
)

// statements is what a shell reads in a script, each in one layout. ok is whether it is the shell's language.
func statements(script string) (list []string, ok bool) {
	file, err := syntax.NewParser().Parse(strings.NewReader(script), "")
	if err != nil {
		return nil, false
	}
	for _, s := range file.Stmts {
		var b strings.Builder
		if err := syntax.NewPrinter().Print(&b, s); err != nil {
			return nil, false
		}
		list = append(list, b.String())
	}
	return list, true
}

// FuzzShell: around a script nothing changes what it says, and where it runs is not read at all.
func FuzzShell(f *testing.F) {
	for _, script := range []string{
		"", "make", "make \\", "# only this", "cat <<E\nx\nE", "cat <<E\nx\nE\n", "if a; then b; fi", "a && b ||\n\nc", "case x in\n*) y ;; esac",
		"echo 'a\nb' \"$(c)\"", "a &", "{ a; }", "f() {\n a\n}\nf",
	} {
		f.Add(script, "/home/build/a b")
	}
	f.Add("make", `$(reboot)"; rm -rf "/`)
	before, _ := statements(shell(recipe.Step{}, true)[2])
	f.Fuzz(func(t *testing.T, script, dir string) {
		words := shell(recipe.Step{Script: script, Dir: dir}, true)
		if !strings.HasPrefix(dir, "/") {
			dir = recipe.Workspace
		}
		if len(words) != 4 || !strings.HasPrefix(words[3], "/") || dir == "/" && words[3] != dir {
			t.Fatalf("the folder %q is %q", dir, words[3:])
		}
		own, ok := statements(script + "\n")
		if !ok {
			return
		}
		want := slices.Concat(before[:4], own, before[4:])
		if got, ok := statements(words[2]); !ok || !slices.Equal(got, want) {
			t.Fatalf("%q is read as %q", script, got)
		}
	})
}

// TestShell: a real shell, with names of folders that would do harm if they were read.
func TestShell(t *testing.T) {
	bash, err := exec.LookPath("bash") // dash does not know pipefail everywhere
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		script, dir, out string
		fails            bool
	}{
		{script: "pwd", dir: "a b/$(touch no)\"; touch no; \"", out: "a b/$(touch no)\"; touch no; \"\n"},
		{script: "echo one\n[ a = b ] && echo two", dir: "a", out: "one\n"},
		{script: "echo one \\", dir: "a", out: "one\n"},
		{script: "false | cat\necho on", dir: "a", fails: true},
		{script: "false\necho on", dir: "a", fails: true},
		{script: "exit 3", dir: "a", fails: true},
	} {
		root := t.TempDir()
		words := shell(recipe.Step{Script: c.script, Dir: root + "/" + c.dir}, false)
		cmd := exec.Command(bash, words[1:]...)
		cmd.Dir = root
		out, err := cmd.Output()
		if got := strings.ReplaceAll(string(out), root+"/", ""); got != c.out || (err != nil) != c.fails {
			t.Errorf("%q in %q: %q, %v", c.script, c.dir, got, err)
		}
		if _, err := exec.Command("test", "-e", root+"/no").Output(); err == nil {
			t.Errorf("%q was run", c.dir)
		}
	}
}
