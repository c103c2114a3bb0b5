package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/memory"
	"github.com/go-git/go-git/v5/storage/transactional"

	"distro.internal/melange/recipe"
)

// A repository is one of the store, or a local one where it lies, with the
// commit that is wanted in it.
type repository struct {
	*git.Repository
	commit plumbing.Hash
	tagged plumbing.Hash // the object of a tag, when the recipe has named that in the commit's place
	depth  int           // how many commits of history are wanted; -1 for all
	tags   []gitTag      // that the server had; none when the source says its own
}

// commit returns a repository that has the commit of a source, with the history that is asked for. It fetches no more
// of that than the server makes it. Histories of other depths are in repositories of their own: a server that was asked
// for a part cannot be asked for more around it.
func (s *Store) commit(ctx context.Context, src recipe.Source) (*repository, error) {
	name, depth := src.URI, history(src)
	switch {
	case s.FilesOnly:
		depth = 1
	case depth < 0:
		name += "\nhistory"
	case depth > 1:
		name += fmt.Sprintf("\n%s\n%d", src.Commit, depth)
	}
	r, err := s.findIn(ctx, src, name, depth)
	if err != nil {
		return nil, fmt.Errorf("getting commit %s of %s: %w", src.Commit, src.URI, err)
	}
	return r, nil
}

// pickRepository returns a repository that has a commit to pick and the one before it. It is one of its own: a server
// that was asked for single commits cannot be asked for more around them.
func (s *Store) pickRepository(ctx context.Context, src recipe.Source, p recipe.CherryPick) (*repository, error) {
	from := recipe.Source{Kind: recipe.SourceGit, URI: src.URI, Branch: p.Branch, Commit: p.Commit}
	return s.findIn(ctx, from, src.URI+"\n"+p.Commit, 2)
}

