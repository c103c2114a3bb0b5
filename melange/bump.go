package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"distro.internal/melange/recipe"
	"distro.internal/melange/upstream"
	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
)

// bumpFlags are what a recipe of another version depends on.
type bumpFlags struct {
	cacheDir string
}

func (o *bumpFlags) register(f *pflag.FlagSet, s surroundings) {
	f.StringVar(&o.cacheDir, "cache-dir", s.cache, "folder for sources")
}

func bumpCommand(s surroundings) *cobra.Command {
	var o bumpFlags
	var commit string
	var asJSON bool
	c := &cobra.Command{
		Use:   "bump RECIPE VERSION",
		Short: "Make a recipe one of another version",
		Long: `Make a recipe one of another version: its version, epoch 0, and of each source
that the version is part of the digests of the file, which is fetched for that,
or the commit of the tag, which the repository is asked for. With the version
that the recipe has already it gets the next epoch. Nothing else in the file
changes: comments, layout and quoting stay.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			bumped, err := o.bump(c.Context(), args[0], apk.Version(args[1]), commit)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(s.stdout, bumped)
			}
			printBumped(s.stdout, bumped)
			return nil
		},
	}
	o.register(c.Flags(), s)
	c.Flags().StringVar(&commit, "expected-commit", "", "commit that the version is at; the repository is asked for its tag when empty")
	c.Flags().BoolVar(&asJSON, "json", false, "print what changed as JSON")
	return c
}

// bump changes the file as a whole, or not at all.
func (o *bumpFlags) bump(ctx context.Context, file string, version apk.Version, commit string) (*upstream.Bumped, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	store, err := sourceStore(o.cacheDir)
	if err != nil {
		return nil, err
	}
	b := upstream.Bump{
		Version: version, Commit: commit,
		Plan:    recipe.PlanOptions{Arch: apk.HostArch(), BuildArch: apk.HostArch(), Dir: os.DirFS(filepath.Dir(file))},
		Sources: store,
	}
	bumped, err := b.Recipe(ctx, file, text)
	if err != nil {
		return nil, fmt.Errorf("bumping %s to %s: %w", file, version, err)
	}
	return bumped, replaceText(file, bumped.Text)
}

// replaceText gives a file another content, and leaves its mode.
func replaceText(file string, text []byte) error {
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return atomicfile.WriteSynced(file, info.Mode().Perm(), atomicfile.Bytes(text))
}

func printBumped(w io.Writer, b *upstream.Bumped) {
	fmt.Fprintf(w, "%s %s -> %s\n", b.Name, b.From, b.To)
	for _, c := range b.Changes {
		fmt.Fprintf(w, "  %s\n", c)
	}
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
