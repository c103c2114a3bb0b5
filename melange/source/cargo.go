package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"

	"distro.internal/melange/lockfile"
	"distro.internal/melange/recipe"
)

// Cargo is told, by a configuration above the workspace, to take a folder in the place of each registry and of each git
// repository that the Cargo.lock names: what "cargo vendor" would make. A crate of a registry is its .crate file,
// unpacked. Crates of git lie in one folder for each repository, beside the manifest of its workspace, which is where
// cargo looks for what they inherit.
//
// Where a crate is fetched from: cargo's configuration on this machine may replace the registry, or say more of it; a
// registry whose index is sparse tells in its config.json. The one registry that cargo knows without being told is known
// to cargo alone, so where nothing else is configured the cargo of this machine fetches, and what it has fetched is taken
// into the store by digest.

// cargoFolder is where crates are, in the folder of caches; cargoConfig where cargo finds that they are there: it reads
// the configurations of all folders above the one that it runs in.
const (
	cargoFolder = "cargo"
	cargoConfig = "/home/.cargo"
)

// defaultIndex is how a Cargo.lock names the registry that cargo's configuration calls crates-io.
const defaultIndex = "registry+https://github.com/rust-lang/crates.io-index"

func (s *Store) placeCargo(ctx context.Context, src recipe.Source, workspace *os.Root, l *Layout) error {
	file, err := l.locate(src, workspace, "Cargo.lock")
	if err != nil || file == "" {
		return err
	}
	data, err := readLock(workspace, file)
	if err != nil {
		return err
	}
	packages, err := lockfile.Cargo(file, data)
	if err != nil {
		return err
	}
	var crates []lockfile.Crate
	repositories := map[string][]lockfile.Crate{}
	for _, p := range packages {
		l.fetched(cratePackage(p))
		if strings.HasPrefix(p.Source, "git+") {
			repositories[p.Source] = append(repositories[p.Source], p)
		} else {
			crates = append(crates, p)
		}
	}
	manifest := filepath.Join(workspace.Name(), path.Dir(file), "Cargo.toml")
	names, err := s.crateFiles(ctx, crates, manifest)
	if err != nil {
		return err
	}
	v := &vendor{ctx: ctx, store: s, dir: filepath.Join(l.Caches, cargoFolder), dry: l.Caches == "", sources: l.crates}
	for i, p := range crates {
		if err := v.crate(p, names[i]); err != nil {
			return fmt.Errorf("%s: unpacking %s %s: %w", p.Pos, p.Name, p.Version, err)
		}
	}
	for _, source := range slices.Sorted(maps.Keys(repositories)) {
		if err := v.repository(source, repositories[source]); err != nil {
			return fmt.Errorf("%s: %w", repositories[source][0].Pos, err)
		}
	}
	if v.dry {
		return nil
	}
	l.crates = v.sources
	l.show(cargoConfig, filepath.Join(v.dir, "config"))
	return v.configure()
}

// crateFiles fetches crates, and returns the paths in the store.
func (s *Store) crateFiles(ctx context.Context, crates []lockfile.Crate, manifest string) ([]string, error) {
	files := make([]locked, len(crates))
	byWhat := map[string]lockfile.Crate{}
	for i, p := range crates {
		files[i] = locked{what: p.Name + " " + p.Version, pos: p.Pos, want: Want{SHA256: p.Checksum}}
		byWhat[files[i].what] = p
	}
	r := &cargoRegistries{store: s, manifest: manifest, templates: map[string]func() (string, error){}}
	defer r.close()
	return s.lockedFiles(ctx, files, func(ctx context.Context, f locked) ([]string, error) {
		return r.addresses(ctx, byWhat[f.what])
	})
}

// cargoRegistries knows where the registries of a Cargo.lock have their crates.
type cargoRegistries struct {
	store    *Store
	manifest string

	once      sync.Once
	config    cargoSettings
	err       error
	mu        sync.Mutex
	templates map[string]func() (string, error) // by registry
	fetched   string                            // the folder that cargo has fetched into; empty when it was not asked
}