// findIn returns the repository of a name in the store, with a commit and as much of its history as depth says.
func (s *Store) findIn(ctx context.Context, src recipe.Source, name string, depth int) (*repository, error) {
	if dir, ok := strings.CutPrefix(src.URI, "file://"); ok {
		return openLocal(ctx, dir, src, depth)
	}
	sum := sha256.Sum256([]byte(name))
	dir := filepath.Join(s.Dir, "git", hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	guard, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if err := lock(ctx, guard); err != nil {
		return nil, err
	}
	repo, err := git.PlainOpen(dir)
	if errors.Is(err, git.ErrRepositoryNotExists) {
		repo, err = git.PlainInit(dir, true)
	}
	if err != nil {
		return nil, err
	}
	r := &repository{Repository: repo, commit: plumbing.NewHash(src.Commit), depth: depth}
	tags := tagMemory{dir: dir + ".tags", wanted: src.Tag == "" && !s.FilesOnly}
	if src.Commit != "" && r.has() {
		if r.tags, err = tags.recall(r.commit); err == nil || s.Offline {
			return r, nil
		}
	}
	if s.Offline {
		return nil, errOffline
	}
	if err := r.fetch(ctx, src); err != nil {
		return nil, err
	}
	r.tags, err = tags.ask(ctx, r, src.URI)
	return r, err
}

// openLocal opens a repository of this machine where it is.
func openLocal(ctx context.Context, dir string, src recipe.Source, depth int) (*repository, error) {
	repo, err := git.PlainOpen(dir)
	if err != nil {
		return nil, err
	}
	r := &repository{Repository: repo, commit: plumbing.NewHash(src.Commit), depth: depth}
	if src.Commit == "" {
		name := plumbing.HEAD
		if src.Tag != "" {
			name = plumbing.NewTagReferenceName(src.Tag)
		} else if src.Branch != "" {
			name = plumbing.NewBranchReferenceName(src.Branch)
		}
		hash, err := repo.ResolveRevision(plumbing.Revision(name))
		if err != nil {
			return nil, err
		}
		r.commit = *hash
	}
	if !r.has() {
		if _, err := r.CommitObject(r.commit); err == nil {
			return nil, errors.New("the repository does not have all of the history that is asked for")
		}
		return nil, errors.New("the repository does not have it")
	}
	if src.Tag == "" {
		r.tags, err = tagsOf(ctx, src.URI)
	}
	return r, err
}

// has says whether the commit is there, with its history. A tag that is an object of its own may be named in its place.
func (r *repository) has() bool {
	for range maxTags {
		t, err := r.TagObject(r.commit)
		if err != nil {
			break
		}
		if r.tagged.IsZero() {
			r.tagged = r.commit
		}
		r.commit = t.Target
	}
	_, err := r.past(r.commit, r.depth)
	return err == nil
}

// maxTags ends a chain of tags of tags.
const maxTags = 8

// fetch gets the commit from the server: alone where the server allows that,
// otherwise by the branch or tag that it is said to be on, otherwise with
// everything there is.
func (r *repository) fetch(ctx context.Context, src recipe.Source) error {
	remote := git.NewRemote(r.Storer, &config.RemoteConfig{Name: "origin", URLs: []string{src.URI}})
	if src.Tip || src.Commit == "" {
		hash, err := advertised(ctx, remote, src)
		if err != nil {
			return err
		}
		if src.Tip && src.Commit != "" && hash != r.commit {
			return fmt.Errorf("branch %s is at %s", src.Branch, hash)
		}
		r.commit = hash
	}
	var errs []error
	for _, o := range fetchOptions(r.commit.String(), src, r.depth) {
		err := remote.FetchContext(ctx, o)
		if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
			errs = append(errs, err)
		}
		if r.has() {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(append(errs, errors.New("the server does not have it"))...)
}

// fetchOptions are the ways to ask for a commit, the narrowest first.
func fetchOptions(commit string, src recipe.Source, depth int) []*git.FetchOptions {
	spec := func(from string) config.RefSpec {
		return config.RefSpec("+" + from + ":refs/sources/" + path.Base(from))
	}
	depth = max(depth, 0) // of all there is no number
	ways := []*git.FetchOptions{
		{RefSpecs: []config.RefSpec{config.RefSpec(commit + ":refs/sources/" + commit)}, Depth: depth, Tags: git.NoTags},
	}
	if src.Tag != "" {
		ways = append(ways, &git.FetchOptions{RefSpecs: []config.RefSpec{spec("refs/tags/" + src.Tag)}, Depth: depth, Tags: git.NoTags})
	}
	if src.Branch != "" {
		ways = append(ways, &git.FetchOptions{RefSpecs: []config.RefSpec{spec("refs/heads/" + src.Branch)}, Tags: git.NoTags})
	}
	return append(ways, &git.FetchOptions{
		RefSpecs: []config.RefSpec{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}, Tags: git.NoTags,
	})
}

// advertised returns the commit that the server says a branch or tag is at.
func advertised(ctx context.Context, remote *git.Remote, src recipe.Source) (plumbing.Hash, error) {
	refs, err := listRefs(ctx, remote)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	name := plumbing.HEAD
	switch {
	case src.Tag != "" && !src.Tip:
		name = plumbing.NewTagReferenceName(src.Tag)
	case src.Branch != "":
		name = plumbing.NewBranchReferenceName(src.Branch)
	}
	if hash, ok := refs[name]; ok {
		return hash, nil
	}
	return plumbing.ZeroHash, fmt.Errorf("the server has no %s", name)
}

// listRefs asks a server what it has: commits by the names of branches and tags, also where a tag is an object of its own.
func listRefs(ctx context.Context, remote *git.Remote) (map[plumbing.ReferenceName]plumbing.Hash, error) {
	refs, err := remote.ListContext(ctx, &git.ListOptions{PeelingOption: git.AppendPeeled})
	if err != nil {
		return nil, err
	}
	byName := make(map[plumbing.ReferenceName]plumbing.Hash)
	for _, ref := range refs {
		if ref.Type() == plumbing.HashReference && !strings.HasSuffix(ref.Name().String(), peeled) {
			byName[ref.Name()] = ref.Hash()
		}
	}
	for _, ref := range refs {
		if name, ok := strings.CutSuffix(ref.Name().String(), peeled); ok {
			byName[plumbing.ReferenceName(name)] = ref.Hash()
		}
	}
	for _, ref := range refs {
		if ref.Type() == plumbing.SymbolicReference {
			if hash, ok := byName[ref.Target()]; ok {
				byName[ref.Name()] = hash
			}
		}
	}
	return byName, nil
}

// peeled ends the name of a tag in a server's list where the commit behind it is meant.
const peeled = "^{}"

// Refs lists the branches and tags of a git repository, by their full names such as refs/tags/v1, each with the commit
// that it is at. A file:// repository is read where it is; others are asked for nothing but the list.
func Refs(ctx context.Context, uri string) (map[string]string, error) {
	refs, err := refsOf(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("listing the branches and tags of %s: %w", uri, err)
	}
	commits := make(map[string]string, len(refs))
	for name, hash := range refs {
		commits[name.String()] = hash.String()
	}
	return commits, nil
}

func refsOf(ctx context.Context, uri string) (map[plumbing.ReferenceName]plumbing.Hash, error) {
	dir, ok := strings.CutPrefix(uri, "file://")
	if !ok {
		return listRefs(ctx, git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{uri}}))
	}
	repo, err := git.PlainOpen(dir)
	if err != nil {
		return nil, err
	}
	iter, err := repo.References()
	if err != nil {
		return nil, err
	}
	refs := make(map[plumbing.ReferenceName]plumbing.Hash)
	return refs, iter.ForEach(func(ref *plumbing.Reference) error {
		if hash, err := repo.ResolveRevision(plumbing.Revision(ref.Name())); err == nil { // a tag may be of no commit
			refs[ref.Name()] = *hash
		}
		return nil
	})
}

