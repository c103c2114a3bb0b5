package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apko "distro.internal/apko/build"
	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/ci/graph"
	"distro.internal/ci/run"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
)

// imageAction is the kind of the action that assembles an image of a lock.
const imageAction = "image/1"

func (w *world) imageBuilder() *apko.Builder {
	return &apko.Builder{Client: w.client, CAS: w.builder.Store, Tool: "apko"}
}

// A chosen image is decided: which packages it is made of, as they are published now, and on which image it is put.
type chosenImage struct {
	config  *image.Config
	lock    *image.Lock
	sources []repository.Source
}

func (w *world) chooseImage(ctx context.Context, n *graph.Node) (c chosenImage, err error) {
	c.config = w.located(n.Image)
	if c.sources, err = w.imageSources(ctx, c.config); err != nil {
		return c, err
	}
	c.lock, err = w.imageBuilder().Lock(ctx, c.config, c.config.Archs, c.sources)
	return c, err
}

// located is the image file with its base image where that lies in the workspace.
func (w *world) located(c *image.Config) *image.Config {
	base := c.Contents.BaseImage
	if base == nil {
		return c
	}
	there := *c
	there.Contents.BaseImage = &image.BaseImage{Image: w.path(base.Image)}
	if base.APKIndex != "" {
		there.Contents.BaseImage.APKIndex = w.path(base.APKIndex)
	}
	return &there
}

func (w *world) imageSources(ctx context.Context, c *image.Config) ([]repository.Source, error) {
	keyring, err := w.client.Keyring(ctx, w.paths(c.Contents.Keyring)...)
	if err != nil {
		return nil, err
	}
	var sources []repository.Source
	for _, r := range append(append([]string{}, c.Contents.BuildRepositories...), c.Contents.Repositories...) {
		tag, address := splitTag(r)
		sources = append(sources, repository.Source{URL: w.path(address), Keyring: keyring, Tag: tag})
	}
	return sources, nil
}

// imageKey is the lock's key as an action of this program.
func imageKey(lock *image.Lock) *cas.Key {
	k := cas.NewKey(imageAction)
	for _, in := range lock.Key().Inputs() {
		k.Add(in.Name, in.Value)
	}
	return k
}

// haveImage tells whether the image of a key lies in its folder.
func (w *world) haveImage(n *graph.Node, key *cas.Key) (digest string, ok bool, err error) {
	r, err := w.builder.Store.Result(key.Digest())
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	} else if err != nil {
		return "", false, err
	}
	digest = r.Metadata["digest"]
	top, err := os.ReadFile(filepath.Join(w.out("images", n.Name), "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return digest, false, nil
	}
	return digest, bytes.Contains(top, []byte(digest)), err
}

func (w *world) surveyImage(ctx context.Context, f *finding) {
	f.verdict = stale
	chosen, err := w.chooseImage(ctx, f.node)
	if err != nil {
		f.err = fmt.Errorf("of what is published now: %w", err)
		return
	}
	key := imageKey(chosen.lock)
	f.changes, f.never = w.changes(f.id, []*cas.Key{key})
	_, ok, err := w.haveImage(f.node, key)
	if f.err = err; ok {
		f.verdict = upToDate
	}
}

// makeImage assembles an image unless what is locked is assembled already.
func (m *maker) makeImage(ctx context.Context, n *graph.Node) (run.Outcome, error) {
	chosen, err := m.chooseImage(ctx, n)
	if err != nil {
		return run.Outcome{}, fmt.Errorf("%s: %w", n.File, err)
	}
	key := imageKey(chosen.lock)
	m.keys.set(n.ID, []*cas.Key{key})
	digest, ok, err := m.haveImage(n, key)
	if err != nil {
		return run.Outcome{}, err
	}
	if ok {
		return run.Outcome{Cached: true, Note: digest}, nil
	}
	m.report.Doing(n.ID, "assembling")
	result, err := m.imageBuilder().Build(ctx, chosen.config, chosen.lock, chosen.sources...)
	if err != nil {
		return run.Outcome{}, fmt.Errorf("%s: %w", n.File, err)
	}
	digest = result.Index.Descriptor.Digest
	tag, err := oci.ParseTag(n.Name + ":latest")
	if err != nil {
		return run.Outcome{}, err
	}
	if err := result.Index.WriteLayout(ctx, m.out("images", n.Name), tag); err != nil {
		return run.Outcome{}, err
	}
	if err := m.imageDocuments(n, chosen.lock, result); err != nil {
		return run.Outcome{}, err
	}
	if _, err := m.builder.Store.PutBytes(key.Encode()); err != nil {
		return run.Outcome{}, err
	}
	err = m.builder.Store.SetResult(key.Digest(), &cas.Result{Metadata: map[string]string{"digest": digest}})
	return run.Outcome{Fetched: result.Fetched, Note: digest}, err
}

// portable is a lock that names folders of the workspace as its files do: it
// says the same wherever the workspace lies.
func (w *world) portable(lock *image.Lock) *image.Lock {
	l := *lock
	within := func(url string) string { return strings.TrimPrefix(url, w.dir+string(filepath.Separator)) }
	l.Contents.Repositories = slices.Clone(l.Contents.Repositories)
	for i := range l.Contents.Repositories {
		r := &l.Contents.Repositories[i]
		r.Name, r.URL = within(r.Name), within(r.URL)
	}
	l.Contents.Packages = slices.Clone(l.Contents.Packages)
	for i := range l.Contents.Packages {
		p := &l.Contents.Packages[i]
		p.URL = within(p.URL)
	}
	l.Contents.BaseImages = slices.Clone(l.Contents.BaseImages)
	for i := range l.Contents.BaseImages {
		b := &l.Contents.BaseImages[i]
		b.Image = within(b.Image)
	}
	return &l
}

// imageDocuments writes what describes an image beside it: its lock, and the
// bills of materials of the whole and of each architecture.
func (m *maker) imageDocuments(n *graph.Node, lock *image.Lock, r *apko.Result) error {
	if err := m.portable(lock).WriteFile(m.out("images", n.Name+".lock.json")); err != nil {
		return err
	}
	if err := writeIfOther(m.out("images", n.Name+".spdx.json"), r.SBOM, 0o644); err != nil {
		return err
	}
	for _, a := range r.Archs {
		if err := writeIfOther(m.out("images", n.Name+"-"+string(a.Name)+".spdx.json"), a.SBOM, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeImages takes away, after all was made, the images whose files are gone: as with packages, what a whole run does
// not make is not there any more.
func (m *maker) removeImages() error {
	if !m.whole || m.held {
		return nil
	}
	locks, err := filepath.Glob(m.out("images", "*.lock.json"))
	if err != nil {
		return err
	}
	for _, lock := range locks {
		name := strings.TrimSuffix(filepath.Base(lock), ".lock.json")
		if _, ok := m.graph.Node(string(graph.Image) + "/" + name); ok {
			continue
		}
		made := []string{m.out("images", name), m.out("images", name+".spdx.json")}
		for _, a := range apk.Archs() {
			of := name + "-" + string(a)
			if _, ok := m.graph.Node(string(graph.Image) + "/" + of); !ok { // it may be another image's own
				made = append(made, m.out("images", of+".spdx.json"))
			}
		}
		for _, file := range append(made, lock) { // the lock last: by it what is left over is found
			if err := os.RemoveAll(file); err != nil {
				return err
			}
		}
		m.report.Say("removed     %s, which nothing describes any more", m.short(m.out("images", name)))
	}
	return nil
}
