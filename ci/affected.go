package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/ci/graph"
)

func affectedCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	var base string
	c := &cobra.Command{
		Use:   "affected --base REF",
		Short: "List what changed since a commit: packages, their dependents, images",
		Long: `List what the files of the workspace mean otherwise than they did where the
branch began: at the merge base of HEAD and REF. Meanings are compared, not
paths: a comment changes nothing, a pipeline changes every recipe that uses it.

  changed    its own files say something else; or the configuration or the lock of
             the first tools do, for all recipes
  new, gone  it was not there, or is not any more
  dependent  something that it needs is changed: it may be made again`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			effects, err := w.affected(c.Context(), o, base, (*graph.Node).Definition)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(s.stdout, effects)
			}
			for _, e := range effects {
				fmt.Fprintf(s.stdout, "%-9s %s%s\n", e.Effect, e.Node, prefixed("  through ", strings.Join(e.Through, ", ")))
			}
			return nil
		},
	}
	c.Flags().StringVar(&base, "base", "main", "branch or commit to compare with")
	return c
}

// An effect is what a branch does to a node.
type effect struct {
	Node    string   `json:"node"`
	Kind    string   `json:"kind"`
	Effect  string   `json:"effect"`
	Through []string `json:"through,omitempty"` // of a dependent: the changed nodes that it needs
}

// A definition is what a node's own files say, as far as it matters for something.
type definition func(*graph.Node) (string, error)

// sinceFlag names nodes by what a branch changed.
type sinceFlag struct{ base string }

func (f *sinceFlag) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.base, "since", "", "only what changed since the branch left this one, and what depends on that")
}

// words are what nodes to take, by their IDs, when the flag is given; none of them is not the same as all.
func (f sinceFlag) words(ctx context.Context, w *world, o *workspaceFlags, d definition, args []string) (words []string, none bool, err error) {
	if f.base == "" {
		return args, false, nil
	}
	if len(args) > 0 {
		return nil, false, errors.New("--since names nodes, and so do the arguments: give one of them")
	}
	effects, err := w.affected(ctx, o, f.base, d)
	for _, e := range effects {
		if e.Effect != gone {
			words = append(words, e.Node)
		}
	}
	return words, len(words) == 0, err
}

// gone is the effect on a node that is not there any more.
const gone = "gone"

func (w *world) affected(ctx context.Context, o *workspaceFlags, base string, d definition) ([]effect, error) {
	old, err := w.graphAt(ctx, o, base)
	if err != nil {
		return nil, err
	}
	return compare(old, w.graph, d)
}

