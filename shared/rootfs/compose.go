package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// Compose says what an environment has besides its packages.
type Compose struct {
	Arch     apk.Arch
	World    []apk.Dependency // what was asked for, as etc/apk/world has it
	Accounts Accounts         // besides root and build (1000, /home/build); added unless name or number is taken

	// Bare leaves out all that no package brings: no accounts, no apk database. For a tree that is only
	// looked into, such as the root of a target that is built for.
	Bare bool
}

// A Root is an environment as the layers of an overlay.
type Root struct {
	Layers []string // directories, lowest first
	Key    string   // a digest of all that went into it
}

// maxLayers is how many layers the kernel's overlay takes.
const maxLayers = 500

// Compose puts the packages, in the order of installation, above each other and a generated layer on top
// of them. Packages that cannot be in one tree are a *Conflict. What was composed once is only looked up.
func (s Store) Compose(ctx context.Context, layers []Layer, o Compose) (Root, error) {
	root, err := s.compose(ctx, layers, o)
	if err != nil {
		return Root{}, fmt.Errorf("composing root: %w", err)
	}
	return root, nil
}

func (s Store) compose(ctx context.Context, layers []Layer, o Compose) (Root, error) {
	var sums []apk.Checksum
	var hashes []string
	for _, l := range layers {
		sums = append(sums, l.Package.Checksum)
		if !slices.Contains(hashes, l.Package.DataHash) { // packages without files share one directory
			hashes = append(hashes, l.Package.DataHash)
		}
	}
	if len(hashes) >= maxLayers {
		return Root{}, fmt.Errorf("%d layers, and the kernel's overlay takes %d", len(hashes)+1, maxLayers)
	}
	key := composeKey(sums, o)
	err := s.ensure(s.composed(key),
		func() bool { return false }, // made anew in no time
		func(temp string) error { return composeInto(ctx, temp, layers, hashes, o) })
	if err != nil {
		return Root{}, err
	}
	s.useAll(hashes)
	return s.root(key, hashes), nil
}

// Composed returns the root that Compose has made of the packages with these checksums, if all of it is here. No
// package is opened: one that had the checksum was verified when it was unpacked.
func (s Store) Composed(packages []apk.Checksum, o Compose) (Root, bool) {
	key := composeKey(packages, o)
	dir := s.composed(key)
	if !s.present(dir) {
		return Root{}, false
	}
	text, err := os.ReadFile(filepath.Join(dir, "layers"))
	hashes := strings.Fields(string(text))
	if err != nil || !s.useAll(hashes) {
		return Root{}, false
	}
	return s.root(key, hashes), true
}

func (s Store) composed(key string) string { return filepath.Join(s.Dir, "roots", key) }

func (s Store) root(key string, hashes []string) Root {
	root := Root{Key: key}
	for _, h := range hashes {
		root.Layers = append(root.Layers, filepath.Join(s.Dir, h, "root"))
	}
	root.Layers = append(root.Layers, filepath.Join(s.composed(key), "root"))
	return root
}

// composeFormat is the version of what the top layer holds.
const composeFormat = "root 3"

func composeKey(packages []apk.Checksum, o Compose) string {
	h := sha256.New()
	e := json.NewEncoder(h) // of strings, numbers and sorted maps: canonical
	e.Encode(composeFormat)
	for _, sum := range packages {
		e.Encode(sum.String())
	}
	e.Encode(o)
	return hex.EncodeToString(h.Sum(nil))
}

func composeInto(ctx context.Context, temp string, layers []Layer, hashes []string, o Compose) error {
	packages := make([]Opened, len(layers))
	for i, l := range layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if packages[i], err = l.Open(); err != nil {
			return err
		}
	}
	m, err := merge(packages)
	if err != nil {
		return err
	}
	db := m.installed()
	if err := m.breakLinks(); err != nil {
		return err
	}
	c := composer{all: m.tree, top: filetree.New()}
	if err := c.restore(m); err != nil {
		return err
	}
	if !o.Bare {
		if err := c.generate(db, o); err != nil {
			return err
		}
	}
	err = filetree.Extract(c.top, filepath.Join(temp, "root"), filetree.ExtractOptions{OwnerAccess: true, NoSetID: true, SkipDevices: true})
	if err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(temp, "root"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, "layers"), []byte(strings.Join(hashes, "\n")), 0o644); err != nil {
		return err
	}
	return stampBoot(temp)
}

// composer writes the top layer: each entry goes into the whole tree as well, which shows what is
// visible, and through whose links the way leads.
type composer struct{ all, top *filetree.Tree }

// restore puts into the top layer what the layers below it do not show as it should be: files that stay
// with a package installed earlier, links over which a later package has a directory, and what lies in
// such a directory.
func (c composer) restore(m *merged) error {
	for e := range m.tree.All() {
		if m.shown(e) {
			continue
		}
		if e.HardLink {
			file, err := linkedFile(m.tree, e)
			if err != nil {
				return err
			}
			e = file
		}
		if err := c.put(*e); err != nil {
			return err
		}
	}
	return nil
}

// shown reports whether an overlay of the packages shows the entry.
func (m *merged) shown(e *filetree.Entry) bool {
	top, other := m.top[e.Path]
	if !other {
		return true
	}
	return top != hidden && e.Mode.IsDir() && m.packages[top.Package].Files[top.File].Mode == e.Mode
}

// linkedFile is the file that a hard link names, under the link's own name.
func linkedFile(t *filetree.Tree, link *filetree.Entry) (*filetree.Entry, error) {
	file, ok := t.Lookup(link.Link)
	if !ok {
		return nil, fmt.Errorf("hard link %s: %s: %w", link.Path, link.Link, fs.ErrNotExist)
	}
	twin := *file
	twin.Path = link.Path
	return &twin, nil
}

func (c composer) generate(db *apk.Installed, o Compose) error {
	accounts := o.Accounts
	accounts.Users = slices.Concat(standard.Users, o.Accounts.Users)
	accounts.Groups = slices.Concat(standard.Groups, o.Accounts.Groups)
	for _, generate := range []generator{
		skeleton, workplace, Database{Arch: o.Arch, World: o.World}.of(db), accounts.Entries, BusyboxLinks, Certificates,
	} {
		es, err := generate(c.all, epoch)
		if err != nil {
			return err
		}
		slices.SortStableFunc(es, byPath)
		for _, e := range es {
			if err := c.put(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// put places e in both trees. A directory of the top layer hides the metadata of the same one below, so
// the way to e has what is visible there.
func (c composer) put(e filetree.Entry) error {
	var err error
	if e.Path, err = Locate(c.all, e.Path); err != nil {
		return err
	}
	if err := Place(c.all, e); err != nil {
		return err
	}
	for _, parent := range parents(e.Path) {
		if p, ok := c.all.Lookup(parent); ok {
			if err := c.top.Put(*p); err != nil {
				return err
			}
		}
	}
	return c.top.Put(e)
}
