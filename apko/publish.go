package main

import (
	"context"
	"slices"
	"strings"

	"distro.internal/apko/build"
	"distro.internal/apko/oci"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/attest"
	"github.com/spf13/cobra"
)

func (m *machine) publish() *cobra.Command {
	var o making
	var refs string
	var local bool
	cmd := &cobra.Command{
		Use:   "publish CONFIG TAG...",
		Short: "Make an image and push it to a registry",
		Long: `Make the image that CONFIG describes, push it, and set the tags. Credentials are those of docker login. Prints the
reference by digest. With --local no registry is asked: a container engine on this machine gets the image of one
architecture, which is the host's unless --arch says another: that which DOCKER_HOST=unix://... names,
or docker.`,
		Example: "  apko publish nginx.yaml registry.example/nginx:1.27 registry.example/nginx:latest",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if local {
				return m.runLocal(cmd.Context(), &o, args[0], args[1:])
			}
			return m.runPublish(cmd.Context(), &o, refs, args[0], args[1:])
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&refs, "image-refs", "", "file for the references by digest, those of each architecture first")
	cmd.Flags().BoolVar(&local, "local", false, "give the image to a container engine on this machine instead")
	for _, pushed := range []string{"image-refs", "attach", "sign-key", "signing-key"} {
		cmd.MarkFlagsMutuallyExclusive("local", pushed)
	}
	return cmd
}

func parseTags(tagged []string) ([]oci.Tag, error) {
	var tags []oci.Tag
	for _, t := range tagged {
		tag, err := oci.ParseTag(t)
		if err != nil {
			return nil, err
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// runLocal gives the image to an engine on this machine.
func (m *machine) runLocal(ctx context.Context, o *making, config string, tagged []string) error {
	tags, err := parseTags(tagged)
	if err != nil {
		return err
	}
	engine, err := oci.DaemonAt(m.env("DOCKER_HOST"))
	if err != nil {
		return err
	}
	if len(o.archs) == 0 {
		o.archs = []string{"host"}
	}
	result, err := m.make(ctx, o, config)
	if err != nil {
		return err
	}
	if err := engine.Load(ctx, result.Index, tags...); err != nil {
		return err
	}
	if err := o.writeSBOMs(result.Result); err != nil {
		return err
	}
	return m.printDigests(o, result.Result, tags[0].String())
}

func (m *machine) runPublish(ctx context.Context, o *making, refs, config string, tagged []string) error {
	tags, err := parseTags(tagged)
	if err != nil {
		return err
	}
	signer, err := o.signer(m)
	if err != nil {
		return err
	}
	result, err := m.make(ctx, o, config)
	if err != nil {
		return err
	}
	references, err := o.push(ctx, result, signer, tags)
	if err != nil {
		return err
	}
	if refs != "" {
		if err := atomicfile.Write(refs, 0o644, atomicfile.Bytes(imageRefs(result.Result, references[0]))); err != nil {
			return err
		}
	}
	if err := o.writeSBOMs(result.Result); err != nil {
		return err
	}
	return m.printDigests(o, result.Result, references[0])
}

// push pushes to each repository that the tags name, and returns the references by digest.
func (o *making) push(ctx context.Context, r *finished, s *attest.Signer, tags []oci.Tag) ([]string, error) {
	registry := oci.Registry{UserAgent: "apko/" + version}
	var references []string
	for len(tags) > 0 {
		repository := tags[0].Context()
		other := func(t oci.Tag) bool { return t.Context() != repository }
		here := slices.DeleteFunc(slices.Clone(tags), other)
		tags = slices.DeleteFunc(slices.Clone(tags), func(t oci.Tag) bool { return !other(t) })
		index, err := o.attached(r, s, repository)
		if err != nil {
			return nil, err
		}
		reference, err := registry.Push(ctx, index, here...)
		if err != nil {
			return nil, err
		}
		references = append(references, reference)
	}
	return references, nil
}

// imageRefs lists the references by digest, those of each architecture first.
func imageRefs(r *build.Result, reference string) []byte {
	repository := reference[:strings.LastIndexByte(reference, '@')]
	var list strings.Builder
	for _, a := range r.Archs {
		list.WriteString(repository + "@" + a.Image.Manifest.Digest + "\n")
	}
	list.WriteString(reference + "\n")
	return []byte(list.String())
}
