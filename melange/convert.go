package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"distro.internal/melange/convert"
	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
)

func convertCommand(s surroundings) *cobra.Command {
	c := &cobra.Command{
		Use:   "convert",
		Short: "Make a recipe of what others say about a package",
		Long: `Make a recipe of what others say about a package, and print it: a file, or what
an address has. It is a beginning: what could not be carried over stands in it
as comments. Nothing of what is read is run.`,
	}
	ruby, version := "", ""
	c.AddCommand(
		converter(s, "apkbuild FILE|URL", "Make a recipe of an APKBUILD", convert.Apkbuild),
		converter(s, "python FILE|URL", "Make a recipe of a Python package's metadata: JSON with info and urls", func(_ string, text []byte) ([]byte, error) {
			return convert.Python(text)
		}),
	)
	gem := converter(s, "gem FILE|URL", "Make a recipe of a gem's metadata: JSON with name, version, sha and dependencies", func(_ string, text []byte) ([]byte, error) {
		return convert.Gem(text, ruby)
	})
	gem.Flags().StringVar(&ruby, "ruby-version", "3.4", "version of Ruby that the package is for")
	npm := converter(s, "npm FILE|URL", "Make a recipe of an npm package's metadata: JSON with versions, or of one", func(_ string, text []byte) ([]byte, error) {
		return convert.NPM(text, version)
	})
	npm.Flags().StringVar(&version, "package-version", "", "version to take; the latest when empty")
	c.AddCommand(gem, npm)
	return c
}

func converter(s surroundings, use, short string, convert func(name string, text []byte) ([]byte, error)) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := readAt(c.Context(), args[0])
			if err != nil {
				return err
			}
			made, err := convert(args[0], text)
			if err == nil {
				err = plannable(made)
			}
			if err != nil {
				return fmt.Errorf("converting %s: %w", args[0], err)
			}
			_, err = s.stdout.Write(made)
			return err
		},
	}
}

// maxMetadata is the most that anyone has to say about a package: some have many versions.
const maxMetadata = 256 << 20

// readAt reads a file, or what an address has.
func readAt(ctx context.Context, name string) (text []byte, err error) {
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		return os.ReadFile(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading %s: the server answers %s", req.URL.Redacted(), resp.Status)
	}
	if text, err = io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1)); err == nil && len(text) > maxMetadata {
		err = errors.New("it is too long")
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", req.URL.Redacted(), err)
	}
	return text, nil
}

// plannable reports what keeps a recipe that was made from being one.
func plannable(text []byte) error {
	r, err := recipe.Parse("recipe", text, recipe.ParseOptions{})
	if err != nil {
		return err
	}
	arch := apk.HostArch()
	_, err = r.Plan(recipe.PlanOptions{Arch: arch, BuildArch: arch, Library: recipe.NewLibrary(pipelines.Files)})
	return err
}
