package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"distro.internal/shared/apk"
	"github.com/spf13/cobra"
)

// packageFormats are the formats that have a name.
var packageFormats = map[string]string{
	"name-version":          "{{.Name}} {{.Version}}",
	"name-version-source":   "{{.Name}} {{.Version}} {{.Source}}",
	"name=version":          "{{.Name}}={{.Version}}",
	"name=version-source":   "{{.Name}}={{.Version}} {{.Source}}",
	"name-(version)":        "{{.Name}} ({{.Version}})",
	"name-(version)-source": "{{.Name}} ({{.Version}}) {{.Source}}",
	"packagelock":           "- {{.Name}}={{.Version}}",
	"packagelock-source":    "- {{.Name}}={{.Version}} # {{.Source}}",
}

// shownPackage is what a template can name.
type shownPackage struct {
	Name    string      `json:"name"`
	Version apk.Version `json:"version"`
	Arch    apk.Arch    `json:"arch"`
	Source  string      `json:"source"`
}

func (m *machine) showPackages() *cobra.Command {
	var o options
	var format string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show-packages CONFIG",
		Short: "Print the packages that an image would be made of",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runShowPackages(cmd.Context(), &o, args[0], format, asJSON)
		},
	}
	o.register(cmd)
	o.registerLock(cmd)
	names := strings.Join(slices.Sorted(maps.Keys(packageFormats)), ", ")
	cmd.Flags().StringVar(&format, "format", "name-version", "a Go template over .Name .Version .Arch .Source, or one of "+names)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (m *machine) runShowPackages(ctx context.Context, o *options, config, format string, asJSON bool) error {
	if named, ok := packageFormats[format]; ok {
		format = named
	}
	if !strings.Contains(format, "{{") {
		return fmt.Errorf("--format %s: neither a template nor one of %s", format, strings.Join(slices.Sorted(maps.Keys(packageFormats)), ", "))
	}
	line, err := template.New("format").Option("missingkey=error").Parse(format)
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	s, err := m.session(ctx, o, config)
	if err != nil {
		return err
	}
	lock, err := s.locked(ctx, o)
	if err != nil {
		return err
	}
	shown := []shownPackage{}
	for _, p := range lock.Contents.Packages {
		shown = append(shown, shownPackage{p.Name, p.Version, p.Architecture, p.URL})
	}
	if asJSON {
		enc := json.NewEncoder(m.out)
		enc.SetIndent("", "  ")
		return enc.Encode(shown)
	}
	var text strings.Builder
	for _, p := range shown {
		if err := line.Execute(&text, p); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		text.WriteByte('\n')
	}
	_, err = fmt.Fprint(m.out, text.String())
	return err
}
