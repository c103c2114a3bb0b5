package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPatchLikeGNU: random changes, taken as a diff, and applied to what was changed otherwise meanwhile, come to the same as
// with patch of GNU, or do not fit there either. Its lines are few words, so that many places look alike.
func TestPatchLikeGNU(t *testing.T) {
	for _, tool := range []string{"patch", "diff"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s to compare with", tool)
		}
	}
	fit := 0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		t.Chdir(dir)
		before := words(r, r.IntN(60))
		write(t, "a/sub/file", before)
		write(t, "b/sub/file", edit(r, before, 1+r.IntN(6)))
		if r.IntN(3) == 0 {
			write(t, "b/new/file", words(r, 3))
			write(t, "a/old/file", words(r, 3))
		}
		text, _ := exec.Command("diff", "-urN", fmt.Sprintf("-U%d", r.IntN(4)), "a", "b").Output()
		write(t, "patch", string(text))
		meanwhile := edit(r, before, r.IntN(4))
		for _, tree := range []string{"theirs", "ours"} {
			write(t, tree+"/sub/file", meanwhile)
			if old, err := os.ReadFile("a/old/file"); err == nil {
				write(t, tree+"/old/file", string(old))
			}
		}
		theirs := exec.Command("patch", "-p1", "--fuzz=2", "--force", "--no-backup-if-mismatch", "-i", "../patch")
		theirs.Dir = "theirs"
		said, theirErr := theirs.CombinedOutput()
		t.Chdir("ours")
		ourErr := patch([]string{"--patches=../patch", "--fuzz=2"})
		t.Chdir("..")
		if (theirErr == nil) != (ourErr == nil) {
			t.Errorf("seed %d: %v, and patch of GNU: %v\n%s", seed, ourErr, theirErr, said)
			continue
		}
		if theirErr == nil {
			fit++
			if d := cmp.Diff(files(t, "theirs"), files(t, "ours")); d != "" {
				t.Errorf("seed %d (-theirs +ours):\n%s\n%s", seed, d, said)
			}
		}
	}
	if fit < 50 {
		t.Errorf("only %d of the patches fit", fit)
	}
}

func words(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString([]string{"", "one", "two", "three", "\tfour"}[r.IntN(5)] + "\n")
	}
	return b.String()
}

// edit changes lines of a text at random, and may take the last newline.
func edit(r *rand.Rand, text string, changes int) string {
	lines := strings.SplitAfter(text, "\n")
	for range changes {
		i := r.IntN(len(lines))
		switch r.IntN(3) {
		case 0:
			lines[i] = "changed\n"
		case 1:
			lines = append(lines[:i], lines[i+1:]...)
		default:
			lines[i] = words(r, 1+r.IntN(4)) + lines[i]
		}
		if len(lines) == 0 {
			lines = []string{""}
		}
	}
	text = strings.Join(lines, "")
	if r.IntN(5) == 0 {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644))
}

// files is what lies in a folder: kinds, permissions and contents by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(file, ".rej") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text string
		if d.Type() == fs.ModeSymlink {
			text, err = os.Readlink(file)
		} else {
			var b []byte
			b, err = os.ReadFile(file)
			text = string(b)
		}
		name, _ := filepath.Rel(dir, file)
		all[name] = fmt.Sprintf("%v %s", info.Mode(), text)
		return err
	}))
	return all
}

