package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
)

type indexOptions struct {
	output, source, key, arch string
	merge                     bool
}

func indexCommand(surroundings) *cobra.Command {
	var o indexOptions
	c := &cobra.Command{
		Use:   "index PACKAGE.apk...",
		Short: "Make the index of a repository from package files",
		Long: `Make the index of a repository from package files.

Where an index counts generations, as that of a published repository does, another
that takes its place is the next one: who has seen the old accepts it, and refuses
to go back.`,
		RunE: func(_ *cobra.Command, files []string) error { return makeIndex(o, files) },
	}
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "APKINDEX.tar.gz", "index to write")
	f.StringVarP(&o.source, "source", "s", "", "index to merge into; the output's when empty")
	f.StringVarP(&o.arch, "arch", "a", "", "leave out packages of other architectures")
	f.BoolVarP(&o.merge, "merge", "m", false, "keep what the index has, and add")
	f.StringVar(&o.key, "signing-key", "", "private key to sign with")
	return c
}

func makeIndex(o indexOptions, files []string) error {
	signer, err := optionalSigner(o.key)
	if err != nil {
		return err
	}
	index := &apk.Index{}
	if o.merge {
		if index, err = mergeBase(o); err != nil {
			return err
		}
	}
	packages, err := readPackages(files)
	if err != nil {
		return err
	}
	for _, p := range packages {
		if o.arch == "" || p.Arch == apk.Arch(o.arch) || p.Arch == "noarch" {
			index.Merge(p)
		}
	}
	index.Sort()
	if index.Generation, err = nextGeneration(o.output, index); err != nil {
		return err
	}
	return atomicfile.WriteSynced(o.output, 0o644, func(w io.Writer) error { return apk.WriteIndex(w, index, signer) })
}

func optionalSigner(key string) (apk.Signer, error) {
	if key == "" {
		return nil, nil
	}
	return apk.LoadSigner(key)
}

// mergeBase reads the index that is added to. It is the caller's own, and is
// about to be signed by the caller's key: its old signature does not matter.
func mergeBase(o indexOptions) (*apk.Index, error) {
	file := o.source
	if file == "" {
		file = o.output
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && o.source == "" {
		return &apk.Index{}, nil
	} else if err != nil {
		return nil, err
	}
	index, err := apk.ReadIndex(bytes.NewReader(data), apk.Verify{Insecure: true})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return index, nil
}

// nextGeneration returns the number of an index that is to take the place of what lies in a file. Where generations are
// counted, there or in what was merged, what is different is the next one: who has seen the old takes it, and takes the
// old no more. What can not be read counts nothing.
func nextGeneration(file string, index *apk.Index) (int, error) {
	before := &apk.Index{}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if x, err := apk.ReadIndex(bytes.NewReader(data), apk.Verify{Insecure: true}); err == nil {
		before = x
	}
	last := max(before.Generation, index.Generation)
	if last == 0 || last == before.Generation && before.Equal(index) {
		return last, nil
	}
	return last + 1, nil
}

// readPackages reads the metadata of package files, several at a time, and
// checks that their content is what the metadata says.
func readPackages(files []string) ([]*apk.Package, error) {
	packages := make([]*apk.Package, len(files))
	var g errgroup.Group
	g.SetLimit(4)
	for i, file := range files {
		g.Go(func() (err error) {
			if packages[i], err = readPackage(file); err != nil {
				return fmt.Errorf("reading %s: %w", file, err)
			}
			return nil
		})
	}
	return packages, g.Wait()
}

func readPackage(file string) (*apk.Package, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, err := apk.Open(f, apk.Verify{Insecure: true})
	if err != nil {
		return nil, err
	}
	for err == nil {
		_, _, err = r.Next()
	}
	if err != io.EOF {
		return nil, err
	}
	p := *r.Package
	p.Size = info.Size()
	return &p, nil
}

func signIndexCommand(surroundings) *cobra.Command {
	var key string
	var force bool
	c := &cobra.Command{
		Use:   "sign-index APKINDEX.tar.gz",
		Short: "Sign an index",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			signer, err := apk.LoadSigner(key)
			if err != nil {
				return err
			}
			if !force && isSigned(args[0]) {
				return fmt.Errorf("%s is signed; --force replaces the signature", args[0])
			}
			return rewrite(args[0], func(w io.Writer, r io.Reader) error {
				index, err := apk.ReadIndex(r, apk.Verify{Insecure: true})
				if err != nil {
					return fmt.Errorf("reading %s: %w", args[0], err)
				}
				return apk.WriteIndex(w, index, signer)
			})
		},
	}
	c.Flags().StringVar(&key, "signing-key", "melange.rsa", "private key to sign with")
	c.Flags().BoolVarP(&force, "force", "f", false, "replace a signature that is there")
	return c
}

// isSigned tells whether an index begins with a signature.
func isSigned(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return false
	}
	h, err := tar.NewReader(zr).Next()
	return err == nil && strings.HasPrefix(h.Name, ".SIGN.")
}
