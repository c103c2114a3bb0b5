package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"distro.internal/melange/recipe"
	"distro.internal/melange/upstream"
	"distro.internal/shared/apk"
)

type updateOptions struct {
	bumpFlags
	watch         upstream.Watch
	write, asJSON bool
}

func updateCommand(s surroundings) *cobra.Command {
	var o updateOptions
	c := &cobra.Command{
		Use:   "update RECIPE...",
		Short: "Ask upstream for versions newer than those of recipes",
		Long: `Ask upstream, as the update: block of each recipe says it, for newer versions:
the tags of a git repository, those of one on GitHub, which is asked as any
other git server is, the list of a release monitor, or the tags of an image.
What is no version, is not asked for, or is a pre-release that the recipe does
not want is left out; the others are in apk's order. A recipe with a schedule:
whose sources follow a branch is behind when the branch has moved; when to ask
is up to the caller, and "period" with --json.

Releases on GitHub, which a recipe without use-tag means, count only where
--github-api names a server; it may want the token of HTTP_AUTH or netrc.

With --write the recipes that are behind become ones of the new version, as
"melange bump" does it.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.update(c.Context(), s, args)
		},
	}
	f := c.Flags()
	o.register(f, s)
	f.StringVar(&o.watch.GitHub, "github", "https://github.com", "server of the repositories that github: names")
	f.StringVar(&o.watch.GitHubAPI, "github-api", "", "server that knows the releases of these repositories, such as https://api.github.com; without it their tags count")
	f.StringVar(&o.watch.Registry, "registry", "", "server of the images that oci: names, when it is not the one in their names")
	f.StringVar(&o.watch.Feed, "feed", "", "Atom or RSS feed that is asked in place of whom the recipe names")
	f.StringVar(&o.watch.ReleaseMonitor, "release-monitor", "https://release-monitoring.org", "server that knows the projects of release-monitor:")
	f.BoolVar(&o.write, "write", false, "bump the recipes that are behind")
	f.BoolVar(&o.asJSON, "json", false, "print what was found as JSON")
	return c
}

// asking is how many servers are asked at a time.
const asking = 8

// A found is what there is to say of one recipe.
type found struct {
	*upstream.Finding
	Error  string           `json:"error,omitempty"`
	Bumped *upstream.Bumped `json:"bumped,omitempty"`
	err    error
}

func (o *updateOptions) update(ctx context.Context, s surroundings, files []string) error {
	if o.watch.Feed != "" && len(files) != 1 {
		return errors.New("--feed tells of one recipe")
	}
	var err error
	if o.watch.Sources, err = sourceStore(o.cacheDir); err != nil {
		return err
	}
	o.watch.Authorize = s.access.Authorize
	all := make([]found, len(files))
	var g errgroup.Group
	g.SetLimit(asking)
	for i, file := range files {
		g.Go(func() error {
			all[i] = o.find(ctx, file)
			return nil
		})
	}
	g.Wait()
	failed := 0
	for i, f := range all {
		if f.err == nil && o.write && f.Newer {
			all[i].Bumped, f.err = o.bump(ctx, f.File, f.Latest.Version, f.Latest.Commit)
		}
		if f.err != nil {
			failed++
			all[i].Error = f.err.Error()
		}
		if !o.asJSON {
			printFinding(s.stdout, all[i])
		}
	}
	if o.asJSON {
		if err := writeJSON(s.stdout, all); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%s failed", count(failed, "recipe"))
	}
	return nil
}

func (o *updateOptions) find(ctx context.Context, file string) found {
	r, err := readRecipe(file)
	if err != nil {
		return found{Finding: &upstream.Finding{File: file}, err: err}
	}
	f, err := o.watch.Find(ctx, r, recipe.PlanOptions{Arch: apk.HostArch(), BuildArch: apk.HostArch(), Dir: os.DirFS(filepath.Dir(file))})
	if err != nil {
		f = &upstream.Finding{Name: r.Package.Name.Value, File: file, Current: apk.Version(r.Package.Version.Value)}
	}
	return found{Finding: f, err: err}
}

// printFinding says of a recipe what it has and what there is, or why that is not known.
func printFinding(w io.Writer, f found) {
	if f.Error != "" {
		if !strings.HasPrefix(f.Error, f.File) {
			f.Error = f.File + ": " + f.Error
		}
		fmt.Fprintln(w, f.Error)
		return
	}
	switch {
	case f.Skipped != "":
		fmt.Fprintf(w, "%s %s: skipped: %s\n", f.Name, f.Current, f.Skipped)
	case f.Latest == nil:
		fmt.Fprintf(w, "%s %s: no release at %s%s\n", f.Name, f.Current, f.From, leftOut(f.Ignored))
	case f.Newer && f.Latest.Version == f.Current:
		fmt.Fprintf(w, "%s %s: %s is at %.12s\n", f.Name, f.Current, f.Latest.Name, f.Latest.Commit)
	case f.Newer:
		fmt.Fprintf(w, "%s %s -> %s\n", f.Name, f.Current, f.Latest.Version)
	case f.Latest.Version == f.Current:
		fmt.Fprintf(w, "%s %s: is the latest\n", f.Name, f.Current)
	default:
		fmt.Fprintf(w, "%s %s: the latest is %s\n", f.Name, f.Current, f.Latest.Version)
	}
	if f.Bumped != nil {
		for _, c := range f.Bumped.Changes {
			fmt.Fprintf(w, "  %s\n", c)
		}
	}
}

// leftOut tells why names were no releases.
func leftOut(ignored map[string]int) string {
	var words []string
	for _, why := range slices.Sorted(maps.Keys(ignored)) {
		words = append(words, fmt.Sprintf("%d: %s", ignored[why], why))
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}