// CommitTime is when the commit of a git source was made.
func (s *Store) CommitTime(ctx context.Context, src recipe.Source) (time.Time, error) {
	src.Depth = 1
	r, err := s.commit(ctx, src)
	if err != nil {
		return time.Time{}, err
	}
	c, err := r.CommitObject(r.commit)
	if err != nil {
		return time.Time{}, fmt.Errorf("reading commit %s of %s: %w", src.Commit, src.URI, err)
	}
	return c.Committer.When, nil
}

// placeCommit writes the files of a commit into dir, with a .git that is a function of the commit and of what the recipe
// says, not of how it was fetched. The time of all files is that of the commit.
func (s *Store) placeCommit(ctx context.Context, src recipe.Source, dir *os.Root) (time.Time, error) {
	if s.FilesOnly {
		return s.placeFiles(ctx, src, dir)
	}
	g, err := openGitDir(dir, src)
	if err != nil {
		return time.Time{}, err
	}
	defer g.root.Close()
	return s.checkOut(ctx, src, dir, g)
}

// placeFiles writes the files of a commit, and no .git.
func (s *Store) placeFiles(ctx context.Context, src recipe.Source, dir *os.Root) (time.Time, error) {
	src.Depth = 1
	return s.checkOut(ctx, src, dir, nil)
}

func (s *Store) checkOut(ctx context.Context, src recipe.Source, dir *os.Root, g *gitDir) (time.Time, error) {
	r, err := s.commit(ctx, src)
	if err != nil {
		return time.Time{}, err
	}
	var c object.Commit
	if err := r.decode(plumbing.CommitObject, r.commit, c.Decode); err != nil {
		return time.Time{}, err
	}
	w := &checkout{
		ctx: ctx, store: s, src: src, repo: r.overlaid(), dir: dir, time: c.Committer.When.Truncate(time.Second),
		git: g, head: r.commit,
	}
	if g != nil {
		g.time = w.time
	}
	if err := w.tree(c.TreeHash, ""); err != nil {
		return time.Time{}, fmt.Errorf("writing commit %s of %s: %w", r.commit, src.URI, err)
	}
	depth := r.depth
	for _, p := range src.CherryPicks {
		if err := w.pick(p); err != nil {
			return time.Time{}, fmt.Errorf("picking commit %s of %s: %w", p.Commit, src.URI, err)
		}
		if depth > 0 {
			depth++
		}
	}
	if g == nil {
		return w.time, nil
	}
	if err := g.finish(w.repo, w.head, depth); err != nil {
		return time.Time{}, fmt.Errorf("writing the .git of commit %s of %s: %w", r.commit, src.URI, err)
	}
	return w.time, nil
}

