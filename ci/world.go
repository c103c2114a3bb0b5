package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chainguard-dev/clog"
	"golang.org/x/sys/unix"

	"distro.internal/ci/graph"
	"distro.internal/ci/run"
	"distro.internal/melange/build"
	"distro.internal/melange/lint"
	"distro.internal/melange/plugin"
	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/catalog"
	"distro.internal/shared/document"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
	"distro.internal/shared/solve"
)

// A world is an opened workspace: its graph, and everything that nodes are made with.
type world struct {
	dir     string
	config  graph.Config
	memory  *graph.Memory
	graph   *graph.Graph
	cache   string
	builder *build.Builder
	client  *repository.Client
	journal *run.Journal
	seal    build.Seal
	keyring apk.Keyring
	keyName string // of the public key

	releases repository.Releases // what is published
	seen     int                 // the newest generation that people have of another repository than ours

	mu       sync.Mutex
	made     map[string]*build.Result     // by node
	external map[string]*external         // by repositories, keys and architecture
	states   map[string]string            // of those repositories, likewise, see offered
	sums     map[string][sha256.Size]byte // by node, see sum

	identity     string // of the program, and of what it was told
	recollection *recollection
	stampOnce    sync.Once
	storeStamp   string
}

// An external is the packages of other repositories, compiled once.
type external struct {
	once     sync.Once
	universe *solve.Universe
	sources  []repository.Source
	err      error
}

// openWorld reads the workspace. Nothing is written yet.
func openWorld(s surroundings, o *workspaceFlags) (*world, error) {
	dir, err := o.workspace()
	if err != nil {
		return nil, err
	}
	config, err := graph.ReadConfig(filepath.Join(dir, o.file))
	if err != nil {
		return nil, err
	}
	if o.published != "" {
		if config.Published = o.published; !strings.Contains(o.published, "://") {
			if config.Published, err = filepath.Abs(o.published); err != nil {
				return nil, err
			}
		}
	}
	if o.cache == "" {
		return nil, errors.New("no cache folder: set HOME or XDG_CACHE_HOME, or give --cache-dir")
	}
	cache, err := filepath.Abs(o.cache) // a sandbox takes no other names
	if err != nil {
		return nil, err
	}
	w := &world{
		dir: dir, config: config, cache: cache, keyName: filepath.Base(o.key) + ".pub",
		client: &repository.Client{Cache: filepath.Join(cache, "apk"), Access: s.access, AllowOlder: o.allowOlder},
		made:   map[string]*build.Result{}, external: map[string]*external{}, states: map[string]string{}, sums: map[string][sha256.Size]byte{},
	}
	program, err := programIdentity()
	if err != nil {
		return nil, err
	}
	w.identity = fmt.Sprintf("%s %q %q %v %q", program, o.file, o.key, o.allowOlder, s.epoch)
	w.memory = graph.OpenMemory(dir, config, w.memoryFile("recipes"), program)
	w.builder = &build.Builder{
		Store:   cas.Layered{Store: cas.Store{Dir: filepath.Join(cache, "cas")}},
		Roots:   rootfs.Store{Dir: filepath.Join(cache, "store")},
		Modules: &plugin.Store{Dir: filepath.Join(cache, "modules")},
		WorkDir: filepath.Join(cache, "work"),
	}
	w.builder.Lint, w.builder.Distribution.Name = lint.Policy(config.Lint), config.Name
	if err := w.builder.Lint.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.file, err)
	}
	if s.epoch != "" {
		if w.builder.Epoch, err = strconv.ParseInt(s.epoch, 10, 64); err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
	}
	if w.builder.Sources, err = w.sources(); err != nil {
		return nil, err
	}
	w.builder.Emulator = w.emulator
	if w.builder.Limits, err = stepLimits(config.Limits); err != nil {
		return nil, fmt.Errorf("%s: %w", o.file, err)
	}
	return w, nil
}

// workspace is the folder that is named; or, as for git, the nearest one from here upwards that is a workspace.
func (o *workspaceFlags) workspace() (string, error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil || o.dir != "" {
		return dir, err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, o.file)); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no workspace is here: %s is neither in %s nor in a folder above it (-C names the workspace)", o.file, dir)
		}
	}
}

