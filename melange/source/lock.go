package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"distro.internal/melange/recipe"
	"distro.internal/shared/document"
)

// Lock files of package managers name files by digest: they are lists of sources. Each is read (package lockfile) where it
// lies in the workspace, once the recipe's other sources are in place. What it names is fetched into the store as any source is, by
// digest, and laid out in the form in which the ordinary client of the environment finds it without a network:
//
//	npm    its own cache, with packages by digest and what a registry would say of them
//	yarn   a folder of packages as a registry has them
//	pnpm   a folder of packages, as a registry of files
//	cargo  a folder of unpacked crates for each registry, and a configuration that puts it in the registry's place
//	pip    a folder of wheels and archives, to find links in
//
// The lock file is a part of the sources or lies beside the recipe, so it is in the key of what is built, and by it is
// all that it names. Where files are fetched from is the business of this machine: the client's own configuration here
// says what registry to ask, and no answer is believed that the lock file does not confirm.

// A Layout is where package managers find what was fetched for them.
type Layout struct {
	Caches  string            // on the host, what steps see as recipe.CacheDir, theirs to write to
	Folders map[string]string // others, which they only read: on the host, by their place inside
	Env     map[string]string // variables that say so, where they would look elsewhere

	Packages []Package // what was fetched, in order

	read   map[string]bool // lock files, by what reads them
	crates []string        // the sources of crates that were seen

	modules map[string]moduleFiles // of programs of Go, by folder, as steps will have changed them
}

func (l *Layout) set(name, value string) {
	if l.Env == nil {
		l.Env = map[string]string{}
	}
	l.Env[name] = value
}

func (l *Layout) show(inside, host string) {
	if l.Folders == nil {
		l.Folders = map[string]string{}
	}
	l.Folders[inside] = host
}

// A locked file is one that a lock file names.
type locked struct {
	what string // it is, for people
	pos  document.Pos
	want Want // the digest; the URI when the lock file has one
}

// locate finds the lock file of a source: in its folder, or, as the clients do, in the nearest above that has one. It is
// empty when there is none and nobody insisted, and when it was read before, for another step.
func (l *Layout) locate(src recipe.Source, workspace *os.Root, names ...string) (string, error) {
	if src.Lock != "" {
		names = []string{src.Lock}
	}
	for dir := src.Directory; ; dir = path.Dir(dir) {
		for _, name := range names {
			file := path.Join(dir, name)
			if info, err := workspace.Stat(file); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if key := src.Kind + " " + file; l.read[key] {
				return "", nil
			} else if l.read == nil {
				l.read = map[string]bool{key: true}
			} else {
				l.read[key] = true
			}
			return file, nil
		}
		if dir == "." || src.Lock != "" {
			break
		}
	}
	if src.Found {
		return "", nil
	}
	return "", fmt.Errorf("there is no %s in %s: put one beside the recipe's own files, or let the step have the network with options: [network]",
		strings.Join(names, " or "), path.Join(recipe.Workspace, src.Directory))
}

// placeLocked does for one source what its lock file asks for.
func (s *Store) placeLocked(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	switch src.Kind {
	case recipe.SourceGoMod:
		return s.placeGoMod(ctx, src, workspace, l)
	case recipe.SourceNPM:
		return s.placeNPM(ctx, src, workspace, l)
	case recipe.SourceYarn:
		return s.placeYarn(ctx, src, workspace, l)
	case recipe.SourcePNPM:
		return s.placePNPM(ctx, src, workspace, l)
	case recipe.SourceCargo:
		return s.placeCargo(ctx, src, workspace, l)
	}
	return s.placePip(ctx, src, workspace, l)
}

// placeAs has a file of the store at a name below the folder of caches, and returns its size. It is a copy, for steps may
// write to it.
func placeAs(l *Layout, name, file string) (size int64, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	to := filepath.Join(l.Caches, filepath.FromSlash(name))
	if exists(to) {
		return info.Size(), nil // another lock file names it too
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return 0, err
	}
	dir, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return info.Size(), copyInto(dir, filepath.Base(to), file)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// lockedFiles fetches what a lock file names, all at a time, and returns the paths in the store. registries says, for a
// file that is not in the store, where else it may be than where the lock file says; those places come first.
func (s *Store) lockedFiles(ctx context.Context, list []locked, registries func(context.Context, locked) ([]string, error)) ([]string, error) {
	names := make([]string, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * parallel) // many small files
	for i, f := range list {
		g.Go(func() error {
			var err error
			if names[i], err = s.lockedFile(ctx, f, registries); err != nil {
				return fmt.Errorf("%s: fetching %s: %w", f.pos, f.what, err)
			}
			return nil
		})
	}
	return names, g.Wait()
}

func (s *Store) lockedFile(ctx context.Context, f locked, registries func(context.Context, locked) ([]string, error)) (string, error) {
	if name, ok := s.lookup(f.want); ok {
		return name, nil
	}
	if s.Offline {
		return "", errOffline
	}
	var failures []error
	try := func(uri string) (string, bool) {
		want := f.want
		want.URI = uri
		name, err := s.fetch(ctx, want)
		if err != nil {
			failures = append(failures, err)
		}
		return name, err == nil
	}
	if len(s.Mirrors) > 0 {
		if name, ok := try(""); ok {
			return name, nil
		}
		failures = nil // that of the last place tells more
	}
	addresses, err := registries(ctx, f)
	if err != nil {
		return "", err
	}
	if f.want.URI != "" && !slices.Contains(addresses, f.want.URI) {
		addresses = append(addresses, f.want.URI)
	}
	for _, uri := range addresses {
		if name, ok := try(uri); ok {
			return name, nil
		}
		failures[len(failures)-1] = fmt.Errorf("%s: %w", redacted(uri), failures[len(failures)-1])
	}
	if len(failures) == 0 {
		return "", errNowhere
	}
	return "", errors.Join(failures...)
}

// errNowhere is the cause when a file that has a digest has no address.
var errNowhere = errors.New("nothing says where it is")

func redacted(uri string) string {
	if u, err := url.Parse(uri); err == nil {
		return u.Redacted()
	}
	return uri
}

// program runs a client of this machine to hear what it is configured for. It is not an error that there is no such
// program: then the answer is empty.
func (s *Store) program(ctx context.Context, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", nil
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = os.TempDir() // not where a source's own configuration is
	cmd.Env = s.Environ
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(stderr.String(), 3))
	}
	return strings.TrimSpace(string(out)), nil
}

// variable is one of the environment that clients read.
func (s *Store) variable(name string) string {
	if s.Environ == nil {
		return os.Getenv(name)
	}
	value := ""
	for _, v := range s.Environ {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// readLock reads a lock file of the workspace. Positions in it are as from there.
func readLock(workspace *os.Root, file string) ([]byte, error) {
	data, err := fs.ReadFile(workspace.FS(), file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return data, nil
}
