package source

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"

	"distro.internal/melange/recipe"
)

// newRepository makes a repository with a commit, on which later ones follow.
func newRepository(t *testing.T) (dir string, commit plumbing.Hash) {
	t.Helper()
	dir = t.TempDir()
	repo, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{
		InitOptions: git.InitOptions{DefaultBranch: plumbing.Main},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"README": "top", "src/main.c": "main", "src/lib/a.c": "a", "doc/x": "x", "run.sh": "#!/bin/sh\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("README", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	commit = addCommit(t, repo, "first")
	if _, err := repo.CreateTag("v1", commit, &git.CreateTagOptions{Tagger: &author, Message: "v1"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("later"), 0o644); err != nil {
		t.Fatal(err)
	}
	addCommit(t, repo, "second")
	return dir, commit
}

var author = object.Signature{Name: "a", Email: "a@example.org", When: stamp}

func addCommit(t *testing.T, repo *git.Repository, message string) plumbing.Hash {
	t.Helper()
	w, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddGlob("."); err != nil {
		t.Fatal(err)
	}
	hash, err := w.Commit(message, &git.CommitOptions{Author: &author})
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

const firstCommit = `README -rw-r--r-- "top"
doc drwxr-xr-x
doc/x -rw-r--r-- "x"
link Lrwxrwxrwx -> README
run.sh -rwxr-xr-x "#!/bin/sh\n"
src drwxr-xr-x
src/lib drwxr-xr-x
src/lib/a.c -rw-r--r-- "a"
src/main.c -rw-r--r-- "main"
`

func TestLocalCommit(t *testing.T) {
	dir, commit := newRepository(t)
	src := recipe.Source{Kind: recipe.SourceGit, URI: "file://" + dir, Commit: commit.String(), Directory: "."}
	workspace := t.TempDir()
	p, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := list(t, workspace); got != firstCommit {
		t.Errorf("checked out\n%s\nwant\n%s", got, firstCommit)
	}
	if !p.Newest.Equal(stamp) {
		t.Errorf("newest is %v", p.Newest)
	}

	src.SparsePaths = []string{"src/lib"}
	workspace = t.TempDir()
	if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
		t.Fatal(err)
	}
	got := list(t, workspace)
	for name, want := range map[string]bool{"README": true, "src/main.c": true, "src/lib/a.c": true, "doc": false} {
		if strings.Contains("\n"+got, "\n"+name+" ") != want {
			t.Errorf("sparse checkout: %s there is not %v in\n%s", name, want, got)
		}
	}

	src.Commit = strings.Repeat("0123", 10)
	if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), ""); err == nil {
		t.Error("a commit that is not there was checked out")
	}
}

// gitServer serves a repository over HTTP, as far as fetching goes. Like simple
// servers it knows no shallow fetches.
func gitServer(t *testing.T, dir string) (url string, fetches *int) {
	t.Helper()
	repo, err := git.PlainOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	fetches = new(int)
	session := func() transport.UploadPackSession {
		s, err := server.NewServer(oneRepository{repo.Storer}).NewUploadPackSession(&transport.Endpoint{}, nil)
		if err != nil {
			t.Error(err)
		}
		return s
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/r.git/info/refs", func(w http.ResponseWriter, r *http.Request) {
		refs, err := session().AdvertisedReferencesContext(r.Context())
		if err != nil {
			t.Error(err)
			return
		}
		refs.Prefix = [][]byte{[]byte("# service=git-upload-pack"), {}}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		refs.Encode(w)
	})
	mux.HandleFunc("/r.git/git-upload-pack", func(w http.ResponseWriter, r *http.Request) {
		*fetches++
		req := packp.NewUploadPackRequest()
		if err := req.Decode(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		resp, err := session().UploadPack(r.Context(), req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		resp.Encode(w)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/r.git", fetches
}

type oneRepository struct{ storer.Storer }

func (o oneRepository) Load(*transport.Endpoint) (storer.Storer, error) { return o.Storer, nil }

func TestFetchedCommit(t *testing.T) {
	dir, commit := newRepository(t)
	url, fetches := gitServer(t, dir)
	s := testStore(t)
	src := recipe.Source{Kind: recipe.SourceGit, URI: url, Commit: commit.String(), Tag: "v1", Directory: "."}
	for range 2 {
		workspace := t.TempDir()
		if _, err := s.Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		if got := list(t, workspace); got != firstCommit {
			t.Errorf("checked out\n%s\nwant\n%s", got, firstCommit)
		}
	}
	first := *fetches
	s.Offline = true
	if _, err := s.Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), ""); err != nil {
		t.Errorf("what is in the store is not found offline: %v", err)
	}
	if *fetches != first {
		t.Error("a commit that is in the store was fetched")
	}

	s.Offline = false
	src.Tag, src.Branch, src.Tip = "", "main", true
	fresh := testStore(t)
	if _, err := fresh.Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "branch main is at") {
		t.Errorf("a commit that is not the tip: error %v", err)
	}
	src.Tip, src.Commit = false, strings.Repeat("0123", 10)
	if _, err := fresh.Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), src.Commit) {
		t.Errorf("a commit that is not there: error %v", err)
	}
}