// TestPatch: git's headers, mistakes, and what a patch must not do. A case is a patch, with the files before and after it,
// one a line: NAME=MODE CONTENT, where | ends a line of the content. In place of those after it may stand an error.
func TestPatch(t *testing.T) {
	const header = "diff --git a/x b/x\n"
	for name, c := range map[string]struct{ before, patch, after string }{
		"new":     {"", header + "new file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+text\n", "x=-rwxr-xr-x text|"},
		"empty":   {"", "diff --git a/d/x b/d/x\nnew file mode 100644\nindex 0000000..e69de29\n", "d/x=-rw-r--r-- "},
		"deleted": {"x=-rw-r--r-- text|", header + "deleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-text\n", ""},
		"not all": {"x=-rw-r--r-- text|more|", header + "deleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-text\n",
			"p:1: x is to be deleted, and has more than the patch takes away"},
		"mode":           {"x=-rw-r--r-- text|", header + "old mode 100644\nnew mode 100755\n", "x=-rwxr-xr-x text|"},
		"keeps its mode": {"x=-r-xr-xr-x text|", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-text\n+other\n", "x=-r-xr-xr-x other|"},
		"renamed": {"d/x=-rw-r--r-- a|b|", "diff --git a/d/x b/e/y\nsimilarity index 50%\nrename from d/x\nrename to e/y\n--- a/d/x\n+++ b/e/y\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
			"e/y=-rw-r--r-- a|c|"},
		"copied":    {"x=-rw-r--r-- a|", "diff --git a/x b/y\ncopy from x\ncopy to y\n", "x=-rw-r--r-- a|\ny=-rw-r--r-- a|"},
		"link":      {"", header + "new file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/to\n\\ No newline at end of file\n", "x=Lrwxrwxrwx /to"},
		"letter":    {"x=-rw-r--r-- a|", "From: me\n---\n x | 2 +-\n\n" + header + "--- a/x\n+++ b/x\n@@ -1 +1 @@ main\n-a\n+b\n-- \n2.30\n", "x=-rw-r--r-- b|"},
		"quoted":    {"ä x=-rw-r--r-- a|", "diff --git \"a/\\303\\244 x\" \"b/\\303\\244 x\"\n--- \"a/\\303\\244 x\"\n+++ \"b/\\303\\244 x\"\n@@ -1 +1 @@\n-a\n+b\n", "ä x=-rw-r--r-- b|"},
		"CR LF":     {"x=-rw-r--r-- a|", "--- a/x\r\n+++ b/x\r\n@@ -1 +1 @@\r\n-a\r\n+b\r\n", "x=-rw-r--r-- b|"},
		"endings":   {"x=-rw-r--r-- a\r|", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "p:3: x: hunk 1, for line 1, does not fit (the file has other line endings)"},
		"applied":   {"x=-rw-r--r-- b|", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "p:3: x: hunk 1, for line 1, does not fit (it is applied already)"},
		"missing":   {"", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "p:1: there is no x"},
		"there":     {"x=-rw-r--r-- a|", header + "new file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+text\n", "p:1: x is to be made, and is there already"},
		"outside":   {"", "--- a/../../x\n+++ b/../../x\n@@ -0,0 +1 @@\n+b\n", "p:1: ../../x leads out of the folder"},
		"to a link": {"x=Lrwxrwxrwx /etc/passwd", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "p:1: x is not a regular file"},
		"binary":    {"x=-rw-r--r-- a|", header + "index 1..2 100644\nGIT binary patch\nliteral 1\n", "p:1: b/x: a git binary patch cannot be applied"},
		"nothing":   {"", "hello\n", "p: there is no unified diff in it"},
		"cut off":   {"x=-rw-r--r-- a|", "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n-a\n+b\n", "p:6: the patch ends in the middle of a hunk that began in line 3"},
		"garbage":   {"x=-rw-r--r-- a|", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\nb\n", `p:5: a line of a hunk begins with a space, + or -, found "b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for line := range strings.Lines(c.before) {
				place(t, strings.TrimSuffix(line, "\n"))
			}
			write(t, "p", c.patch)
			err := patch([]string{"--patches=p"})
			must(t, os.Remove("p"))
			if err != nil {
				if err.Error() != c.after {
					t.Errorf("%v, want %s", err, c.after)
				}
				return
			}
			want := map[string]string{}
			for line := range strings.Lines(c.after) {
				name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				want[name] = strings.ReplaceAll(rest, "|", "\n")
			}
			if d := cmp.Diff(want, files(t, ".")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// place makes a file from a line of a case.
func place(t *testing.T, line string) {
	t.Helper()
	name, rest, _ := strings.Cut(line, "=")
	mode, text, _ := strings.Cut(rest, " ")
	if mode[0] == 'L' {
		must(t, os.Symlink(text, name))
		return
	}
	write(t, name, strings.ReplaceAll(text, "|", "\n"))
	var perm os.FileMode
	for i, c := range mode[1:] {
		if c != '-' {
			perm |= 1 << (8 - i)
		}
	}
	must(t, os.Chmod(name, perm))
}

// TestSeries: a list of patches as quilt has it.
func TestSeries(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "x", "a\n")
	write(t, "one", "--- x\n+++ x\n@@ -1 +1 @@\n-a\n+b\n")
	write(t, "two", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-b\n+c\n")
	write(t, "series", "# both\n\none -p0\ntwo # the rest\n")
	must(t, patch([]string{"--series=series", "--patches="}))
	if text, err := os.ReadFile("x"); err != nil || string(text) != "c\n" {
		t.Errorf("%q, %v", text, err)
	}
}
