// Package build makes images: image file and lock in, layers, manifests, index and bills of materials out.
//
// It is the flow and what the image file makes of the packages' tree: changed paths, services, certificates, the cut into
// layers. How packages are read is shared/apk's matter, how they come to lie in one tree shared/rootfs's, how a layer is
// written apko/oci's. It runs nothing that is in a package.
//
// The bytes of a layer are a function of the packages and the configuration, and of nothing else: files keep the times
// that their packages give them, what is made here has the time at which the newest package was built.
package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/rootfs"
	"distro.internal/shared/sbom"
	"golang.org/x/sync/errgroup"
)

// Builder holds what outlives a build. Any number of builds may use it at once.
type Builder struct {
	Client *repository.Client // where indexes and packages come from
	CAS    cas.Layered        // where what was compressed once is kept
	Tool   string             // named as the author: "apko 1.0"
	Jobs   int                // packages read at once; 0 = as many as there are processors

	Compression oci.Compression // of layers

	// Created is the time that the image's configuration names. The zero time stands for that at which the newest
	// package was built. It has no influence on layers.
	Created time.Time
}

func (b *Builder) jobs() int {
	if b.Jobs > 0 {
		return b.Jobs
	}
	return runtime.GOMAXPROCS(0)
}

// Result is a finished image, ready to be written somewhere: see Index.
type Result struct {
	Index   *oci.Index
	Archs   []Arch
	SBOM    []byte    // of the index, SPDX in JSON
	Fetched bool      // all of it was made elsewhere
	Created time.Time // what the index says: when the youngest of its images was made
}

// Arch is the image of one architecture.
type Arch struct {
	Name     apk.Arch
	Image    *oci.Image
	SBOM     []byte   // SPDX in JSON
	System   sbom.OS  // what its os-release says
	Packages []string // name-version, in install order
	Notes    []string // what a disk would have and the image has not, for people
}

// Build makes the image of a lock, all its architectures. Packages are fetched from the lock's addresses; a source that
// serves such an address is used for it, with what it knows.
func (b *Builder) Build(ctx context.Context, c *image.Config, lock *image.Lock, sources ...repository.Source) (*Result, error) {
	archs := lock.Archs()
	if len(archs) == 0 {
		return nil, errors.New("building image: the lock has no packages")
	}
	slices.SortFunc(archs, func(a, b apk.Arch) int {
		return strings.Compare(oci.PlatformOf(a).String(), oci.PlatformOf(b).String())
	})
	var list []*made
	for _, arch := range archs {
		m, err := b.buildArch(ctx, c, lock, arch, sources)
		if err != nil {
			return nil, fmt.Errorf("building image for %s: %w", arch, err)
		}
		list = append(list, m)
	}
	return b.result(c, archs, list)
}

// buildArch makes the image of one architecture, or remembers it.
func (b *Builder) buildArch(ctx context.Context, c *image.Config, lock *image.Lock, arch apk.Arch, sources []repository.Source) (*made, error) {
	beneath, err := lockBase(c, arch)
	if err != nil {
		return nil, err
	}
	if have := lock.Base(arch); len(beneath) > 0 && have != "" && have != beneath[0].Digest {
		return nil, fmt.Errorf("the base image %s is %s, and in the lock %s: lock the image again", beneath[0].Image, beneath[0].Digest, have)
	}
	key, err := b.key(c, lock, arch, beneath)
	if err != nil {
		return nil, err
	}
	if m, err := b.recall(ctx, key); !gone(err) {
		return m, err
	}
	m, err := b.makeArch(ctx, c, lock, arch, sources)
	if err != nil {
		return nil, err
	}
	return m, b.remember(ctx, key, m)
}

func (b *Builder) makeArch(ctx context.Context, c *image.Config, lock *image.Lock, arch apk.Arch, sources []repository.Source) (*made, error) {
	beneath, err := b.base(ctx, c, arch)
	if err != nil {
		return nil, err
	}
	parts, err := b.parts(ctx, lock, arch, sources)
	if err != nil {
		return nil, err
	}
	db, err := database(c, lock, arch)
	if err != nil {
		return nil, err
	}
	r, err := newRoot(parts, db, beneath)
	if err != nil {
		return nil, err
	}
	if err := r.configure(c); err != nil {
		return nil, err
	}
	layers, layerOf, err := b.layers(ctx, r, c.Layering)
	if err != nil {
		return nil, err
	}
	m := &made{Notes: r.notes}
	if m.Run, err = b.runConfig(c, r); err != nil {
		return nil, err
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, *l)
	}
	for _, p := range r.parts {
		m.Packages = append(m.Packages, p.Package.Name+"-"+string(p.Package.Version))
	}
	return m, b.describe(m, r, c, arch, layerOf)
}

