package graph

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/ci/inputs"
	"distro.internal/ci/policy"
	"distro.internal/melange/recipe"
	"distro.internal/pipelines"
	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// A Config says what a workspace consists of. Its paths are relative to the
// workspace's folder.
type Config struct {
	Packages  string   // the folder of recipes
	Images    string   // the folder of image files
	Pipelines []string // folders of pipelines, before the built-in ones
	Archs     []string
	BuildArch string `yaml:"build-arch"` // of the machine that builds; empty: this one's

	// Repositories are in every environment after those that the recipe names, and Keyring has the public keys that
	// they are signed with: folders, files or URLs. Recipes of today's distributions name none.
	Repositories []string
	Keyring      []string

	Seeds  []string // recipes at which cycles are opened: who is in one with them takes their older builds
	Output string   // what is made goes here

	// Published is the repository that people have, a folder or URL, where it is not the one in Output: releases and
	// generations are counted from both.
	Published string

	Name    string   // of the distribution, in the package URLs of bills of materials: ID of its os-release
	Stage0  string   // the folder that pins the first tools; empty: recipes name other repositories
	Mirrors []string // folders or URLs that hold sources by digest: sha256/HEX, sha512/HEX
	Keys    string   // the folder that the public signing key is put into, to be packaged; may be empty
	Limits  Limits
	Lint    Lint
	Network NetworkPolicy
	Check   policy.Config // of changes
}

// NetworkPolicy is which steps may talk to the network: "asked", those that ask for it; "never", to ask is a mistake; or
// "always". Recipes are named by patterns of path.Match, of which the first that matches counts; Default is for the others.
type NetworkPolicy struct {
	Default document.String
	Recipes document.Map[document.String]
}

// Of is what holds for a recipe.
func (n NetworkPolicy) Of(name string) recipe.Network {
	for _, r := range n.Recipes {
		if ok, _ := path.Match(r.Key.Value, name); ok {
			policy, _ := recipe.ParseNetwork(r.Value.Value)
			return policy
		}
	}
	policy, _ := recipe.ParseNetwork(n.Default.Value)
	return policy
}

// text tells policies apart, wherever they are written.
func (n NetworkPolicy) text() string {
	text := fmt.Sprintf("%q", n.Default.Value)
	for _, r := range n.Recipes {
		text += fmt.Sprintf(" %q %q", r.Key.Value, r.Value.Value)
	}
	return text
}

func (n NetworkPolicy) check() error {
	var errs document.ErrorList
	for _, r := range n.Recipes {
		if _, err := path.Match(r.Key.Value, ""); err != nil {
			errs.Add(r.Key.Pos, "", "%q is no pattern of recipes' names", r.Key.Value)
		}
		checkNetwork(r.Value, &errs)
	}
	if n.Default.Value != "" {
		checkNetwork(n.Default, &errs)
	}
	return errs.Err()
}

func checkNetwork(s document.String, errs *document.ErrorList) {
	if _, ok := recipe.ParseNetwork(s.Value); !ok {
		errs.Add(s.Pos, document.DidYouMean(s.Value, recipe.Networks), "network: want %s, found %q", strings.Join(recipe.Networks, ", "), s.Value)
	}
}

// Lint says what packages are looked at for, by the names of linters. A list
// that is given replaces the usual one of its severity.
type Lint struct{ Require, Warn []string }

// Limits bound the steps of recipes that say nothing else. What is empty is as
// the builder has it.
type Limits struct {
	Memory    string // like 4Gi
	Processes int    // and threads
	Timeout   string // of a step, like 90m
	Silence   string // how long a step may print nothing
}

// ReadConfig reads the file that describes a workspace.
func ReadConfig(file string) (Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Config{}, err
	}
	doc, err := document.Parse(file, data)
	if err != nil {
		return Config{}, err
	}
	c := Config{Packages: "packages", Images: "images", Output: "out"}
	if err := doc.Decode(&c); err != nil {
		return Config{}, err
	}
	if len(c.Archs) == 0 {
		c.Archs = []string{string(apk.HostArch())}
	}
	c.BuildArch = cmp.Or(c.BuildArch, string(apk.HostArch()))
	return c, errors.Join(c.Network.check(), c.Check.Verify())
}