// cargoSettings is what cargo's configuration on this machine says of registries.
type cargoSettings struct {
	Source map[string]struct {
		Registry    string
		ReplaceWith string `toml:"replace-with"`
	}
	Registries map[string]struct{ Index string }
}

func (r *cargoRegistries) addresses(ctx context.Context, p lockfile.Crate) ([]string, error) {
	if r.once.Do(r.readConfig); r.err != nil {
		return nil, r.err
	}
	index := r.config.replaced(p.Source)
	if !strings.HasPrefix(index, "sparse+") {
		return r.byCargo(ctx, p)
	}
	r.mu.Lock()
	ask, ok := r.templates[index]
	if !ok {
		ask = sync.OnceValues(func() (string, error) { return r.store.crateTemplate(ctx, strings.TrimPrefix(index, "sparse+")) })
		r.templates[index] = ask
	}
	r.mu.Unlock()
	template, err := ask()
	if err != nil {
		return nil, err
	}
	return []string{crateAddress(template, p)}, nil
}

// home is the folder of cargo's own files on this machine.
func (s *Store) cargoHome() string {
	if dir := s.variable("CARGO_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(s.variable("HOME"), ".cargo")
}

func (r *cargoRegistries) readConfig() {
	for _, name := range []string{"config.toml", "config"} {
		file := filepath.Join(r.store.cargoHome(), name)
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = toml.Unmarshal(data, &r.config)
		}
		if err != nil {
			r.err = fmt.Errorf("reading cargo's configuration %s: %w", file, err)
		}
		return
	}
}

// replaced is the registry to ask for what a Cargo.lock has of a source.
func (c cargoSettings) replaced(source string) string {
	name := ""
	if source == defaultIndex {
		name = "crates-io"
	}
	for n, s := range c.Source {
		if name == "" && s.Registry != "" && (s.Registry == source || "registry+"+s.Registry == source) {
			name = n
		}
	}
	for range len(c.Source) + 1 {
		s, known := c.Source[name]
		switch {
		case known && s.ReplaceWith != "":
			name = s.ReplaceWith
		case known && s.Registry != "":
			return s.Registry
		case c.Registries[name].Index != "":
			return c.Registries[name].Index
		default:
			return source
		}
	}
	return source
}

// crateTemplate asks a sparse index where its crates are.
func (s *Store) crateTemplate(ctx context.Context, index string) (string, error) {
	data, _, err := s.ask(ctx, strings.TrimSuffix(index, "/")+"/config.json", "application/json")
	if err != nil {
		return "", fmt.Errorf("asking registry %s: %w", redacted(index), err)
	}
	var config struct{ DL string }
	if err := json.Unmarshal(data, &config); err != nil {
		return "", fmt.Errorf("asking registry %s: %w", redacted(index), err)
	}
	return config.DL, nil
}

// crateAddress fills in a registry's template.
func crateAddress(template string, p lockfile.Crate) string {
	lower := strings.ToLower(p.Name)
	address := strings.NewReplacer("{crate}", p.Name, "{version}", p.Version, "{sha256-checksum}", p.Checksum,
		"{prefix}", cratePrefix(p.Name), "{lowerprefix}", cratePrefix(lower)).Replace(template)
	if address == template {
		address = strings.TrimSuffix(template, "/") + "/" + p.Name + "/" + p.Version + "/download"
	}
	return address
}

// cratePrefix is the folder of a crate in an index.
func cratePrefix(name string) string {
	switch n := len(name); {
	case n <= 2:
		return strconv.Itoa(n)
	case n == 3:
		return "3/" + name[:1]
	}
	return name[:2] + "/" + name[2:4]
}

