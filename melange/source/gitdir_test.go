package source

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing/filemode"

	"distro.internal/melange/recipe"
)

// gitIn runs git, with an identity and a clock of its own, and without the settings of this machine.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "protocol.file.allow=always", "-c", "advice.detachedHead=false"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=@1000000000 +0000",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_COMMITTER_DATE=@1000000000 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// upstream makes a repository with a merge, an annotated and a plain tag, a link, and a submodule.
func upstream(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is the judge, and it is not installed")
	}
	top := t.TempDir()
	lib, dir := filepath.Join(top, "lib"), filepath.Join(top, "up")
	for _, d := range []string{lib, dir} {
		gitIn(t, top, "init", "-q", "-b", "main", d)
	}
	writeFile(t, filepath.Join(lib, "lib.c"), "lib\n")
	gitIn(t, lib, "add", ".")
	gitIn(t, lib, "commit", "-q", "-m", "lib")
	commit := func(message string) {
		gitIn(t, dir, "add", ".")
		gitIn(t, dir, "commit", "-q", "-m", message)
	}
	long := strings.Repeat("some line that stays as it is\n", 100)
	for i := range 7 {
		writeFile(t, filepath.Join(dir, "src", "main.c"), fmt.Sprintf("%s%d\n%s", long, i, long))
		writeFile(t, filepath.Join(dir, "doc", fmt.Sprintf("%d", i)), "text\n")
		commit(fmt.Sprint(i))
	}
	if err := os.Symlink("src/main.c", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	gitIn(t, dir, "submodule", "--quiet", "add", "file://"+lib, "third/party")
	commit("a submodule")
	gitIn(t, dir, "checkout", "-q", "-b", "side", "main~3")
	writeFile(t, filepath.Join(dir, "side"), "side\n")
	commit("side")
	gitIn(t, dir, "checkout", "-q", "main")
	gitIn(t, dir, "merge", "-q", "--no-ff", "-m", "merge", "side")
	gitIn(t, dir, "tag", "-a", "-m", "release", "v1")
	gitIn(t, dir, "tag", "plain", "main~1")
	gitIn(t, dir, "tag", "sub/of-a-tree", "main^{tree}")
	writeFile(t, filepath.Join(dir, "fix"), "fix\n")
	commit("a fix\n\nof much")
	writeFile(t, filepath.Join(dir, "after"), "after\n")
	commit("after")
	return dir
}

func workTree(t *testing.T, src recipe.Source) string {
	t.Helper()
	src.Kind, src.Directory = recipe.SourceGit, "."
	workspace := t.TempDir()
	if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
		t.Fatal(err)
	}
	return workspace
}