// parts reads the packages of the lock, several at once.
func (b *Builder) parts(ctx context.Context, lock *image.Lock, arch apk.Arch, sources []repository.Source) ([]*part, error) {
	locked := lock.Packages(arch)
	parts := make([]*part, len(locked))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.jobs())
	for i, p := range locked {
		g.Go(func() (err error) {
			parts[i], err = b.part(ctx, p, func(ctx context.Context) (string, error) { return b.fetch(ctx, p, sources) })
			return err
		})
	}
	return parts, g.Wait()
}

// configure makes of the packages' tree the one that the image file asks for.
func (r *root) configure(c *image.Config) error {
	for _, step := range []func() error{
		func() error { return r.generate(rootfs.BusyboxLinks) },
		func() error { return r.accounts(c.Accounts) },
		func() error { return r.services(c.Entrypoint.Services) },
		func() error { return r.certificates(c.Certificates) },
		func() error { return r.paths(c.Paths) },
		r.checksums,
		r.linkerCache,
		r.note,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) runConfig(c *image.Config, r *root) (oci.Config, error) {
	entrypoint, cmd, err := c.Command()
	if err != nil {
		return oci.Config{}, err
	}
	user, err := r.runAs(c.Accounts.RunAs)
	if err != nil {
		return oci.Config{}, err
	}
	created := b.Created
	if created.IsZero() {
		created = r.when
	}
	run := oci.Config{
		Created: created, Author: b.Tool, User: user, Entrypoint: entrypoint, Cmd: cmd,
		Volumes: c.Volumes, WorkingDir: c.WorkDir, StopSignal: c.StopSignal, Annotations: annotations(c, created),
	}
	if r.base == nil {
		run.Env = c.Env(nil)
		return run, nil
	}
	run.Env = c.Env(r.base.Config.Env)
	run.Annotations["org.opencontainers.image.base.digest"] = r.base.Digest
	return inherit(run, r.base.Config), nil
}

// annotations are those of the image file and what is known about the image; the image file wins.
func annotations(c *image.Config, created time.Time) map[string]string {
	all := map[string]string{"org.opencontainers.image.created": created.UTC().Format(time.RFC3339)}
	repository, revision := c.Source()
	if repository != "" {
		all["org.opencontainers.image.source"] = repository
	}
	if revision != "" {
		all["org.opencontainers.image.revision"] = revision
	}
	maps.Copy(all, c.Annotations)
	return all
}

// result joins the images of all architectures. The index is as old as the youngest of them.
func (b *Builder) result(c *image.Config, archs []apk.Arch, list []*made) (*Result, error) {
	created := time.Time{}
	whole := sbom.Index{Name: title(c), Creator: b.Tool}
	result := &Result{Fetched: true}
	var images []*oci.Image
	for i, m := range list {
		img, err := m.image(archs[i], b.CAS.Store)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
		result.Fetched = result.Fetched && m.fetched
		result.Archs = append(result.Archs, Arch{
			Name: archs[i], Image: img, SBOM: m.sbom, System: m.System, Packages: m.Packages, Notes: m.Notes,
		})
		whole.Images = append(whole.Images, sbom.Variant{Image: b.header(m, c, img), Namespace: m.Namespace, Encoded: m.sbom})
		if m.Run.Created.After(created) {
			created = m.Run.Created
		}
	}
	index, err := oci.NewIndex(annotations(c, created), images...)
	if err != nil {
		return nil, err
	}
	result.Index, result.Created, whole.Created = index, created, created
	whole.Digest, whole.MediaType = index.Descriptor.Digest, index.Descriptor.MediaType
	d, err := whole.Document()
	if err != nil {
		return nil, err
	}
	var encoded bytes.Buffer
	if err := d.Encode(&encoded); err != nil {
		return nil, err
	}
	result.SBOM = encoded.Bytes()
	return result, nil
}

// title is what the image calls itself, if it does.
func title(c *image.Config) string { return c.Annotations["org.opencontainers.image.title"] }