// byCargo has the cargo of this machine fetch what the program needs, and says where it has put a crate. It runs in a
// folder of its own, so that no configuration that came with the program is in force.
func (r *cargoRegistries) byCargo(ctx context.Context, p lockfile.Crate) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetched == "" {
		if _, err := exec.LookPath("cargo"); err != nil {
			return nil, fmt.Errorf("the index of its registry is not sparse, and there is no cargo here to ask: install cargo, or name a sparse one in %s",
				filepath.Join(r.store.cargoHome(), "config.toml"))
		}
		var err error
		if r.fetched, err = os.MkdirTemp("", "cargo-"); err != nil {
			return nil, err
		}
		if err := r.store.cargoFetch(ctx, r.fetched, r.manifest); err != nil {
			return nil, err
		}
	}
	found, err := filepath.Glob(filepath.Join(r.fetched, "registry", "cache", "*", p.Name+"-"+p.Version+".crate"))
	if err != nil {
		return nil, err
	}
	for i, name := range found {
		found[i] = (&url.URL{Scheme: "file", Path: name}).String()
	}
	return found, nil
}

// close removes what cargo has fetched: the store has what is wanted of it.
func (r *cargoRegistries) close() {
	if r.fetched != "" {
		os.RemoveAll(r.fetched)
	}
}

// cargoFetch has cargo fetch into a folder. What the person configured is in force although cargo's files go there.
func (s *Store) cargoFetch(ctx context.Context, home, manifest string) error {
	for _, name := range []string{"config.toml", "config", "credentials.toml"} {
		if own := filepath.Join(s.cargoHome(), name); exists(own) {
			if err := os.Symlink(own, filepath.Join(home, name)); err != nil {
				return err
			}
		}
	}
	cmd := exec.CommandContext(ctx, "cargo", "fetch", "--locked", "--quiet", "--manifest-path", manifest)
	cmd.Dir = home
	cmd.Env = s.Environ
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "CARGO_HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cargo fetch: %w: %s", err, lastLines(string(out), 5))
	}
	return nil
}

// ask gets a small answer from a server.
func (s *Store) ask(ctx context.Context, uri, accept string) (data []byte, kind string, err error) {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", accept)
	client := s.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", &finalError{resp.Status}
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return data, resp.Header.Get("Content-Type"), err
}

// maxAnswer bounds what a server can make us keep in memory.
const maxAnswer = 64 << 20

// vendor is the folder of crates on its way.
type vendor struct {
	ctx     context.Context
	store   *Store
	dir     string
	dry     bool     // only fetch
	sources []string // those that have a folder
}

// folder is where the crates of a source are.
func (v *vendor) folder(source string) string {
	i := slices.Index(v.sources, source)
	if i < 0 {
		i = len(v.sources)
		v.sources = append(v.sources, source)
	}
	return filepath.Join(v.dir, strconv.Itoa(i))
}

// crate unpacks a crate of a registry.
func (v *vendor) crate(p lockfile.Crate, file string) error {
	if v.dry {
		return nil
	}
	dir := filepath.Join(v.folder(p.Source), p.Name+"-"+p.Version)
	if exists(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := unpack(v.ctx, file, root, 1); err != nil {
		return err
	}
	return writeChecksum(dir, p.Checksum)
}

// writeChecksum says that a crate is what its checksum says, and nothing of its files: those are the store's to verify.
func writeChecksum(dir, checksum string) error {
	text := map[string]any{"files": map[string]string{}}
	if checksum != "" {
		text["package"] = checksum
	}
	data, err := json.Marshal(text)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ".cargo-checksum.json"), data, 0o644)
}

// repository puts the crates that are wanted from a git commit into a folder of their own.
func (v *vendor) repository(source string, wanted []lockfile.Crate) error {
	address, commit, _ := strings.Cut(strings.TrimPrefix(source, "git+"), "#")
	address, query, _ := strings.Cut(address, "?")
	src := recipe.Source{Kind: recipe.SourceGit, URI: address, Commit: commit, Submodules: true, Depth: 1}
	if q, err := url.ParseQuery(query); err == nil {
		src.Branch, src.Tag = q.Get("branch"), q.Get("tag")
	}
	if v.dry {
		_, err := v.store.commit(v.ctx, src)
		return err
	}
	dir := v.folder(source)
	tree := dir + ".tree"
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := v.store.placeFiles(v.ctx, src, root); err != nil {
		return err
	}
	return takeCrates(root.FS(), dir, address, wanted)
}