// TestGitJudges: git finds nothing wrong in what is written, and answers as in a clone of its own.
func TestGitJudges(t *testing.T) {
	dir := upstream(t)
	uri := "file://" + dir
	at := func(rev string) string { return gitIn(t, dir, "rev-parse", rev+"^{commit}") }
	clone := func(args ...string) string {
		to := t.TempDir()
		gitIn(t, to, append([]string{"clone", "-q"}, append(args, uri, "c")...)...)
		return filepath.Join(to, "c")
	}
	old := clone()
	gitIn(t, old, "reset", "-q", "--hard", at("v1"))
	for name, c := range map[string]struct {
		src    recipe.Source
		cloned string
	}{
		"tag":       {recipe.Source{Commit: at("v1"), Tag: "v1"}, clone("--depth=1", "--branch=v1")},
		"plain tag": {recipe.Source{Commit: at("plain"), Tag: "plain"}, clone("--depth=1", "--branch=plain")},
		"three":     {recipe.Source{Commit: at("v1"), Tag: "v1", Depth: 3}, clone("--depth=3", "--branch=v1")},
		"object":    {recipe.Source{Commit: gitIn(t, dir, "rev-parse", "v1"), Tag: "v1", Depth: -1}, clone("--branch=v1")},
		"all":       {recipe.Source{Commit: at("v1"), Tag: "v1", Depth: -1}, clone("--branch=v1")},
		"too deep":  {recipe.Source{Commit: at("v1"), Tag: "v1", Depth: 100}, clone("--branch=v1", "--depth=100")},
		"branch":    {recipe.Source{Commit: at("v1"), Branch: "main"}, old},
		"after":     {recipe.Source{Commit: at("main"), Branch: "main"}, clone("--branch=main")},
		"tip":       {recipe.Source{Commit: at("main"), Branch: "main", Tip: true}, clone("--depth=1", "--branch=main")},
		"few":       {recipe.Source{Commit: at("main"), Branch: "main", Depth: 3}, clone("--depth=3", "--branch=main")},
		"submodule": {recipe.Source{Commit: at("v1"), Tag: "v1", Submodules: true}, clone("--depth=1", "--branch=v1", "--recurse-submodules", "--shallow-submodules")},
	} {
		t.Run(name, func(t *testing.T) {
			c.src.URI = uri
			ours := workTree(t, c.src)
			if out := gitIn(t, ours, "fsck", "--strict", "--full"); out != "" {
				t.Error("fsck: ", out)
			}
			gitIn(t, ours, "diff-index", "--quiet", "HEAD") // before anything has refreshed the index
			questions := [][]string{
				{"status", "--porcelain"}, {"rev-parse", "HEAD"}, {"log", "--format=%H %P"}, {"rev-list", "--count", "HEAD"},
				{"rev-parse", "--abbrev-ref", "HEAD"}, {"rev-parse", "--is-shallow-repository"}, {"remote", "get-url", "origin"},
				{"ls-files", "--stage"}, {"ls-tree", "-r", "HEAD"}, {"submodule", "status"},
			}
			if c.src.Tag != "" {
				questions = append(questions, []string{"describe", "--tags", "--dirty", "--exact-match"})
			} else { // the tags of the history, of either kind
				questions = append(questions, []string{"describe", "--tags", "--always", "--dirty"}, []string{"describe", "--always", "--long"},
					[]string{"tag", "--merged"}, []string{"for-each-ref", "--merged=HEAD", "--format=%(objecttype) %(*objectname) %(refname)", "refs/tags"})
			}
			for _, q := range questions {
				got, want := gitIn(t, ours, q...), gitIn(t, c.cloned, q...)
				if q[0] == "submodule" { // how a submodule is described is by the tags and branches that it has
					got, _, _ = strings.Cut(got, "(")
					want, _, _ = strings.Cut(want, "(")
				}
				if got != want {
					t.Errorf("git %v:\n%s\nin a clone:\n%s", q, got, want)
				}
			}
			if c.src.Tag != "" && gitIn(t, ours, "describe", "--dirty") != c.src.Tag {
				t.Error("git describe has no tag")
			}
			got, _ := os.ReadFile(filepath.Join(ours, ".git", "shallow"))
			want, _ := os.ReadFile(filepath.Join(c.cloned, ".git", "shallow"))
			if string(got) != string(want) {
				t.Errorf("shallow is %q, in a clone %q", got, want)
			}
			if c.src.Submodules {
				if out := gitIn(t, filepath.Join(ours, "third", "party"), "status", "--porcelain"); out != "" {
					t.Error("in the submodule: ", out)
				}
				gitIn(t, filepath.Join(ours, "third", "party"), "fsck", "--strict")
			}
			writeFile(t, filepath.Join(ours, "src", "main.c"), "other\n")
			if got := gitIn(t, ours, "status", "--porcelain"); got != "M src/main.c" {
				t.Errorf("after a change status is %q", got)
			}
			gitIn(t, ours, "commit", "-q", "-a", "-m", "mine")
		})
	}
}

// TestGitSparseAndPicked: what a sparse checkout leaves out is no change, and what is picked is a commit.
func TestGitSparseAndPicked(t *testing.T) {
	dir := upstream(t)
	src := recipe.Source{URI: "file://" + dir, Commit: gitIn(t, dir, "rev-parse", "v1^{commit}"), Tag: "v1", SparsePaths: []string{"doc"}}
	ours := workTree(t, src)
	gitIn(t, ours, "fsck", "--strict")
	if out := gitIn(t, ours, "status", "--porcelain"); out != "" {
		t.Error("status of a sparse checkout: ", out)
	}
	if got := gitIn(t, ours, "sparse-checkout", "list"); got != "doc" {
		t.Errorf("sparse is %q", got)
	}
	gitIn(t, ours, "sparse-checkout", "disable")
	if _, err := os.Stat(filepath.Join(ours, "src", "main.c")); err != nil {
		t.Error("what was left out cannot be had: ", err)
	}

	src.SparsePaths = nil
	src.CherryPicks = []recipe.CherryPick{{Branch: "main", Commit: gitIn(t, dir, "rev-parse", "main~1"), Comment: "needed"}}
	ours = workTree(t, src)
	gitIn(t, ours, "fsck", "--strict")
	if out := gitIn(t, ours, "status", "--porcelain"); out != "" {
		t.Error("status after a pick: ", out)
	}
	gitIn(t, dir, "checkout", "-q", "v1")
	gitIn(t, dir, "cherry-pick", "-x", "main~1")
	for _, q := range [][]string{{"rev-parse", "HEAD"}, {"rev-parse", "HEAD^{tree}"}, {"log", "-1", "--format=%an %s %b"}, {"describe"}} {
		if got, want := gitIn(t, ours, q...), gitIn(t, dir, q...); got != want {
			t.Errorf("git %v is %q, where git has picked %q", q, got, want)
		}
	}
}

