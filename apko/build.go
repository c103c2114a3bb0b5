package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"distro.internal/apko/build"
	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"github.com/chainguard-dev/clog"
	"github.com/spf13/cobra"
)

// making are the flags of the commands that make an image.
type making struct {
	options
	attaching
	sbom     bool
	sbomPath string
	json     bool

	sbomFormats []string
	compression string
}

func (o *making) register(cmd *cobra.Command) {
	o.options.register(cmd)
	o.registerLock(cmd)
	o.registerLimits(cmd)
	o.attaching.register(cmd)
	cmd.Flags().BoolVar(&o.sbom, "sbom", true, "write bills of materials, if --sbom-path says where")
	cmd.Flags().StringVar(&o.sbomPath, "sbom-path", "", "folder for the bills of materials, SPDX in JSON")
	cmd.Flags().BoolVar(&o.vcs, "vcs", false, "name the git commit of the image file in the image, unless the file does: each commit is another image then")
	cmd.Flags().StringSliceVar(&o.sbomFormats, "sbom-formats", []string{"spdx"}, "formats of the bills of materials; spdx is the only one")
	cmd.Flags().StringVar(&o.compression, "layer-compression", "gzip", "how layers are compressed: gzip, which everybody reads, zstd, or estargz, which need not be pulled as a whole")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the digests as JSON")
}

func (m *machine) build() *cobra.Command {
	var o making
	cmd := &cobra.Command{
		Use:   "build CONFIG TAG OUT",
		Short: "Make an image in a file or folder",
		Long: `Make the image that CONFIG describes and write it to OUT: a tarball when OUT ends in .tar, for docker load and
for tools that read OCI archives; the same on the standard output when OUT is "-"; otherwise a folder with an OCI layout.
Prints the digest of the image.`,
		Example: "  apko build nginx.yaml nginx:latest nginx.tar",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runBuild(cmd.Context(), &o, args[0], args[1], args[2])
		},
	}
	o.register(cmd)
	return cmd
}

func (m *machine) runBuild(ctx context.Context, o *making, config, tagged, out string) error {
	tag, err := oci.ParseTag(tagged)
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
	index, err := o.attached(result, signer, tag.Context())
	if err != nil {
		return err
	}
	if err := m.place(ctx, index, tag, out); err != nil {
		return err
	}
	if err := o.writeSBOMs(result.Result); err != nil {
		return err
	}
	if out == "-" {
		return nil
	}
	return m.printDigests(o, result.Result, index.Descriptor.Digest)
}

// place writes the image where OUT says.
func (m *machine) place(ctx context.Context, index *oci.Index, tag oci.Tag, out string) error {
	if out == "-" {
		return index.WriteStream(ctx, m.out, tag)
	}
	info, err := os.Stat(out)
	if strings.HasSuffix(out, ".tar") && (err != nil || !info.IsDir()) {
		return index.WriteTarball(ctx, out, tag)
	}
	return index.WriteLayout(ctx, out, tag)
}

// finished is an image with what it was made from.
type finished struct {
	*build.Result
	config *image.Config
	lock   *image.Lock
}

// make builds the image of the image file.
func (m *machine) make(ctx context.Context, o *making, config string) (*finished, error) {
	for _, format := range o.sbomFormats {
		if format != "spdx" {
			return nil, fmt.Errorf("--sbom-formats %s: spdx is the only format", format)
		}
	}
	compression, err := oci.ParseCompression(o.compression)
	if err != nil {
		return nil, fmt.Errorf("--layer-compression: %w", err)
	}
	s, err := m.session(ctx, &o.options, config)
	if err != nil {
		return nil, err
	}
	s.builder.Compression = compression
	lock, err := s.locked(ctx, &o.options)
	if err != nil {
		return nil, err
	}
	result, err := s.builder.Build(ctx, s.config, lock, s.sources...)
	if err != nil {
		return nil, err
	}
	for _, a := range result.Archs {
		for _, note := range a.Notes {
			clog.FromContext(ctx).Infof("%s: %s", a.Name, note)
		}
	}
	return &finished{result, s.config, lock}, nil
}

func (o *making) writeSBOMs(r *build.Result) error {
	if !o.sbom || o.sbomPath == "" {
		return nil
	}
	if err := os.MkdirAll(o.sbomPath, 0o755); err != nil {
		return err
	}
	write := func(name string, content []byte) error {
		file := filepath.Join(o.sbomPath, "sbom-"+name+".spdx.json")
		tmp := file + ".tmp"
		if err := os.WriteFile(tmp, content, 0o644); err != nil {
			return err
		}
		return os.Rename(tmp, file)
	}
	for _, a := range r.Archs {
		if err := write(string(a.Name), a.SBOM); err != nil {
			return err
		}
	}
	return write("index", r.SBOM)
}

// printDigests prints the reference alone, or everything as JSON.
func (m *machine) printDigests(o *making, r *build.Result, reference string) error {
	if !o.json {
		_, err := fmt.Fprintln(m.out, reference)
		return err
	}
	type arch struct {
		Arch     string   `json:"arch"`
		Digest   string   `json:"digest"`
		Layers   []string `json:"layers"`
		Packages []string `json:"packages"`
	}
	printed := struct {
		Reference string `json:"reference"`
		Digest    string `json:"digest"`
		Archs     []arch `json:"archs"`
	}{reference, r.Index.Descriptor.Digest, nil}
	for _, a := range r.Archs {
		one := arch{Arch: string(a.Name), Digest: a.Image.Manifest.Digest, Packages: a.Packages}
		for _, l := range a.Image.Layers {
			one.Layers = append(one.Layers, l.Digest)
		}
		printed.Archs = append(printed.Archs, one)
	}
	enc := json.NewEncoder(m.out)
	enc.SetIndent("", "  ")
	return enc.Encode(printed)
}
