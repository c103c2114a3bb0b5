package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/atomicfile"
	"distro.internal/shared/filetree"
	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"
)

// bare are the flags of the commands that make a root and no image of it.
type bare struct {
	options
	arch string
}

func (o *bare) register(cmd *cobra.Command) {
	o.options.register(cmd)
	o.registerLock(cmd)
	o.registerLimits(cmd)
	cmd.Flags().StringVar(&o.arch, "build-arch", "", "the same as --arch, of which there is only one here")
}

func (m *machine) buildMinirootfs() *cobra.Command {
	var o bare
	cmd := &cobra.Command{
		Use:   "build-minirootfs CONFIG OUT",
		Short: "Make the root of an image as a tarball",
		Long:  "Make the root that CONFIG describes, of one architecture, and write it to OUT: a tarball, compressed when OUT ends in .gz or .tgz.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runBare(cmd.Context(), &o, args[0], args[1], func(w io.Writer, l *oci.Layer) error { return l.WritePlain(w) })
		},
	}
	o.register(cmd)
	return cmd
}

func (m *machine) buildCPIO() *cobra.Command {
	var o bare
	cmd := &cobra.Command{
		Use:   "build-cpio CONFIG OUT",
		Short: "Make the root of an image as a cpio archive, for Linux to boot from",
		Long: `Make the root that CONFIG describes, of one architecture, and write it to OUT: a cpio archive, compressed when OUT ends
in .gz. It has the devices that the first process needs before it can make others.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.runBare(cmd.Context(), &o, args[0], args[1], writeCPIO)
		},
	}
	o.register(cmd)
	return cmd
}

// runBare makes a root in one layer and writes it in some form.
func (m *machine) runBare(ctx context.Context, o *bare, config, out string, write func(io.Writer, *oci.Layer) error) error {
	if o.arch != "" {
		o.archs = []string{o.arch}
	}
	s, err := m.session(ctx, &o.options, config)
	if err != nil {
		return err
	}
	if len(s.archs) != 1 {
		return fmt.Errorf("a root has one architecture: choose one of %v with --arch", s.archs)
	}
	lock, err := s.locked(ctx, &o.options)
	if err != nil {
		return err
	}
	whole := *s.config
	whole.Layering = image.Layering{}
	result, err := s.builder.Build(ctx, &whole, lock, s.sources...)
	if err != nil {
		return err
	}
	layer := result.Archs[0].Image.Layers[0]
	err = atomicfile.Write(out, 0o644, func(w io.Writer) error {
		if !strings.HasSuffix(out, ".gz") && !strings.HasSuffix(out, ".tgz") {
			return write(w, layer)
		}
		z := gzip.NewWriter(w)
		return errors.Join(write(z, layer), z.Close())
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	return nil
}

// writeCPIO goes by way of a file: the archive has the number of a file's names before its content.
func writeCPIO(w io.Writer, l *oci.Layer) error {
	f, err := os.CreateTemp("", "apko-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := l.WritePlain(f); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	tree, err := filetree.ReadTar(f, func(e *filetree.Entry, _ io.Reader) (func() (io.ReadCloser, error), error) {
		at, err := f.Seek(0, io.SeekCurrent) // an archive is read block by block: here the content begins
		return func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(f, at, e.Size)), nil }, err
	})
	if err != nil {
		return err
	}
	for _, d := range devices {
		if _, ok := tree.Lookup(d.Path); ok {
			continue
		}
		if err := tree.Put(d); err != nil {
			return err
		}
	}
	return filetree.WriteCPIO(w, tree)
}

const charDevice = fs.ModeDevice | fs.ModeCharDevice

var devices = []filetree.Entry{
	{Path: "dev/console", Mode: charDevice | 0o620, DevMajor: 5, DevMinor: 1},
	{Path: "dev/null", Mode: charDevice | 0o666, DevMajor: 1, DevMinor: 3},
	{Path: "dev/random", Mode: charDevice | 0o666, DevMajor: 1, DevMinor: 8},
	{Path: "dev/urandom", Mode: charDevice | 0o666, DevMajor: 1, DevMinor: 9},
	{Path: "dev/zero", Mode: charDevice | 0o666, DevMajor: 1, DevMinor: 5},
}
