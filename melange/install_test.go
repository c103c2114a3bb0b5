package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// install KEY REPOSITORY ARCH PACKAGE... chooses packages and what they need
// from a signed repository, verifies each to its end, and writes the package
// and its files to stdout, which the story then looks at.
func install(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 4 {
		ts.Fatalf("usage: install KEY REPOSITORY ARCH PACKAGE...")
	}
	err := installTo(ts.Stdout(), ts.MkAbs(args[0]), ts.MkAbs(args[1]), ts.MkAbs("cache/install"), apk.Arch(args[2]), args[3:])
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	if (err != nil) != neg {
		ts.Fatalf("installing: %v", err)
	}
}

func installTo(w io.Writer, key, dir, cache string, arch apk.Arch, names []string) error {
	keyring, err := apk.LoadKeyring(key)
	if err != nil {
		return err
	}
	source := repository.Source{URL: dir, Keyring: keyring}
	client := &repository.Client{Cache: cache}
	index, err := client.Index(context.Background(), source, arch)
	if err != nil {
		return err
	}
	request := solve.Request{Arch: arch, Repositories: []solve.Repository{{Name: dir, Index: index}}}
	for _, name := range names {
		d, err := apk.ParseDependency(name)
		if err != nil {
			return err
		}
		request.World = append(request.World, d)
	}
	solution, err := solve.Solve(request)
	if err != nil {
		return err
	}
	for _, p := range solution.Packages {
		file, err := client.Fetch(context.Background(), source, p.Package)
		if err != nil {
			return err
		}
		if err := list(w, file, keyring, p.Package); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

// list writes what a package consists of, having verified it by its own
// signature as well as by the index.
func list(w io.Writer, file string, keyring apk.Keyring, p *apk.Package) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := apk.Open(f, apk.Verify{Keyring: keyring, Checksum: &p.Checksum})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s-%s %s\n", r.Package.Name, r.Package.Version, r.Package.Arch)
	for {
		e, _, err := r.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %v %s\n", e.Mode, e.Path)
	}
}
