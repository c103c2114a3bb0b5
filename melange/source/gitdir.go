package source

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	gitconfig "github.com/go-git/go-git/v5/plumbing/format/config"
	"github.com/go-git/go-git/v5/plumbing/format/index"
	"github.com/go-git/go-git/v5/plumbing/object"
	"golang.org/x/sys/unix"

	"distro.internal/melange/recipe"
)

// Many builds ask git what they are: git describe for a version, git status for whether it is as released, git am for
// patches. So a checkout has a .git. It is written here, not copied from where the commit was fetched to, and everything in
// it is a function of what the recipe says and of the commit: two machines write the same bytes, whatever else their
// servers had, whenever and however they asked.
//
// History is as deep as the recipe asks: without a depth it is the commit alone, and all before it when the recipe says
// where a branch was, as "git clone" needs it to find that. Of tags there is the recipe's own, for others come and go. A
// recipe pins a commit, not the object of an annotated tag, which may be made anew for the same commit; so the tag is an
// object made up here, from the commit, unless the recipe names the very object. "git describe" says the tag, with --tags
// and without.
//
// A recipe that names no tag has those of the history that it has: it may ask for the last one before its commit. This is
// the one thing here that is not pinned. The tags are what the server had when the commit was first seen, which is
// remembered; one that is set later on an old commit is in another machine's checkout and not in this one's.
//
// git knows a file unchanged by what the file system says of it, which is other on each machine. It is told to look at
// seconds and sizes alone, which are not: the index then holds for every copy of the work tree that keeps times.

// history is how many commits of a source's past are wanted; -1 is all.
func history(src recipe.Source) int {
	switch {
	case src.Depth != 0:
		return max(src.Depth, -1)
	case src.Branch != "" && src.Commit != "" && !src.Tip:
		return -1
	}
	return 1
}

// A gitDir is the folder that makes a work tree one of git.
type gitDir struct {
	root     *os.Root
	at, tree string // where it and its work tree are, as seen from one folder
	detached bool   // HEAD is at the commit, whatever branch it was found on
	src      recipe.Source
	time     time.Time
	files    map[string]*index.Entry
	modules  []submodule
}

type submodule struct{ name, uri string }

// openGitDir makes the folder anew for a work tree that has it as its own.
func openGitDir(dir *os.Root, src recipe.Source) (*gitDir, error) {
	if err := dir.RemoveAll(".git"); err != nil {
		return nil, err
	}
	return makeGitDir(dir, ".git", src)
}

func makeGitDir(in *os.Root, name string, src recipe.Source) (*gitDir, error) {
	if err := in.MkdirAll(name, 0o755); err != nil {
		return nil, err
	}
	root, err := in.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &gitDir{root: root, at: ".git", tree: ".", src: src, files: make(map[string]*index.Entry)}, nil
}

// module makes the folder of a submodule, inside this one, and the file in the submodule's work tree that tells of it.
func (g *gitDir) module(name, tree string, dir *os.Root, src recipe.Source) (*gitDir, error) {
	if slices.ContainsFunc(strings.Split(name, "/"), func(s string) bool { return !isPlainName(s) }) || strings.ContainsAny(name, "\n\"\\") {
		return nil, fmt.Errorf("%q is no name for a submodule", name)
	}
	g.modules = append(g.modules, submodule{name, src.URI})
	m, err := makeGitDir(g.root, "modules/"+name, src)
	if err != nil {
		return nil, err
	}
	m.at, m.tree, m.detached = path.Join(g.at, "modules", name), path.Join(g.tree, tree), true
	to, err := filepath.Rel(m.tree, m.at)
	if err != nil {
		return nil, err
	}
	if err := dir.RemoveAll(".git"); err != nil {
		return nil, err
	}
	return m, writeInto(dir, ".git", 0o644, placedTime, strings.NewReader("gitdir: "+filepath.ToSlash(to)+"\n"))
}

// add puts a path of the work tree into the index. One that a sparse checkout leaves out has no size.
func (g *gitDir) add(name string, mode filemode.FileMode, hash plumbing.Hash, size int, there bool) {
	switch mode {
	case filemode.Executable, filemode.Symlink, filemode.Submodule:
	default:
		mode = filemode.Regular
	}
	e := &index.Entry{Name: name, Mode: mode, Hash: hash, SkipWorktree: !there}
	if there && mode != filemode.Submodule {
		e.Size, e.ModifiedAt = uint32(size), g.time
		if s := g.time.Unix(); s <= 0 || s >= 1<<32-1 {
			e.ModifiedAt = time.Time{} // the format has no such time: git reads the file
		}
	}
	g.files[name] = e
}