// graphAt is the graph where the branch began. The present one is read as well if it is not yet.
func (w *world) graphAt(ctx context.Context, o *workspaceFlags, base string) (*graph.Graph, error) {
	if w.graph == nil {
		if err := w.load(ctx); err != nil {
			return nil, err
		}
	}
	before, err := os.MkdirTemp("", "world-base-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(before)
	if err := checkout(w.dir, base, before); err != nil {
		return nil, fmt.Errorf("reading the workspace at %s: %w", base, err)
	}
	if err := w.lendKeys(before); err != nil {
		return nil, err
	}
	config, err := graph.ReadConfig(filepath.Join(before, o.file))
	if err != nil {
		return nil, fmt.Errorf("reading the workspace at %s: %w", base, err)
	}
	old, err := graph.Load(before, config)
	if err != nil {
		return nil, fmt.Errorf("reading the workspace at %s: %w", base, err)
	}
	return old, nil
}

// lendKeys gives another state of the workspace the public keys that a run puts
// into it: git need not have them, and no branch changes them.
func (w *world) lendKeys(dir string) error {
	if w.config.Keys == "" {
		return nil
	}
	keys, err := filepath.Glob(filepath.Join(w.path(w.config.Keys), "*.pub"))
	if err != nil {
		return err
	}
	for _, key := range keys {
		public, err := os.ReadFile(key)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, w.config.Keys, filepath.Base(key))
		if _, err := os.Lstat(to); err == nil {
			continue // git has it
		}
		if err := writeIfOther(to, public, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare lists the effects in the order in which nodes are made, what is gone last.
func compare(old, now *graph.Graph, d definition) ([]effect, error) {
	changed := map[string]string{}
	others := old.Settings() != now.Settings()
	var roots []*graph.Node
	for _, n := range now.Nodes() {
		is, err := d(n)
		if err != nil {
			return nil, err
		}
		o, ok := old.Node(n.ID)
		if !ok {
			changed[n.ID] = "new"
			roots = append(roots, n)
			continue
		}
		if was, err := d(o); err != nil {
			return nil, err
		} else if was != is || others && n.Kind == graph.Packages {
			changed[n.ID] = "changed"
			roots = append(roots, n)
		}
	}
	through := map[string][]string{}
	for _, r := range roots {
		for _, d := range now.Dependents(r) {
			through[d.ID] = append(through[d.ID], r.ID)
		}
	}
	effects := []effect{}
	for _, n := range now.Nodes() {
		switch {
		case changed[n.ID] != "":
			effects = append(effects, effect{Node: n.ID, Kind: string(n.Kind), Effect: changed[n.ID]})
		case through[n.ID] != nil:
			effects = append(effects, effect{Node: n.ID, Kind: string(n.Kind), Effect: "dependent", Through: through[n.ID]})
		}
	}
	for _, n := range old.Nodes() {
		if _, ok := now.Node(n.ID); !ok {
			effects = append(effects, effect{Node: n.ID, Kind: string(n.Kind), Effect: gone})
		}
	}
	return effects, nil
}

// checkout writes the files of the workspace in dir, as they were at the merge
// base of HEAD and a revision, below to.
func checkout(dir, revision, to string) error {
	repo, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return fmt.Errorf("no git repository is in %s, or above it", dir)
	} else if err != nil {
		return err
	}
	commit, err := mergeBase(repo, revision)
	if err != nil {
		return err
	}
	tree, err := commit.Tree()
	if err != nil {
		return err
	}
	work, err := repo.Worktree()
	if err != nil {
		return err
	}
	if sub, err := filepath.Rel(work.Filesystem.Root(), dir); err != nil {
		return err
	} else if sub != "." {
		if tree, err = tree.Tree(filepath.ToSlash(sub)); err != nil {
			return err
		}
	}
	return tree.Files().ForEach(func(f *object.File) error {
		return writeBlob(f, filepath.Join(to, filepath.FromSlash(f.Name)))
	})
}

func mergeBase(repo *git.Repository, revision string) (*object.Commit, error) {
	resolve := func(name string) (*object.Commit, error) {
		hash, err := repo.ResolveRevision(plumbing.Revision(name))
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return nil, fmt.Errorf("git knows no branch or commit %s%s", name, remedy(repo, name))
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return repo.CommitObject(*hash)
	}
	other, err := resolve(revision)
	if err != nil {
		return nil, err
	}
	head, err := resolve("HEAD")
	if err != nil {
		return nil, err
	}
	bases, err := head.MergeBase(other)
	if isShallow(repo) && (err != nil || len(bases) == 0) {
		return nil, errors.New("this clone has not the history back to where HEAD left it: git fetch --unshallow")
	}
	if err != nil {
		return nil, err
	}
	if len(bases) == 0 {
		return nil, errors.New("it has no commit in common with HEAD")
	}
	return bases[0], nil
}

// remedy is what may help where git knows a branch by another name, or has left it out: as it is in the clones of CI.
func remedy(repo *git.Repository, name string) string {
	remotes, err := repo.Remotes()
	if err != nil {
		return ""
	}
	for _, r := range remotes {
		there := r.Config().Name + "/" + name
		if _, err := repo.ResolveRevision(plumbing.Revision(there)); err == nil {
			return fmt.Sprintf(" (but %s)", there)
		}
	}
	if isShallow(repo) {
		return " (the clone is shallow: git fetch --unshallow, and git fetch that branch)"
	}
	return ""
}

func isShallow(repo *git.Repository) bool {
	shallow, err := repo.Storer.Shallow()
	return err == nil && len(shallow) > 0
}

func writeBlob(f *object.File, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	r, err := f.Reader()
	if err != nil {
		return err
	}
	defer r.Close()
	if f.Mode == filemode.Symlink {
		target, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return os.Symlink(string(target), name)
	}
	mode := os.FileMode(0o644)
	if f.Mode == filemode.Executable {
		mode = 0o755
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}
