package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"distro.internal/melange/recipe"
	"distro.internal/melange/sandbox"
	"distro.internal/melange/source"
	"distro.internal/shared/cas"
	"distro.internal/shared/filetree"
)

// trees is what the steps of a job left: a tar of each package's files, in the
// order of the plan's outputs, and the time that all of them carry. With it is
// what lock files among the sources named, which only who fetched it knows.
type trees struct {
	epoch   int64
	outputs []cas.Output
	locked  cas.Digest // of a []source.Package in JSON; zero when there is none
}

// lockedOutput is what that list is called among the outputs of a result: as no package can be.
const lockedOutput = ".locked"

// The build user of the peer's environments; in packages its files are root's.
const buildUser = 1000

// lookupTrees finds what the trees are. They themselves are wanted when packages must be made of them, and not before:
// they may be gone, or never have been here.
func (b *Builder) lookupTrees(ctx context.Context, job Job, key *cas.Key) (*trees, error) {
	r, err := b.Store.Recorded(key.Digest())
	if absent(err) {
		r, err = b.Store.Find(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	t := &trees{}
	for _, o := range r.Outputs {
		if o.Name == lockedOutput {
			t.locked = o.Digest
		} else {
			t.outputs = append(t.outputs, o)
		}
	}
	if t.epoch, err = strconv.ParseInt(r.Metadata["epoch"], 10, 64); err != nil {
		return nil, fmt.Errorf("reading the trees of %s: %w", job.Plan.Name, err)
	}
	return t, nil
}

func (b *Builder) storeTrees(ctx context.Context, key *cas.Key, t *trees) error {
	outputs := t.outputs
	if t.locked != (cas.Digest{}) {
		outputs = append(slices.Clone(outputs), cas.Output{Name: lockedOutput, Digest: t.locked})
	}
	return b.Store.Keep(ctx, key, &cas.Result{
		Outputs:  outputs,
		Metadata: map[string]string{"epoch": strconv.FormatInt(t.epoch, 10)},
	})
}

// collect takes the files of every package out of the sandbox.
func (b *Builder) collect(ctx context.Context, job Job, agent *sandbox.Agent, ws *workspace) (*trees, error) {
	t := &trees{epoch: ws.epoch}
	for _, o := range job.Plan.Outputs {
		digest, err := b.collectOne(ctx, job, agent, o.Name, ws)
		if err != nil {
			return nil, fmt.Errorf("collecting the files of %s: %w", o.Name, err)
		}
		t.outputs = append(t.outputs, cas.Output{Name: o.Name, Digest: digest})
	}
	var err error
	t.locked, err = b.putLocked(ctx, ws.layout.Packages)
	return t, err
}

func (b *Builder) putLocked(ctx context.Context, packages []source.Package) (cas.Digest, error) {
	if len(packages) == 0 {
		return cas.Digest{}, nil
	}
	text, err := json.Marshal(packages)
	if err != nil {
		return cas.Digest{}, err
	}
	return b.Store.Put(ctx, bytes.NewReader(text))
}

// lockedPackages reads what lock files named. It is here.
func (b *Builder) lockedPackages(t *trees) (packages []source.Package, err error) {
	if t.locked == (cas.Digest{}) {
		return nil, nil
	}
	r, err := b.Store.Open(t.locked)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return packages, json.Unmarshal(text, &packages)
}

func (b *Builder) collectOne(ctx context.Context, job Job, agent *sandbox.Agent, name string, ws *workspace) (cas.Digest, error) {
	spool := filepath.Join(ws.dir, "collected.tar")
	defer os.Remove(spool)
	if err := writeFile(spool, func(w io.Writer) error {
		return agent.Tar(ctx, recipe.OutputDir+"/"+name, w)
	}); err != nil {
		return cas.Digest{}, err
	}
	tree, err := openTree(spool)
	if err != nil {
		return cas.Digest{}, err
	}
	when := time.Unix(ws.epoch, 0).UTC()
	for e := range tree.All() {
		normalize(e, when, job.Plan.Environment.Accounts)
	}
	return b.putTree(ctx, tree)
}

// normalize takes away what differs between equal builds: the clock, and who built.
func normalize(e *filetree.Entry, when time.Time, builder recipe.Accounts) {
	e.ModTime = when
	if e.UID == buildUser || e.UID == int(builder.UID) {
		e.UID = 0
	}
	if e.GID == buildUser || e.GID == int(builder.GID) {
		e.GID = 0
	}
	e.User, e.Group = "", ""
}

func (b *Builder) putTree(ctx context.Context, t *filetree.Tree) (cas.Digest, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(filetree.WriteTar(w, t)) }()
	d, err := b.Store.Put(ctx, r)
	r.CloseWithError(err)
	return d, err
}

// tree opens the tree of an output. Its bytes are verified once, here; the
// files are then read where they lie in the store.
func (b *Builder) tree(o cas.Output) (*filetree.Tree, error) {
	r, err := b.Store.Open(o.Digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, err
	}
	return openTree(b.Store.Path(o.Digest))
}

// openTree reads the headers of a tar file; the contents stay in it.
func openTree(file string) (*filetree.Tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return filetree.ReadTar(f, func(e *filetree.Entry, _ io.Reader) (func() (io.ReadCloser, error), error) {
		at, err := f.Seek(0, io.SeekCurrent) // a tar.Reader reads no further than it must
		size := e.Size
		return func() (io.ReadCloser, error) { return openSection(file, at, size) }, err
	})
}

// section is a part of a file, with random access.
type section struct {
	*io.SectionReader
	f *os.File
}

func openSection(file string, at, size int64) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	return section{io.NewSectionReader(f, at, size), f}, nil
}

func (s section) Close() error { return s.f.Close() }

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