// overlaid is the repository with room for objects that are made here, and go nowhere else.
func (r *repository) overlaid() *repository {
	over, repo := *r, *r.Repository
	repo.Storer = transactional.NewStorage(repo.Storer, memory.NewStorage())
	over.Repository = &repo
	return &over
}

// put adds an object to a repository that is overlaid.
func (r *repository) put(v interface {
	Encode(plumbing.EncodedObject) error
}) (plumbing.Hash, error) {
	o := new(plumbing.MemoryObject)
	if err := v.Encode(o); err != nil {
		return plumbing.ZeroHash, err
	}
	return r.Storer.SetEncodedObject(o)
}

// read returns an object's content, once it is known to be the one of that name.
func (r *repository) read(kind plumbing.ObjectType, hash plumbing.Hash) ([]byte, error) {
	o, err := r.Storer.EncodedObject(kind, hash)
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", kind, hash, err)
	}
	f, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", kind, hash, err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", kind, hash, err)
	}
	if got := plumbing.ComputeHash(kind, data); got != hash {
		return nil, fmt.Errorf("%v %s: its content is that of %s", kind, hash, got)
	}
	return data, nil
}

func (r *repository) decode(kind plumbing.ObjectType, hash plumbing.Hash, into func(plumbing.EncodedObject) error) error {
	data, err := r.read(kind, hash)
	if err != nil {
		return err
	}
	o := new(plumbing.MemoryObject)
	o.SetType(kind)
	if _, err := o.Write(data); err != nil {
		return err
	}
	return into(o)
}

// A checkout writes the tree of a commit.
type checkout struct {
	ctx   context.Context
	store *Store
	src   recipe.Source
	repo  *repository
	dir   *os.Root
	time  time.Time
	git   *gitDir       // nil: none is wanted
	head  plumbing.Hash // the commit, with what was picked on top

	modules    *config.Modules            // of .gitmodules; nil when there is none
	attributes map[string][]attributeRule // of .gitattributes, by folder
}

func (c *checkout) tree(hash plumbing.Hash, dir string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	var t object.Tree
	if err := c.repo.decode(plumbing.TreeObject, hash, t.Decode); err != nil {
		return err
	}
	if dir == "" {
		if err := c.readModules(t.Entries); err != nil {
			return err
		}
	}
	if err := c.readAttributes(dir, t.Entries); err != nil {
		return err
	}
	for _, e := range t.Entries {
		if !isPlainName(e.Name) {
			return fmt.Errorf("%q in %q is no name for a file", e.Name, dir)
		}
		if err := c.entry(e, path.Join(dir, e.Name)); err != nil {
			return fmt.Errorf("%s: %w", path.Join(dir, e.Name), err)
		}
	}
	return nil
}

// isPlainName keeps a hostile tree from naming anything but an entry of its folder.
func isPlainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00") && !strings.EqualFold(name, ".git")
}