// stepLimits are the builder's own, but for what the workspace says.
func stepLimits(c graph.Limits) (sandbox.Limits, error) {
	l := build.DefaultLimits()
	var err error
	if c.Memory != "" {
		if l.Memory, err = recipe.ParseSize(c.Memory); err != nil {
			return l, fmt.Errorf("limits.memory: %w", err)
		}
	}
	if c.Processes != 0 {
		l.Pids = c.Processes
	}
	if c.Timeout != "" {
		if l.Wall, err = time.ParseDuration(c.Timeout); err != nil {
			return l, fmt.Errorf("limits.timeout: %w", err)
		}
	}
	if c.Silence != "" {
		if l.Silence, err = time.ParseDuration(c.Silence); err != nil {
			return l, fmt.Errorf("limits.silence: %w", err)
		}
	}
	return l, nil
}

// load reads recipes and images. It comes after the key is there: a recipe may
// package the public key.
func (w *world) load(ctx context.Context) (err error) {
	w.stamp() // before anything is looked for in the store
	w.recollection = openRecollection(w.memoryFile("made"), w.identity)
	w.memory.Check()
	w.graph, err = w.memory.Load()
	if err != nil {
		return err
	}
	if err := w.memory.Save(); err != nil {
		clog.WarnContext(ctx, err.Error()) // the next one reads them again
	}
	return nil
}

// memoryFile is where something is remembered of this workspace.
func (w *world) memoryFile(what string) string {
	return filepath.Join(w.cache, "plans", cas.DigestOf([]byte(w.dir)).Hash[:32], what)
}

// programIdentity names this very program: what another one has remembered may mean something else. Results are kept
// under versions of formats, which a change that matters must raise; but what is remembered of plans is a function of all
// that reads recipes and solves environments, where every mended mistake may matter, and it is cheap to find out again.
// The name is what the program is made of, as Go's linker notes it, so that one that is built again, copied or
// installed is the same; without that note it is the file.
func programIdentity() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	if id := buildID(name); id != "" {
		return id, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()), nil
}

// buildID is the note that Go's linker leaves in a program: digests of all it was made of, and of its bytes. It is empty
// when there is none, or when somebody has put another text there.
func buildID(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	section := f.Section(".note.go.buildid")
	if section == nil {
		return ""
	}
	note, err := section.Data()
	const head = 16 // lengths of name and text, the type, the name
	if err != nil || len(note) < head || string(note[12:head]) != "Go\x00\x00" {
		return ""
	}
	id := string(bytes.TrimRight(note[head:], "\x00"))
	if strings.Count(id, "/") != 3 {
		return ""
	}
	return id
}

// out is a path below the folder of what is made.
func (w *world) out(elem ...string) string {
	return filepath.Join(append([]string{w.dir, w.config.Output}, elem...)...)
}

// find turns words of the command line into nodes; none means all.
func (w *world) find(words []string) ([]*graph.Node, error) {
	if len(words) == 0 {
		return w.graph.Nodes(), nil
	}
	var nodes []*graph.Node
	for _, word := range words {
		found := w.graph.Find(word)
		if file, ok := w.fileName(word); ok && len(found) == 0 {
			found = w.graph.Find(file)
		}
		if len(found) == 0 {
			return nil, unknownWord(word, w.graph.Words())
		}
		nodes = append(nodes, found...)
	}
	return nodes, nil
}

