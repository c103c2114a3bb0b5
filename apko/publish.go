package main

import (
	"context"
	"os"
	"strings"

	"distro.internal/apko/oci"
	"github.com/spf13/cobra"
)

func (m *machine) publish() *cobra.Command {
	var o making
	var refs string
	cmd := &cobra.Command{
		Use:   "publish CONFIG TAG...",
		Short: "Make an image and push it to a registry",
		Long: `Make the image that CONFIG describes, push it, and set the tags. Credentials are those of docker login. Prints the
reference by digest.`,
		Example: "  apko publish nginx.yaml registry.example/nginx:1.27 registry.example/nginx:latest",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runPublish(cmd.Context(), &o, refs, args[0], args[1:])
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&refs, "image-refs", "", "file for the references by digest, those of each architecture first")
	return cmd
}

func (m *machine) runPublish(ctx context.Context, o *making, refs, config string, tagged []string) error {
	var tags []oci.Tag
	for _, t := range tagged {
		tag, err := oci.ParseTag(t)
		if err != nil {
			return err
		}
		tags = append(tags, tag)
	}
	result, err := m.make(ctx, o, config)
	if err != nil {
		return err
	}
	registry := oci.Registry{UserAgent: "apko/" + release()}
	reference, err := registry.Push(ctx, result.Index, tags...)
	if err != nil {
		return err
	}
	if refs != "" {
		repository := reference[:strings.LastIndexByte(reference, '@')]
		var list strings.Builder
		for _, a := range result.Archs {
			list.WriteString(repository + "@" + a.Image.Manifest.Digest + "\n")
		}
		list.WriteString(reference + "\n")
		if err := os.WriteFile(refs, []byte(list.String()), 0o644); err != nil {
			return err
		}
	}
	if err := o.writeSBOMs(result); err != nil {
		return err
	}
	return m.printDigests(o, result, reference)
}