// takeCrates copies crates out of the tree of a repository, and the manifest of the workspace that they are in.
func takeCrates(tree fs.FS, dir, address string, wanted []lockfile.Crate) error {
	manifests, err := findManifests(tree)
	if err != nil {
		return err
	}
	for _, p := range wanted {
		at, ok := manifests[p.Name]
		if !ok {
			return fmt.Errorf("repository %s has no crate %s", address, p.Name)
		}
		sub, err := fs.Sub(tree, at)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, p.Name+"-"+p.Version)
		if exists(to) {
			continue // another lock file names it too
		}
		if err := os.CopyFS(to, sub); err != nil {
			return fmt.Errorf("taking crate %s out of %s: %w", p.Name, address, err)
		}
		if err := writeChecksum(to, ""); err != nil {
			return err
		}
		if err := copyWorkspaceManifest(tree, at, dir); err != nil {
			return err
		}
	}
	return nil
}

// findManifests finds the folders of all crates of a tree, by name.
func findManifests(tree fs.FS) (map[string]string, error) {
	found := map[string]string{}
	return found, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Base(name) != "Cargo.toml" {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		var manifest struct{ Package struct{ Name string } }
		if toml.Unmarshal(data, &manifest) != nil || manifest.Package.Name == "" {
			return nil // not one of those that are wanted, or cargo says what is wrong with it
		}
		if _, ok := found[manifest.Package.Name]; !ok {
			found[manifest.Package.Name] = path.Dir(name)
		}
		return nil
	})
}

// copyWorkspaceManifest copies the manifest of the workspace around a crate, from which it may inherit.
func copyWorkspaceManifest(tree fs.FS, crate, dir string) error {
	for at := crate; at != "."; {
		at = path.Dir(at)
		data, err := fs.ReadFile(tree, path.Join(at, "Cargo.toml"))
		if err == nil && bytes.Contains(data, []byte("[workspace")) {
			return os.WriteFile(filepath.Join(dir, "Cargo.toml"), data, 0o644)
		}
	}
	return nil
}

// configure tells cargo where everything is.
func (v *vendor) configure() error {
	dir := filepath.Join(v.dir, "config")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("[net]\noffline = true\n")
	for i, source := range v.sources {
		fmt.Fprintf(&b, "\n%sreplace-with = \"fetched-%d\"\n", replacedSource(source), i)
		fmt.Fprintf(&b, "\n[source.fetched-%d]\ndirectory = \"%s/%s/%d\"\n", i, recipe.CacheDir, cargoFolder, i)
	}
	return os.WriteFile(filepath.Join(dir, "config.toml"), []byte(b.String()), 0o644)
}

// replacedSource is a table of cargo's configuration that describes a source as Cargo.lock names it.
func replacedSource(source string) string {
	if source == defaultIndex {
		return "[source.crates-io]\n"
	}
	kind, address, _ := strings.Cut(source, "+")
	if kind == "sparse" {
		address = source
	}
	if kind != "git" {
		return fmt.Sprintf("[source.%q]\nregistry = %q\n", source, address)
	}
	address, _, _ = strings.Cut(address, "#")
	repository, query, _ := strings.Cut(address, "?")
	table := fmt.Sprintf("[source.%q]\ngit = %q\n", source, repository)
	values, _ := url.ParseQuery(query)
	for _, name := range []string{"branch", "rev", "tag"} {
		if value := values.Get(name); value != "" {
			table += fmt.Sprintf("%s = %q\n", name, value)
		}
	}
	return table
}
