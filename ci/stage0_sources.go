package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/ci/graph"
	"distro.internal/ci/stage0"
)

func stage0SourcesCommand(s surroundings, o *workspaceFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "sources [PACKAGE...]",
		Short: "Compare the list of upstream sources that Debian has too with what it has now",
		Long: `Compare mirrors.yaml, which says where Debian's archive has upstream's files, with
what Debian has now of the source packages in it, and of the named ones. Nothing
is written. Told is what the list has and Debian has not any more. Files that the
list has not are printed as it would have them: those that a recipe fetches, by
their digests, and all of the packages that are named.`,
		RunE: func(c *cobra.Command, args []string) error {
			w, err := openWorld(s, o)
			if err != nil {
				return err
			}
			list, err := w.mirrorList()
			if err != nil {
				return err
			}
			names := append(list.Packages(), args...)
			slices.Sort(names)
			files, err := stage0.LookupSources(c.Context(), stage0.Apt{}, filepath.Join(w.cache, "stage0", "apt"), list.Suites, slices.Compact(names)...)
			if err != nil {
				return err
			}
			gone, added := list.Outdated(files)
			found := sourcesObject{Gone: []sourceObject{}, New: []sourceObject{}}
			for _, g := range gone {
				found.Gone = append(found.Gone, sourceObject{g.URI, g.SHA256, g.Debian})
			}
			addresses, err := w.addresses(c.Context())
			if err != nil {
				return err
			}
			for _, f := range added {
				if addresses[f.SHA256] == "" && !slices.Contains(args, f.Package()) {
					continue
				}
				found.New = append(found.New, sourceObject{addresses[f.SHA256], f.SHA256, f.Path})
			}
			if o.json {
				return printJSON(s.stdout, found)
			}
			for _, g := range found.Gone {
				fmt.Fprintf(s.stdout, "# gone: %s\n", g.Debian)
			}
			for _, f := range found.New {
				if f.URI == "" {
					fmt.Fprintln(s.stdout, "  # no recipe fetches it")
				}
				fmt.Fprintf(s.stdout, "  - uri: %s\n    sha256: %s\n    debian: %s\n", f.URI, f.SHA256, f.Debian)
			}
			return nil
		},
	}
}

type sourcesObject struct {
	Gone []sourceObject `json:"gone"`
	New  []sourceObject `json:"new"`
}

type sourceObject struct {
	URI    string `json:"uri,omitempty"`
	SHA256 string `json:"sha256"`
	Debian string `json:"debian"`
}

// mirrorList is the list beside what describes the first tools.
func (w *world) mirrorList() (*stage0.Mirrors, error) {
	if w.config.Stage0 == "" {
		return nil, fmt.Errorf("the workspace has no stage0:, beside which %s would lie", mirrorList)
	}
	name := filepath.Join(w.config.Stage0, mirrorList)
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		return nil, err
	}
	return stage0.ParseMirrors(name, data)
}

// addresses are where the recipes have their sources from, by SHA-256.
func (w *world) addresses(ctx context.Context) (map[string]string, error) {
	if err := w.load(ctx); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, n := range w.graph.Nodes() {
		if n.Kind != graph.Packages {
			continue
		}
		plan, err := n.Plan(0)
		if err != nil {
			return nil, err
		}
		for _, source := range plan.Sources {
			if source.SHA256 != "" {
				all[strings.ToLower(source.SHA256)] = source.URI
			}
		}
	}
	return all, nil
}