// entries are the paths of the index in its order, which is that of bytes.
func (g *gitDir) entries() []*index.Entry {
	list := make([]*index.Entry, 0, len(g.files))
	for _, name := range sortedKeys(g.files) {
		list = append(list, g.files[name])
	}
	return list
}

// finish writes what there is to know of a work tree at a commit.
func (g *gitDir) finish(r *repository, head plumbing.Hash, depth int) error {
	past, err := r.past(head, depth)
	if err != nil {
		return err
	}
	refs, at, err := g.refs(r, head)
	if err != nil {
		return err
	}
	tags, err := tagRefs(r, past)
	if err != nil {
		return err
	}
	refs = append(refs, tags...)
	p := newPack(r)
	for _, ref := range refs {
		if _, err := r.TagObject(ref.Hash()); err == nil {
			p.add(plumbing.TagObject, ref.Hash(), plumbing.ZeroHash)
		}
	}
	if err := p.addPast(past); err != nil {
		return err
	}
	for _, dir := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags", "info"} {
		if err := g.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := p.write(g.root, g.time); err != nil {
		return err
	}
	for _, ref := range refs {
		if err := g.write(ref.Name().String(), ref.Hash().String()+"\n"); err != nil {
			return err
		}
	}
	if len(past.shallow) > 0 {
		if err := g.write("shallow", strings.Join(past.shallow, "\n")+"\n"); err != nil {
			return err
		}
	}
	if len(g.src.SparsePaths) > 0 {
		if err := g.write("info/sparse-checkout", cone(g.src.SparsePaths)); err != nil {
			return err
		}
	}
	if err := g.write("HEAD", at+"\n"); err != nil {
		return err
	}
	return errors.Join(g.writeConfig(), g.writeIndex(), g.settle())
}

func (g *gitDir) write(name, text string) error {
	if err := g.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return writeInto(g.root, name, 0o644, g.time, strings.NewReader(text))
}

// refs are the branch and tag of the recipe, and what HEAD says. The object of a tag goes into the repository.
func (g *gitDir) refs(r *repository, head plumbing.Hash) (refs []*plumbing.Reference, at string, err error) {
	at = head.String()
	if b := g.src.Branch; b != "" && !g.detached {
		refs = append(refs,
			plumbing.NewHashReference(plumbing.NewBranchReferenceName(b), head),
			plumbing.NewHashReference(plumbing.NewRemoteReferenceName("origin", b), head))
		at = "ref: " + refs[0].Name().String()
	}
	if t := g.src.Tag; t != "" && !g.detached {
		hash := r.tagged
		if o, err := r.TagObject(hash); err != nil || o.Name != t {
			if hash, err = makeTag(r, r.commit, t); err != nil {
				return nil, "", err
			}
		}
		refs = append(refs, plumbing.NewHashReference(plumbing.NewTagReferenceName(t), hash))
	}
	for _, ref := range refs {
		if err := ref.Name().Validate(); err != nil {
			return nil, "", fmt.Errorf("%s: %w", ref.Name(), err)
		}
	}
	return refs, at, nil
}

// makeTag makes an annotated tag of a commit. It says nothing but its name, by whom and when the commit was made.
func makeTag(r *repository, commit plumbing.Hash, name string) (plumbing.Hash, error) {
	c, err := r.CommitObject(commit)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	return r.put(&object.Tag{
		Name: name, Tagger: c.Committer, Message: name + "\n", TargetType: plumbing.CommitObject, Target: commit,
	})
}

// cone writes the folders of a sparse checkout as "git sparse-checkout set --cone" does: the files at the top, of each folder
// on the way its files, and all of those that were asked for.
func cone(paths []string) string {
	whole := make(map[string]bool)
	for _, p := range paths {
		whole[path.Clean("/"+p)] = true
	}
	onTheWay := make(map[string]bool)
	for p := range whole {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			onTheWay[dir] = true
		}
	}
	text := "/*\n!/*/\n"
	for _, dir := range sortedKeys(onTheWay) {
		if !whole[dir] {
			text += dir + "/\n!" + dir + "/*/\n"
		}
	}
	for _, dir := range sortedKeys(whole) {
		text += dir + "/\n"
	}
	return text
}