// TestGitBranchTags: from a server, the tags of a branch are those that it had when the commit was first seen, also offline.
func TestGitBranchTags(t *testing.T) {
	dir := upstream(t)
	uri := realServer(t, filepath.Dir(dir)) + "/up/.git"
	src := recipe.Source{Kind: recipe.SourceGit, Directory: ".", URI: uri, Commit: gitIn(t, dir, "rev-parse", "main"), Branch: "main"}
	s := testStore(t)
	for _, offline := range []bool{false, false, true} {
		s.Offline = offline
		workspace := t.TempDir()
		if _, err := s.Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		gitIn(t, workspace, "fsck", "--strict")
		if got, want := gitIn(t, workspace, "describe"), "v1-2-g"+src.Commit[:7]; got != want {
			t.Errorf("git describe says %q, want %q", got, want)
		}
		gitIn(t, dir, "tag", "-f", "-a", "-m", "later", "later", "main")
	}
}

// TestGitAttributes: files are in the work tree as git writes them.
func TestGitAttributes(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "up")
	gitIn(t, top, "init", "-q", "-b", "main", dir)
	for name, text := range map[string]string{
		".gitattributes": "# comment\n* text=auto\n*.bat eol=crlf\n*.txt text eol=crlf\n*.bin binary\n[attr]dos text eol=crlf\n*.dos dos\n" +
			"*.id ident\n/top.c eol=crlf\nsub/**/deep.h text eol=crlf\n*.big filter=lfs diff=lfs merge=lfs -text\nversion export-subst\n" +
			"\"with space.x\" text eol=crlf\n[a-c]?.cl text eol=crlf\n*.old crlf eol=crlf\n*.guess text=auto eol=crlf\n",
		"sub/.gitattributes": "*.txt eol=lf\nonly.h eol=crlf\n/here eol=crlf\n*.bat -text\n",
		"a.bat":              "one\ntwo\n", "sub/a.bat": "one\n", "b.txt": "x\ny", "sub/b.txt": "x\n", "c.bin": "x\n", "d.dos": "x\n\n",
		"e.id": "$Id$ and $Id: some thing of others $ and $Id: 0123 $\n", "sub/e.id": "$Id", "top.c": "c\n", "sub/top.c": "c\n",
		"sub/deep.h": "x\n", "sub/a/b/deep.h": "x\n", "deep.h": "x\n", "sub/only.h": "x\n", "sub/a/only.h": "x\n",
		"sub/here": "x\n", "sub/a/here": "x\n", "f.big": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
		"version": "$Format:%H$\n", "with space.x": "x\n", "ax.cl": "x\n", "dx.cl": "x\n", "m.txt": "a\r\nb\n", "n.guess": "a\r\nb\n",
		"nul.guess": "a\x00\n", "o.old": "x\n", "p.guess": "a\nb\n", "no": "x\n", "empty.txt": "", "z.guess": "\x01\x02\x03\n", "w.guess": "w\rw\n",
	} {
		writeFile(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	gitIn(t, dir, "-c", "core.autocrlf=false", "-c", "core.safecrlf=false", "add", ".")
	// What is in a repository need not be what git would put there.
	for _, name := range []string{"m.txt", "n.guess", "e.id"} {
		hash := gitIn(t, dir, "hash-object", "-w", "--no-filters", name)
		gitIn(t, dir, "update-index", "--cacheinfo", "100644,"+hash+","+name)
	}
	gitIn(t, dir, "-c", "core.safecrlf=false", "commit", "-q", "-m", "all")
	gitIn(t, top, "clone", "-q", dir, "clone")
	ours := workTree(t, recipe.Source{URI: "file://" + dir, Commit: gitIn(t, dir, "rev-parse", "HEAD"), Branch: "main"})
	for name := range strings.Lines(gitIn(t, dir, "ls-files") + "\n") {
		name = strings.TrimSpace(strings.Trim(name, "\n"))
		want, err := os.ReadFile(filepath.Join(top, "clone", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(ours, filepath.FromSlash(name))); err != nil || string(got) != string(want) {
			t.Errorf("%s is %q, %v; git writes %q", name, got, err, want)
		}
	}
	if got := gitIn(t, ours, "status", "--porcelain"); got != "" {
		t.Errorf("status is %q", got)
	}
	gitIn(t, ours, "fsck", "--strict")

	// A pick merges what is in the commits, and writes what is in the work tree.
	gitIn(t, dir, "checkout", "-q", "-b", "side")
	writeFile(t, filepath.Join(dir, "a.bat"), "one\r\ntwo\r\nthree\r\n")
	gitIn(t, dir, "commit", "-q", "-m", "more", "--", "a.bat")
	picked := workTree(t, recipe.Source{URI: "file://" + dir, Commit: gitIn(t, dir, "rev-parse", "main"), Branch: "main",
		CherryPicks: []recipe.CherryPick{{Branch: "side", Commit: gitIn(t, dir, "rev-parse", "side"), Comment: "needed"}}})
	wantFile(t, filepath.Join(picked, "a.bat"), []byte("one\r\ntwo\r\nthree\r\n"))
	if got, want := gitIn(t, picked, "rev-parse", "HEAD:a.bat"), gitIn(t, dir, "rev-parse", "side:a.bat"); got != want {
		t.Errorf("what was picked is %s in the commit, want %s", got, want)
	}
}

// FuzzAttributes: no .gitattributes of a source does more than ask for other ends of lines.
func FuzzAttributes(f *testing.F) {
	f.Add("*.bat text eol=crlf\n", "a/b.bat", "x\ny\n")
	f.Add("[attr]x eol=crlf\n**/[!a-]?\\* x\n\"q r\" ident\n", "q r", "$Id$\r\n")
	f.Fuzz(func(t *testing.T, rules, name, text string) {
		c := &checkout{attributes: map[string][]attributeRule{"": parseAttributes([]byte(rules))}}
		got := c.inWorkTree(name, filemode.Regular, []byte(text))
		if without := strings.ReplaceAll(string(got), "\r", ""); !strings.Contains(text, "$") && without != strings.ReplaceAll(text, "\r", "") {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

// TestGitSameBytes: a .git is the same from another server, packed and with more in it, fetched in another way, and later.
func TestGitSameBytes(t *testing.T) {
	dir := upstream(t)
	commit := gitIn(t, dir, "rev-parse", "v1^{commit}")
	address := realServer(t, filepath.Dir(dir))
	for _, depth := range []int{0, 3, -1} {
		src := recipe.Source{URI: address + "/up/.git", Commit: commit, Tag: "v1", Depth: depth}
		first := digests(t, filepath.Join(workTree(t, src), ".git"))
		gitIn(t, dir, "config", "uploadpack.allowAnySHA1InWant", "true")
		gitIn(t, dir, "checkout", "-q", "-B", fmt.Sprintf("more%d", depth+1), commit)
		gitIn(t, dir, "commit", "-q", "--allow-empty", "-m", "more")
		gitIn(t, dir, "tag", "-f", "other", commit)
		gitIn(t, dir, "tag", "-f", "-a", "-m", "said in other words", "v1", commit)
		gitIn(t, dir, "gc", "-q")
		gitIn(t, dir, "repack", "-q", "-a", "-d", "-f", "--depth=2")
		time.Sleep(10 * time.Millisecond)
		if again := digests(t, filepath.Join(workTree(t, src), ".git")); again != first {
			t.Errorf("depth %d: first\n%s\nthen\n%s", depth, first, again)
		}
		gitIn(t, dir, "config", "--unset", "uploadpack.allowAnySHA1InWant")
	}
}

// realServer serves the repositories below a folder with git's own program for that.
func realServer(t *testing.T, dir string) string {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(&cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{
		"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}})
	t.Cleanup(s.Close)
	return s.URL
}

// digests list the files of a folder with all that can be told of them but who owns them.
func digests(t *testing.T, top string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := ""
		if d.Type().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text = fmt.Sprintf("%x", sha256.Sum256(data))
			if d.Name() == "config" { // the server's port is in the URL, and the same here
				text = string(data)
			}
		}
		rel, _ := filepath.Rel(top, name)
		fmt.Fprintf(&b, "%s %v %v %s\n", rel, info.Mode(), info.ModTime().UTC(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