func (c *checkout) entry(e object.TreeEntry, name string) error {
	if !c.wanted(name, e.Mode == filemode.Dir) {
		return c.leaveOut(e, name)
	}
	switch e.Mode {
	case filemode.Dir:
		if err := c.dir.MkdirAll(name, 0o755); err != nil {
			return err
		}
		if err := c.tree(e.Hash, name); err != nil {
			return err
		}
		return c.dir.Chtimes(name, c.time, c.time)
	case filemode.Submodule:
		return c.submodule(name, e.Hash)
	}
	data, err := c.repo.read(plumbing.BlobObject, e.Hash)
	if err != nil {
		return err
	}
	if err := c.dir.RemoveAll(name); err != nil {
		return err
	}
	data = c.inWorkTree(name, e.Mode, data)
	if c.git != nil {
		c.git.add(name, e.Mode, e.Hash, len(data), true)
	}
	return c.write(name, version{true, e.Mode, data})
}

// leaveOut notes what is in the commit and not in a sparse checkout.
func (c *checkout) leaveOut(e object.TreeEntry, name string) error {
	switch {
	case c.git == nil:
		return nil
	case e.Mode == filemode.Dir:
		return c.tree(e.Hash, name)
	}
	c.git.add(name, e.Mode, e.Hash, 0, false)
	return nil
}

// wanted reports whether a path is in a sparse checkout: the folders asked for
// with all that is below them, and the files beside the way to them.
func (c *checkout) wanted(name string, isDir bool) bool {
	if len(c.src.SparsePaths) == 0 || !isDir && path.Dir(name) == "." {
		return true
	}
	return slices.ContainsFunc(c.src.SparsePaths, func(p string) bool {
		p = strings.Trim(path.Clean("/"+p), "/")
		if isBelow(name, p) {
			return true
		}
		return isDir && isBelow(p, name) || !isDir && isBelow(p, path.Dir(name))
	})
}

func isBelow(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || rest[0] == '/')
}

func (c *checkout) readModules(top []object.TreeEntry) error {
	i := slices.IndexFunc(top, func(e object.TreeEntry) bool { return e.Name == ".gitmodules" })
	if i < 0 || !c.src.Submodules {
		return nil
	}
	data, err := c.repo.read(plumbing.BlobObject, top[i].Hash)
	if err != nil {
		return err
	}
	c.modules = config.NewModules()
	return c.modules.Unmarshal(data)
}

// submodule writes the commit of a submodule into its folder, which stays empty
// when submodules are not asked for.
func (c *checkout) submodule(name string, commit plumbing.Hash) error {
	if err := c.dir.MkdirAll(name, 0o755); err != nil {
		return err
	}
	if c.git != nil {
		c.git.add(name, filemode.Submodule, commit, 0, true)
	}
	if c.modules == nil {
		return nil
	}
	for _, key := range sortedKeys(c.modules.Submodules) {
		m := c.modules.Submodules[key]
		if path.Clean(m.Path) != name {
			continue
		}
		uri, err := relativeURL(c.src.URI, m.URL)
		if err != nil {
			return err
		}
		dir, err := c.dir.OpenRoot(name)
		if err != nil {
			return err
		}
		defer dir.Close()
		return c.placeSubmodule(key, name, dir, recipe.Source{
			Kind: recipe.SourceGit, URI: uri, Commit: commit.String(), Branch: m.Branch, Submodules: true, Depth: 1,
		})
	}
	return errors.New("the submodule is not in .gitmodules")
}

func (c *checkout) placeSubmodule(name, at string, dir *os.Root, src recipe.Source) error {
	var g *gitDir
	if c.git != nil {
		var err error
		if g, err = c.git.module(name, at, dir, src); err != nil {
			return err
		}
		defer g.root.Close()
	}
	_, err := c.store.checkOut(c.ctx, src, dir, g)
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// relativeURL reads the URL of a submodule, which may begin with ./ or ../ and
// is then beside that of its parent.
func relativeURL(parent, s string) (string, error) {
	if !strings.HasPrefix(s, "./") && !strings.HasPrefix(s, "../") {
		return s, nil
	}
	u, err := url.Parse(parent)
	if err != nil {
		return "", fmt.Errorf("submodule %s of %s: %w", s, parent, err)
	}
	u.Path = path.Join(u.Path, s)
	return u.String(), nil
}