func (g *gitDir) writeConfig() error {
	c := gitconfig.New()
	core := func(key, value string) { c.AddOption("core", gitconfig.NoSubsection, key, value) }
	core("repositoryformatversion", "0")
	core("filemode", "true")
	core("bare", "false")
	core("logallrefupdates", "true")
	core("trustctime", "false")
	core("checkstat", "minimal")
	if g.tree != "." {
		up, err := filepath.Rel(g.at, g.tree)
		if err != nil {
			return err
		}
		core("worktree", filepath.ToSlash(up))
	}
	if len(g.src.SparsePaths) > 0 {
		core("sparsecheckout", "true")
		core("sparsecheckoutcone", "true")
	}
	c.AddOption("advice", gitconfig.NoSubsection, "detachedhead", "false")
	// For steps that commit, as "git am" does.
	c.AddOption("user", gitconfig.NoSubsection, "name", "melange")
	c.AddOption("user", gitconfig.NoSubsection, "email", "melange@localhost")
	fetch := "+refs/heads/*:refs/remotes/origin/*"
	switch b, t := g.src.Branch, g.src.Tag; {
	case g.detached:
	case b != "":
		fetch = "+refs/heads/" + b + ":refs/remotes/origin/" + b
		c.AddOption("branch", b, "remote", "origin")
		c.AddOption("branch", b, "merge", "refs/heads/"+b)
	case t != "":
		fetch = "+refs/tags/" + t + ":refs/tags/" + t
	}
	c.AddOption("remote", "origin", "url", g.src.URI)
	c.AddOption("remote", "origin", "fetch", fetch)
	for _, m := range g.modules {
		c.AddOption("submodule", m.name, "active", "true")
		c.AddOption("submodule", m.name, "url", m.uri)
	}
	var text bytes.Buffer
	if err := gitconfig.NewEncoder(&text).Encode(c); err != nil {
		return err
	}
	return g.write("config", text.String())
}

func (g *gitDir) writeIndex() error {
	idx := &index.Index{Version: 2, Entries: g.entries()}
	if slices.ContainsFunc(idx.Entries, func(e *index.Entry) bool { return e.SkipWorktree }) {
		idx.Version = 3
	}
	var data bytes.Buffer
	if err := index.NewEncoder(&data).Encode(idx); err != nil {
		return err
	}
	// A file that is not older than the index could have changed after it was listed, and git would read it.
	return writeInto(g.root, "index", 0o644, g.time.Add(time.Second), &data)
}

// settle gives the folders their time, when nothing is written into them any more.
func (g *gitDir) settle() error {
	var dirs []string
	err := fs.WalkDir(g.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, name)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, g.root.Chtimes(dir, g.time, g.time))
	}
	return err
}

// commitPick makes a commit of the work tree as a picked commit left it, on top of another.
func (g *gitDir) commitPick(r *repository, parent plumbing.Hash, picked *object.Commit) (plumbing.Hash, error) {
	tree, err := putTree(r, g.entries(), "")
	if err != nil {
		return plumbing.ZeroHash, err
	}
	message := strings.TrimRight(picked.Message, "\n") + "\n\n(cherry picked from commit " + picked.Hash.String() + ")\n"
	return r.put(&object.Commit{
		Author: picked.Author, Committer: picked.Committer, Message: message, Encoding: picked.Encoding,
		TreeHash: tree, ParentHashes: []plumbing.Hash{parent},
	})
}

// putTree makes the tree of a folder from the entries below it.
func putTree(r *repository, entries []*index.Entry, dir string) (plumbing.Hash, error) {
	var t object.Tree
	for len(entries) > 0 {
		name, _, isDir := strings.Cut(strings.TrimPrefix(entries[0].Name, dir), "/")
		if !isDir {
			t.Entries = append(t.Entries, object.TreeEntry{Name: name, Mode: entries[0].Mode, Hash: entries[0].Hash})
			entries = entries[1:]
			continue
		}
		below := dir + name + "/"
		n := slices.IndexFunc(entries, func(e *index.Entry) bool { return !strings.HasPrefix(e.Name, below) })
		if n < 0 {
			n = len(entries)
		}
		hash, err := putTree(r, entries[:n], below)
		if err != nil {
			return plumbing.ZeroHash, err
		}
		t.Entries = append(t.Entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: hash})
		entries = entries[n:]
	}
	slices.SortFunc(t.Entries, func(a, b object.TreeEntry) int { return strings.Compare(inTree(a), inTree(b)) })
	return r.put(&t)
}

// inTree is what the entries of a tree are sorted by.
func inTree(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}

// symlink makes a link with a time of its own, for git looks at it.
func (c *checkout) symlink(target, name string) error {
	if err := c.dir.Symlink(target, name); err != nil {
		return err
	}
	dir, err := c.dir.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	t := unix.NsecToTimespec(c.time.UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