func TestSubmodules(t *testing.T) {
	inner, commit := newRepository(t)
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	modules := config.NewModules()
	modules.Submodules["m"] = &config.Submodule{Name: "m", Path: "third/party", URL: "file://" + inner}
	text, err := modules.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	third := storeTree(t, repo, object.TreeEntry{Name: "party", Mode: filemode.Submodule, Hash: commit})
	top := storeTree(t, repo,
		object.TreeEntry{Name: ".gitmodules", Mode: filemode.Regular, Hash: store(t, repo, plumbing.BlobObject, text)},
		object.TreeEntry{Name: "third", Mode: filemode.Dir, Hash: third})
	c := &object.Commit{Author: author, Committer: author, TreeHash: top}
	outer := encode(t, repo, c)
	for _, want := range []bool{false, true} {
		workspace := t.TempDir()
		src := recipe.Source{
			Kind: recipe.SourceGit, URI: "file://" + dir, Commit: outer.String(), Directory: ".", Submodules: want,
		}
		if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(workspace, "third", "party", "src", "main.c"))
		if (err == nil) != want {
			t.Errorf("submodules %v: %v", want, err)
		}
	}
}

// A tree can be written by hand, with names that no git would make.
func TestHostileTree(t *testing.T) {
	for _, name := range []string{"..", ".git", ".GIT", "a/../../b"} {
		dir := t.TempDir()
		repo, err := git.PlainInit(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		blob := store(t, repo, plumbing.BlobObject, []byte("evil"))
		raw := append([]byte("100644 "+name+"\x00"), blob[:]...)
		tree := store(t, repo, plumbing.TreeObject, raw)
		commit := encode(t, repo, &object.Commit{Author: author, Committer: author, TreeHash: tree})
		src := recipe.Source{Kind: recipe.SourceGit, URI: "file://" + dir, Commit: commit.String(), Directory: "."}
		if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), ""); err == nil {
			t.Errorf("%q was written", name)
		}
	}
}

