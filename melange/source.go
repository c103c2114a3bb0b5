package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
)

// Between a recipe and a work tree of git, patches are commits. What goes back is
// told by what was taken: the commit below all patches, and each patch's own.
const (
	baseRef   = "refs/recipe/base"
	patchRefs = "refs/recipe/patches/"
	// patchName is the trailer of a commit that tells which file it comes from.
	patchName = "Patch-Name"
)

func sourceCommand(s surroundings) *cobra.Command {
	c := &cobra.Command{
		Use:   "source",
		Short: "Work on a recipe's sources in git: patches become commits, and commits patches",
	}
	c.AddCommand(sourceGetCommand(s), sourcePopCommand(s))
	return c
}

type sourceOptions struct {
	planFlags
	cacheDir string
	output   string
}

func (o *sourceOptions) register(f *pflag.FlagSet) {
	o.planFlags.register(f)
	f.StringVarP(&o.output, "output", "o", "source", "folder that the work tree is in, under the package's name, when no DIR is given")
}

// dir is where the work tree of a recipe is.
func (o *sourceOptions) dir(args []string, plan *recipe.Plan) string {
	if len(args) > 1 {
		return args[1]
	}
	return filepath.Join(o.output, plan.Name)
}

func sourceGetCommand(s surroundings) *cobra.Command {
	var o sourceOptions
	c := &cobra.Command{
		Use:   "get RECIPE [DIR]",
		Short: "Put the sources of a recipe into a new work tree of git, with its patches as commits",
		Long: `Put the sources of a recipe into a new work tree of git, on a branch named like
the package: the repository that the recipe checks out with all its history, or
else its archives, unpacked, as one commit. Cherry-picks come next, then each
patch as a commit. A patch that does not apply is an error; the work tree then
has what comes before it, and is a place to see why.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return o.get(c.Context(), s, args)
		},
	}
	o.register(c.Flags())
	c.Flags().StringVar(&o.cacheDir, "cache-dir", s.cache, "folder for sources")
	return c
}

func (o *sourceOptions) get(ctx context.Context, s surroundings, args []string) error {
	file := args[0]
	plans, err := o.plans(file)
	if err != nil {
		return err
	}
	plan := plans[0]
	dir := o.dir(args, plan)
	steps, err := o.patchSteps(file)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, err := o.tree(ctx, plan, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	local := o.localDir(file, plan)
	for _, step := range steps {
		names, err := patchesOf(local, step)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := t.apply(ctx, local, step, name); err != nil {
				return fmt.Errorf("%s: applying %s: %w\n%s has what comes before it", step.Pos, name, err, dir)
			}
			fmt.Fprintln(s.stdout, name)
		}
	}
	return nil
}

// localDir is the folder of the recipe's own files.
func (o *sourceOptions) localDir(file string, plan *recipe.Plan) string {
	if o.sourceDir != "" {
		return o.sourceDir
	}
	return filepath.Join(filepath.Dir(file), plan.Name)
}

func (o *sourceOptions) patchSteps(file string) ([]recipe.PatchStep, error) {
	r, err := readRecipe(file)
	if err != nil {
		return nil, err
	}
	arch, err := parseArch(cmp.Or(strings.Join(o.archs, ""), hostArch()))
	if err != nil {
		return nil, err
	}
	return r.PatchSteps(recipe.PlanOptions{Arch: arch, Dir: os.DirFS(filepath.Dir(file)), Options: o.options})
}

// patchesOf are the patches that a step applies.
func patchesOf(local string, step recipe.PatchStep) ([]string, error) {
	if step.Series == "" {
		return step.Patches, nil
	}
	text, err := os.ReadFile(filepath.Join(local, filepath.FromSlash(step.Series)))
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			names = append(names, path.Join(path.Dir(step.Series), words[0]))
		}
	}
	return names, nil
}

// A workTree is sources in git.
type workTree struct {
	dir  string
	root string // in the workspace of a build
}

// tree makes the work tree, without patches.
func (o *sourceOptions) tree(ctx context.Context, plan *recipe.Plan, dir string) (*workTree, error) {
	store, err := sourceStore(o.cacheDir)
	if err != nil {
		return nil, err
	}
	t := &workTree{dir: dir, root: "."}
	sources := slices.DeleteFunc(slices.Clone(plan.Sources), func(s recipe.Source) bool {
		return s.Output != plan.Name || s.Locked()
	})
	if len(sources) == 0 {
		return nil, fmt.Errorf("%s is made from no sources", plan.Name)
	}
	own := slices.IndexFunc(sources, func(s recipe.Source) bool { return s.Kind == recipe.SourceGit })
	if own < 0 {
		if _, err := t.git(ctx, "init", "--quiet", "--initial-branch="+plan.Name, "--", dir); err != nil {
			return nil, err
		}
	} else {
		base := sources[own]
		sources = slices.Delete(sources, own, own+1)
		t.root = base.Directory
		if err := t.clone(ctx, base, plan.Name); err != nil {
			return nil, err
		}
	}
	if err := t.addSources(ctx, store, sources, fmt.Sprintf("Sources of %s %s", plan.Name, plan.Version)); err != nil {
		return nil, err
	}
	_, err = t.git(ctx, "update-ref", baseRef, "HEAD")
	return t, err
}

// clone gets a repository with its history, and what is picked from elsewhere in it.
func (t *workTree) clone(ctx context.Context, src recipe.Source, branch string) error {
	if _, err := program(ctx, "", "git", "clone", "--quiet", "--no-checkout", "--", src.URI, t.dir); err != nil {
		return err
	}
	commit := src.Commit
	if commit == "" {
		commit = "HEAD"
	}
	if _, err := t.git(ctx, "checkout", "--quiet", "-B", branch, commit, "--"); err != nil {
		return err
	}
	if src.Submodules {
		if _, err := t.git(ctx, "submodule", "--quiet", "update", "--init", "--recursive"); err != nil {
			return err
		}
	}
	for _, pick := range src.CherryPicks {
		if _, err := t.git(ctx, "cherry-pick", pick.Commit); err != nil {
			return err
		}
	}
	return nil
}

// addSources commits what is unpacked beside or above a repository's own files.
func (t *workTree) addSources(ctx context.Context, store *source.Store, sources []recipe.Source, message string) error {
	if len(sources) == 0 {
		return nil
	}
	for i, s := range sources {
		rel, err := below(t.root, s.Directory)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Pos, err)
		}
		sources[i].Directory = rel
	}
	store.FilesOnly = true // they become files of this repository
	if _, err := store.Prepare(ctx, sources, t.dir, ""); err != nil {
		return err
	}
	if _, err := t.git(ctx, "add", "--all", "--force"); err != nil {
		return err
	}
	_, err := t.git(ctx, "commit", "--quiet", "--allow-empty", "--message", message)
	return err
}

// below is a path of the workspace as seen from a folder of it.
func below(root, name string) (string, error) {
	rel, err := filepath.Rel(root, name)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%s is not in %s, where the repository is", name, root)
	}
	return rel, nil
}

// apply commits a patch. One that was mailed has an author and a message; of others
// the text before the first difference is the message.
func (t *workTree) apply(ctx context.Context, local string, step recipe.PatchStep, name string) error {
	file, err := filepath.Abs(filepath.Join(local, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	dir, err := below(t.root, step.Dir)
	if err != nil {
		return err
	}
	strip := fmt.Sprintf("-p%d", step.Strip)
	mailed := bytes.HasPrefix(text, []byte("From "))
	if mailed {
		where := []string{"am", "--quiet", strip}
		if dir != "." {
			where = append(where, "--directory="+dir)
		}
		_, err = t.git(ctx, append(where, "--", file)...)
	}
	if !mailed || err != nil {
		if err != nil {
			t.git(ctx, "am", "--abort")
		}
		err = t.patch(ctx, filepath.Join(t.dir, dir), file, strip, step.Fuzz, message(name, text))
	}
	if err != nil {
		return err
	}
	base := path.Base(name)
	if _, err := t.git(ctx, "commit", "--quiet", "--amend", "--no-edit", "--trailer", patchName+": "+base); err != nil {
		return err
	}
	_, err = t.git(ctx, "update-ref", patchRefs+base, "HEAD")
	return err
}

// patch applies as a build does it, and leaves nothing when it fails.
func (t *workTree) patch(ctx context.Context, dir, file, strip string, fuzz int, message string) error {
	_, err := program(ctx, dir, "patch", strip, fmt.Sprintf("--fuzz=%d", fuzz), "--no-backup-if-mismatch", "--force", "--input="+file)
	if err != nil {
		t.git(ctx, "reset", "--quiet", "--hard")
		t.git(ctx, "clean", "--quiet", "-d", "--force")
		return err
	}
	if _, err := t.git(ctx, "add", "--all", "--force"); err != nil {
		return err
	}
	_, err = t.git(ctx, "commit", "--quiet", "--allow-empty", "--message", message)
	return err
}

// message is the one of a patch that was not mailed.
func message(name string, text []byte) string {
	subject := strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".patch"), ".diff")
	var body []string
	for line := range strings.Lines(string(text)) {
		if start, _, _ := strings.Cut(line, " "); slices.Contains([]string{"---", "diff", "Index:", "+++"}, start) || strings.HasPrefix(line, "---") {
			break
		}
		body = append(body, strings.TrimRight(line, "\r\n"))
	}
	return strings.TrimSpace(subject + "\n\n" + strings.TrimSpace(strings.Join(body, "\n")))
}

// git runs a command in the tree, as its user, or as nobody in particular where git knows of none.
func (t *workTree) git(ctx context.Context, args ...string) (string, error) {
	dir := t.dir
	if args[0] == "init" {
		dir = ""
	}
	identity := []string{"-c", "commit.gpgSign=false", "-c", "am.threeWay=false"}
	if _, err := program(ctx, dir, "git", "config", "user.email"); err != nil {
		identity = append(identity, "-c", "user.name=melange", "-c", "user.email=melange@localhost")
	}
	return program(ctx, dir, "git", append(identity, args...)...)
}

// program returns what a program prints; its error has what it says.
func program(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = dir, &out, &said
	c.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if err := c.Run(); err != nil {
		words := strings.TrimSpace(said.String() + out.String())
		if lines := strings.Split(words, "\n"); len(lines) > 8 {
			words = strings.Join(lines[len(lines)-8:], "\n")
		}
		return "", fmt.Errorf("%s %s: %w: %s", name, args[min(len(args)-1, firstWord(args))], err, words)
	}
	return out.String(), nil
}

// firstWord is the index of the first argument that is no option.
func firstWord(args []string) int {
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" {
			i++
		} else if !strings.HasPrefix(args[i], "-") {
			return i
		}
	}
	return 0
}