// fileName is what the workspace calls a file that is named from the folder that the user is in.
func (w *world) fileName(word string) (string, bool) {
	abs, err := filepath.Abs(word)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(w.dir, abs)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// job decides the environment of a packages node, whose ancestors are all made, for packages of an epoch.
func (w *world) job(ctx context.Context, n *graph.Node, epoch uint64) (build.Job, error) {
	plan, err := n.Plan(epoch)
	if err != nil {
		return build.Job{}, err
	}
	job := build.Job{Plan: plan, Local: w.localFiles(n)}
	rootOffer, err := w.offer(ctx, n, plan.Environment, n.RootArch())
	if err != nil {
		return job, err
	}
	targetOffer := rootOffer
	if n.Cross {
		if targetOffer, err = w.offer(ctx, n, plan.Environment, n.Arch); err != nil {
			return job, err
		}
	}
	job.Environment, err = build.Resolve(plan, rootOffer, targetOffer)
	return job, w.suggest(err)
}

// suggest adds to a conflict what of the workspace may be meant by a name that nobody has: a recipe is not offered what
// others make, unless it names them.
func (w *world) suggest(err error) error {
	var conflict *solve.Conflict
	if !errors.As(err, &conflict) {
		return err
	}
	made := w.graph.Packages()
	for _, p := range conflict.Problems {
		if hint := document.DidYouMean(p.Name, made); hint != "" && !slices.Contains(made, p.Name) {
			return fmt.Errorf("%w\n    here is made: %s", err, hint)
		}
	}
	return err
}

// localFiles is the folder of a recipe's own files; nil when it has none.
func (w *world) localFiles(n *graph.Node) fs.FS {
	if len(n.LocalFiles) == 0 {
		return nil
	}
	return os.DirFS(n.OwnFolder(w.dir))
}

// offer is what a node can have installed: the packages of its ancestors, and
// of the repositories that its environment names those that no ancestor makes.
func (w *world) offer(ctx context.Context, n *graph.Node, e recipe.Environment, arch apk.Arch) (build.Offer, error) {
	ext, err := w.externalPackages(ctx, e, arch)
	if err != nil {
		return build.Offer{}, fmt.Errorf("%s: %w", n.File, err)
	}
	base := build.Offer{Universe: ext.universe, Install: func(c solve.Chosen) build.Installed {
		return build.Fetched(w.client, ext.sources[c.Repository], c.Package)
	}}
	made, err := w.madeFor(n, arch)
	return w.builder.Above(base, made, w.seal), err
}

// madeFor are the packages of a node's ancestors.
func (w *world) madeFor(n *graph.Node, arch apk.Arch) ([]build.Package, error) {
	var made []build.Package
	for _, a := range w.graph.Ancestors(n) {
		if a != n && a.Kind == graph.Packages && a.Arch == arch {
			packages, err := w.packagesOf(a)
			if err != nil {
				return nil, err
			}
			made = append(made, packages...)
		}
	}
	return made, nil
}

// externalPackages reads the indexes of the repositories that an environment names.
func (w *world) externalPackages(ctx context.Context, e recipe.Environment, arch apk.Arch) (*external, error) {
	name := externalName(e.Repositories, e.Keyring, arch)
	w.mu.Lock()
	x := w.external[name]
	if x == nil {
		x = &external{}
		w.external[name] = x
	}
	w.mu.Unlock()
	x.once.Do(func() {
		x.err = w.readExternal(ctx, x, slices.Concat(e.Repositories, w.config.Repositories), slices.Concat(e.Keyring, w.config.Keyring), arch)
		w.mu.Lock()
		delete(w.states, name) // a generation may have been seen that was not before
		w.mu.Unlock()
	})
	return x, x.err
}

func (w *world) readExternal(ctx context.Context, x *external, urls, keys []string, arch apk.Arch) error {
	keyring, err := w.client.Keyring(ctx, w.paths(keys)...)
	if err != nil {
		return err
	}
	sources := make([]catalog.Source, len(urls))
	for i, url := range urls {
		tag, address := splitTag(url)
		sources[i] = catalog.Source{
			Source: repository.Source{URL: w.path(address), Keyring: keyring, Tag: tag}, Name: address,
			Optional: arch != apk.Arch(w.config.BuildArch), // a repository of tools has one architecture
		}
		x.sources = append(x.sources, sources[i].Source)
	}
	x.universe, err = catalog.Open(ctx, w.client, arch, sources...)
	return err
}

// splitTag takes "@edge https://..." apart.
func splitTag(url string) (tag, address string) {
	if rest, ok := strings.CutPrefix(url, "@"); ok {
		tag, address, _ = strings.Cut(rest, " ")
		return tag, strings.TrimSpace(address)
	}
	return "", url
}

// path is a file or folder of the workspace, unless it is a URL.
func (w *world) path(name string) string {
	if strings.Contains(name, "://") || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(w.dir, name)
}

func (w *world) paths(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = w.path(name)
	}
	return all
}
