package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"distro.internal/ci/graph"
	"distro.internal/ci/inputs"
	"distro.internal/ci/record"
	"distro.internal/shared/apk"
)

// A settled workspace is one in which a run found everything made and published,
// and wrote nothing. As long as nothing changes that such a run reads, the next
// one finds the same, so it need not look at nodes at all: it asks the file
// system, which answers for thousands of files in milliseconds.
//
// What it reads is: the recipes and image files, whose memory knows their files;
// the other files of the workspace; the indexes of the repositories that
// anything is chosen from; the store of results; and what was published and
// assembled.
type settled struct {
	edition string      // of the memory of the recipes
	others  *inputs.Set // files that are neither recipes nor images
	offers  []offered
	store   string // stamp of the store of results
	seen    time.Time
	nodes   []string // that were found to be up to date, the repository among them
}

// An offered is repositories from which something was chosen, and what they had.
type offered struct {
	urls, keys []string
	arch       apk.Arch
	state      string
}

const settledFormat = "settled/1"

func (w *world) settledFile() string { return w.memoryFile("settled") }

func (w *world) settledIdentity() string {
	return fmt.Sprintf("%s %s %q", settledFormat, w.identity, w.config.Published)
}

// isSettled tells of a workspace that was settled which nodes are up to date, if it still is.
func (w *world) isSettled(ctx context.Context) (nodes []string, ok bool) {
	r, err := record.Open(w.settledFile(), w.settledIdentity())
	if err != nil {
		return nil, false
	}
	s := decodeSettled(r, w.dir)
	if !r.Ended() || time.Since(s.seen) > believed || time.Since(s.seen) < 0 || s.store == "" || s.store != w.stamp() {
		return nil, false
	}
	if changed, _ := s.others.Check(); changed || !w.memory.Check() || s.edition != w.memory.Edition() {
		return nil, false
	}
	for _, o := range s.offers {
		if state, err := w.lookAt(ctx, o.urls, o.keys, o.arch); err != nil || state != o.state {
			return nil, false
		}
	}
	return s.nodes, w.memory.Save() == nil
}

// settle notes that all nodes of the workspace, and the repository, were found to be as they should be. It is only
// worth noting when nothing was written meanwhile.
func (w *world) settle(ctx context.Context, o *workspaceFlags) error {
	stamp := w.builder.Store.Stamp()
	if stamp == "" || stamp != w.stamp() {
		return nil
	}
	s := settled{edition: w.memory.Edition(), others: inputs.New(w.dir), store: stamp, seen: w.recollection.seen}
	trail := s.others.Trail()
	var errs error
	for _, name := range w.otherFiles(o) {
		errs = errors.Join(errs, trail.Met(name))
	}
	for _, n := range w.graph.Nodes() {
		s.nodes = append(s.nodes, n.ID)
		errs = errors.Join(errs, w.noteOffers(ctx, &s, n))
	}
	s.nodes = append(s.nodes, repositoryNode)
	errs = errors.Join(errs, w.notePublished(ctx, &s))
	if errs != nil {
		return errs
	}
	e := &record.Writer{}
	s.encode(e, trail)
	if err := record.Save(w.settledFile(), w.settledIdentity(), e); err != nil {
		return fmt.Errorf("keeping that all is up to date: %w", err)
	}
	return nil
}

// otherFiles are those that a run reads besides recipes, image files and results.
func (w *world) otherFiles(o *workspaceFlags) []string {
	files := []string{o.file, o.key, o.key + ".pub", w.out("repository", ".current", "generation.json")}
	if w.config.Keys != "" {
		files = append(files, filepath.Join(w.path(w.config.Keys), filepath.Base(o.key)+".pub"))
	}
	if w.config.Stage0 != "" {
		files = append(files, w.stage0Files()...)
	}
	for _, n := range w.graph.Nodes() {
		if n.Kind == graph.Image {
			files = append(files, w.out("images", n.Name, "index.json"))
			files = append(files, w.baseFiles(n)...)
		}
	}
	for i, name := range files {
		if abs, err := filepath.Abs(name); err == nil && filepath.IsAbs(name) {
			files[i] = abs
		}
	}
	return files
}

// baseFiles are those that tell of the image that an image is put on: its layers cannot change without them.
func (w *world) baseFiles(n *graph.Node) []string {
	base := w.located(n.Image).Contents.BaseImage
	if base == nil {
		return nil
	}
	files := []string{filepath.Join(base.ImageDir(), "index.json")}
	for _, arch := range n.Image.Archs {
		if installed := base.InstalledFile(arch); installed != "" {
			files = append(files, installed)
		}
	}
	return files
}

// noteOffers notes the repositories that a node's packages are chosen from.
func (w *world) noteOffers(ctx context.Context, s *settled, n *graph.Node) error {
	var list []offered
	if n.Kind == graph.Image {
		for _, arch := range n.Image.Archs {
			c := n.Image.Contents
			list = append(list, offered{urls: slices.Concat(c.BuildRepositories, c.Repositories), keys: c.Keyring, arch: arch})
		}
	} else {
		for _, arch := range []apk.Arch{n.RootArch(), n.Arch} {
			list = append(list, offered{urls: slices.Concat(n.Repositories, w.config.Repositories), keys: slices.Concat(n.Keyring, w.config.Keyring), arch: arch})
		}
	}
	return w.note(ctx, s, list)
}

// notePublished notes the repository that people have, from which releases are counted.
func (w *world) notePublished(ctx context.Context, s *settled) error {
	if w.config.Published == "" {
		return nil
	}
	keys, err := w.publishedKeys()
	if err != nil {
		return err
	}
	var list []offered
	for _, arch := range w.config.Archs {
		list = append(list, offered{urls: []string{w.config.Published}, keys: keys, arch: apk.Arch(arch)})
	}
	return w.note(ctx, s, list)
}

// note notes what repositories have, each once.
func (w *world) note(ctx context.Context, s *settled, list []offered) error {
	for _, o := range list {
		same := func(p offered) bool {
			return p.arch == o.arch && slices.Equal(p.urls, o.urls) && slices.Equal(p.keys, o.keys)
		}
		if slices.ContainsFunc(s.offers, same) {
			continue
		}
		var err error
		if o.state, err = w.lookAt(ctx, o.urls, o.keys, o.arch); err != nil {
			return err
		}
		s.offers = append(s.offers, o)
	}
	return nil
}

func (s *settled) encode(w *record.Writer, trail *inputs.Trail) {
	w.Text(s.edition)
	w.Text(s.store)
	w.Int(s.seen.Unix())
	w.Texts(s.nodes)
	w.Count(len(s.offers))
	for _, o := range s.offers {
		w.Texts(o.urls)
		w.Texts(o.keys)
		w.Text(string(o.arch))
		w.Text(o.state)
	}
	looks := &record.Writer{}
	s.others.Encode(w, looks, trail.Inputs())
	w.Append(looks)
}

func decodeSettled(r *record.Reader, dir string) *settled {
	s := &settled{edition: r.Text(), store: r.Text(), seen: time.Unix(r.Int(), 0), nodes: r.Texts()}
	s.offers = make([]offered, r.Count())
	for i := range s.offers {
		s.offers[i] = offered{r.Texts(), r.Texts(), apk.Arch(r.Text()), r.Text()}
	}
	s.others = inputs.Decode(r, dir)
	s.others.DecodeLooks(r)
	return s
}