func store(t *testing.T, repo *git.Repository, kind plumbing.ObjectType, data []byte) plumbing.Hash {
	t.Helper()
	o := repo.Storer.NewEncodedObject()
	o.SetType(kind)
	w, err := o.Writer()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	w.Close()
	hash, err := repo.Storer.SetEncodedObject(o)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func storeTree(t *testing.T, repo *git.Repository, entries ...object.TreeEntry) plumbing.Hash {
	return encode(t, repo, &object.Tree{Entries: entries})
}

func encode(t *testing.T, repo *git.Repository, v interface {
	Encode(plumbing.EncodedObject) error
}) plumbing.Hash {
	t.Helper()
	o := new(plumbing.MemoryObject)
	if err := v.Encode(o); err != nil {
		t.Fatal(err)
	}
	r, err := o.Reader()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return store(t, repo, o.Type(), data)
}

func TestRelativeURL(t *testing.T) {
	for _, test := range []struct{ parent, url, want string }{
		{"https://example.org/a/b.git", "https://example.com/x", "https://example.com/x"},
		{"https://example.org/a/b.git", "../c.git", "https://example.org/a/c.git"},
		{"https://example.org/a/b", "./c", "https://example.org/a/b/c"},
	} {
		if got, err := relativeURL(test.parent, test.url); err != nil || got != test.want {
			t.Errorf("%s beside %s is %s, %v; want %s", test.url, test.parent, got, err, test.want)
		}
	}
}

// TestTagObject: the object of an annotated tag stands for its commit, as people take it from a list of refs.
func TestTagObject(t *testing.T) {
	dir, commit := newRepository(t)
	repo, err := git.PlainOpen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := repo.Tag("v1")
	if err != nil {
		t.Fatal(err)
	}
	if ref.Hash() == commit {
		t.Fatal("the tag is no object of its own")
	}
	address, _ := gitServer(t, dir)
	for _, uri := range []string{"file://" + dir, address} {
		workspace := t.TempDir()
		src := recipe.Source{Kind: recipe.SourceGit, URI: uri, Commit: ref.Hash().String(), Tag: "v1", Directory: "."}
		if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		if got := list(t, workspace); got != firstCommit {
			t.Errorf("%s: checked out\n%s\nwant\n%s", uri, got, firstCommit)
		}
	}
}

// TestCherryPicks: commits of another branch are brought to the files of an older one, in turn.
func TestCherryPicks(t *testing.T) {
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(message string, files map[string]string) string {
		for name, text := range files {
			if text == "" {
				os.Remove(filepath.Join(dir, name))
				continue
			}
			writeFile(t, filepath.Join(dir, name), text)
		}
		w, err := repo.Worktree()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddWithOptions(&git.AddOptions{All: true}); err != nil {
			t.Fatal(err)
		}
		hash, err := w.Commit(message, &git.CommitOptions{Author: &author})
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	text := strings.Split("one two three four five six seven eight nine ten", " ")
	with := func(i int, word string) string {
		text[i] = word
		return strings.Join(text, "\n") + "\n"
	}
	base := commit("release", map[string]string{"words": with(0, "one"), "gone/x": "x", "kept": "k"})
	commit("not wanted", map[string]string{"words": with(9, "TEN"), "other": "o"})
	first := commit("a fix", map[string]string{"words": with(1, "TWO"), "new/file": "n", "gone/x": ""})
	second := commit("another", map[string]string{"words": with(4, "FIVE"), "new/file": "nn"})
	clash := commit("a clash", map[string]string{"other": "oo"})

	address, _ := gitServer(t, dir)
	for _, uri := range []string{"file://" + dir, address} {
		src := recipe.Source{Kind: recipe.SourceGit, URI: uri, Commit: base, Branch: "master", Directory: "."}
		for _, c := range []string{first, second} {
			src.CherryPicks = append(src.CherryPicks, recipe.CherryPick{Branch: "master", Commit: c, Comment: "needed"})
		}
		workspace := t.TempDir()
		if _, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, workspace, ""); err != nil {
			t.Fatal(err)
		}
		want := "kept -rw-r--r-- \"k\"\nnew drwxr-xr-x\nnew/file -rw-r--r-- \"nn\"\n" +
			"words -rw-r--r-- \"one\\nTWO\\nthree\\nfour\\nFIVE\\nsix\\nseven\\neight\\nnine\\nten\\n\"\n"
		if got := list(t, workspace); got != want {
			t.Errorf("%s: picked\n%s\nwant\n%s", uri, got, want)
		}
		src.CherryPicks = []recipe.CherryPick{{Commit: clash}}
		_, err := testStore(t).Prepare(t.Context(), []recipe.Source{src}, t.TempDir(), "")
		if err == nil || !strings.Contains(err.Error(), "picking commit "+clash) || !strings.HasSuffix(err.Error(), "other: it is changed by the commit, and not there") {
			t.Errorf("%s: a commit that does not apply: error %v", uri, err)
		}
	}
}