// settings are what is said for all recipes: how packages are looked at, what they are of, where tools come from.
func (c Config) settings(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q\n", c.Lint.Require, c.Lint.Warn, c.Name, c.Repositories, c.Keyring)
	if c.Stage0 != "" {
		lock, err := os.ReadFile(filepath.Join(dir, c.Stage0, "lock"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		h.Write(lock)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Load reads all recipes and image files of the workspace in dir, and connects them.
func Load(dir string, c Config) (*Graph, error) { return NewMemory(dir, c).Load() }

// Read reads all recipes and image files of the workspace in dir.
func Read(dir string, c Config) ([]*Node, error) { return NewMemory(dir, c).Read() }

// A loader reads files of a workspace, on a trail for each.
type loader struct {
	dir     string
	config  Config
	library *recipe.Library
}

// newLoader has a library that reads on the given trail. The files of pipelines that a recipe asks for are met on the
// recipe's own trail as well.
func newLoader(dir string, c Config, trail *inputs.Trail) *loader {
	l := &loader{dir: dir, config: c}
	var folders []fs.FS
	for _, p := range c.Pipelines {
		folders = append(folders, trail.FS(p))
	}
	l.library = recipe.NewLibrary(append(folders, pipelines.Files)...)
	return l
}

// yamlFiles lists the recipe or image files of a folder, sorted; names that
// begin with a dot are somebody else's.
func yamlFiles(trail *inputs.Trail, dir string) ([]string, error) {
	entries, err := trail.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), ".yaml") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// recipe plans a recipe for all architectures, and keeps the outlines.
func (l *loader) recipe(trail *inputs.Trail, file string) ([]*Node, error) {
	data, err := trail.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := recipe.Parse(file, data, recipe.ParseOptions{})
	if err != nil {
		return nil, err
	}
	var nodes []*Node
	for _, arch := range l.config.Archs {
		plan, err := l.plan(trail, r, apk.Arch(arch), 0)
		if errors.Is(err, recipe.ErrArchitecture) {
			continue
		} else if err != nil {
			return nil, err
		}
		n := &Node{ID: arch + "/" + plan.Name, Kind: Packages, Name: plan.Name, File: file, Arch: plan.Arch}
		if n.Outline, err = outline(plan, file); err != nil {
			return nil, err
		}
		for _, name := range plan.LocalFiles {
			digest, err := trail.Digest(filepath.Join(filepath.Dir(file), plan.LocalDir, name))
			if err != nil {
				return nil, err
			}
			n.LocalFiles = append(n.LocalFiles, LocalFile{name, digest})
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (l *loader) plan(trail *inputs.Trail, r *recipe.Recipe, arch apk.Arch, epoch uint64) (*recipe.Plan, error) {
	var errs error
	plan, err := r.Plan(recipe.PlanOptions{
		Arch: arch, BuildArch: apk.Arch(l.config.BuildArch), Dir: trail.FS(filepath.Dir(r.File)),
		Network: l.config.Network.Of(r.Package.Name.Value), Epoch: epoch,
		Library: l.library.Noting(func(file string) {
			for _, folder := range l.config.Pipelines {
				errs = errors.Join(errs, trail.Met(filepath.Join(folder, file)))
			}
		}),
	})
	if err != nil {
		return nil, err
	}
	return plan, errs
}

// again plans a recipe once more, with its steps.
func (l *loader) again(n *Node, epoch uint64) (*recipe.Plan, error) {
	trail := inputs.New(l.dir).Trail()
	data, err := trail.ReadFile(n.File)
	if err != nil {
		return nil, err
	}
	r, err := recipe.Parse(n.File, data, recipe.ParseOptions{})
	if err != nil {
		return nil, err
	}
	plan, err := l.plan(trail, r, n.Arch, 0)
	if err != nil {
		return nil, err
	}
	if plan.Digests() != n.Digests {
		return nil, fmt.Errorf("%s, or a file that it uses, changes while it is read: run this again", n.File)
	}
	if epoch <= plan.Epoch {
		return plan, nil
	}
	return l.plan(trail, r, n.Arch, epoch)
}

func (l *loader) image(trail *inputs.Trail, file string) (*Node, error) {
	read := func(name string) ([]byte, error) {
		if rel, err := filepath.Rel(l.dir, name); err == nil && filepath.IsAbs(name) && filepath.IsLocal(rel) {
			name = rel
		}
		return trail.ReadFile(name)
	}
	config, err := image.LoadBy(read, filepath.Join(l.dir, file), l.dir)
	if err != nil {
		return nil, err
	}
	if len(config.Archs) == 0 {
		for _, a := range l.config.Archs {
			config.Archs = append(config.Archs, apk.Arch(a))
		}
	}
	name := strings.TrimSuffix(filepath.Base(file), ".yaml")
	n := &Node{ID: imageID(name), Kind: Image, Name: name, File: file, Image: config}
	if base := config.Contents.BaseImage; base != nil {
		n.Base = l.baseID(base.Image)
	}
	return n, nil
}

func imageID(name string) string { return "image/" + name }

// baseID is the image of the workspace that will lie in the folder; "" when it is another folder, of somebody else's.
func (l *loader) baseID(folder string) string {
	if filepath.IsAbs(folder) {
		if rel, err := filepath.Rel(l.dir, folder); err == nil {
			folder = rel
		}
	}
	in, name := filepath.Split(filepath.Clean(folder))
	if filepath.Clean(in) != filepath.Join(l.config.Output, "images") {
		return ""
	}
	return imageID(name)
}

// Definition is a digest of what the node's own files say, as far as it
// matters: what a branch changed has another definition than before.
func (n *Node) Definition() (string, error) {
	if n.Kind == Image {
		digest, err := n.Image.Digest()
		if base := n.Image.Contents.BaseImage; base != nil {
			digest += " " + base.Image
		}
		return digest, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", n.Digests.Build, n.Digests.Package)
	for _, f := range n.LocalFiles {
		fmt.Fprintf(h, "%d %s %s\n", len(f.Name), f.Name, f.Digest)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Trial is Definition, and what the node's tests say.
func (n *Node) Trial() (string, error) {
	d, err := n.Definition()
	if err == nil && n.Kind != Image {
		d += " " + n.Digests.Test
	}
	return d, err
}

// OwnFolder is the folder of the node's own files in the workspace in dir.
func (n *Node) OwnFolder(dir string) string {
	return filepath.Join(dir, filepath.Dir(n.File), n.LocalDir)
}
