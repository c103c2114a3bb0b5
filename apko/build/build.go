// Package build makes images: image file and lock in, layers, manifests, index and bills of materials out.
//
// It is the flow and what an image's tree needs beyond its packages: accounts, paths, the package database. How packages
// are read is shared/apk's matter, how a layer is written apko/oci's. It runs nothing that is in a package.
//
// The bytes of a layer are a function of the packages and the configuration, and of nothing else: files keep the times
// that their packages give them, what is made here has the time at which the newest package was built.
package build

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/sbom"
	"golang.org/x/sync/errgroup"
)

// Builder holds what outlives a build. Any number of builds may use it at once.
type Builder struct {
	Client *repository.Client // where indexes and packages come from
	CAS    cas.Store          // where what was compressed once is kept
	Tool   string             // named as the author: "apko 1.0"
	Jobs   int                // packages read at once; 0 = as many as there are processors

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
	Index *oci.Index
	Archs []Arch
	SBOM  []byte // of the index, SPDX in JSON
}

// Arch is the image of one architecture.
type Arch struct {
	Name     apk.Arch
	Image    *oci.Image
	SBOM     []byte   // SPDX in JSON
	Packages []string // name-version, in install order
	Scripts  []string // packages whose scripts were not run
}

// Build makes the image of a lock, all its architectures. Packages are fetched from the lock's addresses; a source that
// serves such an address is used for it, with what it knows.
func (b *Builder) Build(ctx context.Context, c *image.Config, lock *image.Lock, sources ...repository.Source) (*Result, error) {
	archs := lock.Archs()
	if len(archs) == 0 {
		return nil, fmt.Errorf("building image: the lock has no packages")
	}
	list := make([]built, len(archs))
	newest := time.Time{}
	for i, arch := range archs {
		var err error
		if list[i], err = b.buildArch(ctx, c, lock, arch, sources); err != nil {
			return nil, fmt.Errorf("building image for %s: %w", arch, err)
		}
		if t := list[i].created; t.After(newest) {
			newest = t
		}
	}
	return b.result(c, list, newest)
}

// built is the image of one architecture before it is described.
type built struct {
	arch    Arch
	root    *root
	layerOf []int
	created time.Time
}

func (b *Builder) buildArch(ctx context.Context, c *image.Config, lock *image.Lock, arch apk.Arch, sources []repository.Source) (built, error) {
	parts, err := b.parts(ctx, lock, arch, sources)
	if err != nil {
		return built{}, err
	}
	r, err := newRoot(parts)
	if err != nil {
		return built{}, err
	}
	if err := r.configure(c, lock, arch); err != nil {
		return built{}, err
	}
	layers, layerOf, err := b.layers(ctx, r, c.Layering)
	if err != nil {
		return built{}, err
	}
	created := b.Created
	if created.IsZero() {
		created = r.when
	}
	run, err := b.runConfig(c, r, created)
	if err != nil {
		return built{}, err
	}
	m, err := oci.NewImage(arch, run, layers...)
	if err != nil {
		return built{}, err
	}
	out := built{arch: Arch{Name: arch, Image: m}, root: r, layerOf: layerOf, created: created}
	for _, p := range parts {
		name := p.Package.Name + "-" + string(p.Package.Version)
		out.arch.Packages = append(out.arch.Packages, name)
		if len(p.Scripts) > 0 {
			out.arch.Scripts = append(out.arch.Scripts, name)
		}
	}
	return out, nil
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
func (r *root) configure(c *image.Config, lock *image.Lock, arch apk.Arch) error {
	for _, step := range []func() error{
		r.skeleton,
		r.busybox,
		func() error { return r.accounts(c.Accounts) },
		func() error { return r.services(c.Entrypoint.Services) },
		func() error { return r.certificates(c.Certificates) },
		func() error { return r.paths(c.Paths) },
		func() error { return r.packageDatabase(c, lock, arch) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) runConfig(c *image.Config, r *root, created time.Time) (oci.Config, error) {
	entrypoint, cmd, err := c.Command()
	if err != nil {
		return oci.Config{}, err
	}
	user, err := r.runAs(c.Accounts.RunAs)
	if err != nil {
		return oci.Config{}, err
	}
	return oci.Config{
		Created: created, Author: b.Tool, User: user, Env: c.Env(), Entrypoint: entrypoint, Cmd: cmd,
		Volumes: c.Volumes, WorkingDir: c.WorkDir, StopSignal: c.StopSignal, Annotations: annotations(c, created),
	}, nil
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

// result joins the images of all architectures and describes them.
func (b *Builder) result(c *image.Config, list []built, created time.Time) (*Result, error) {
	slices.SortFunc(list, func(a, b built) int { return compareArch(a.arch.Name, b.arch.Name) })
	images := make([]*oci.Image, len(list))
	for i := range list {
		images[i] = list[i].arch.Image
	}
	index, err := oci.NewIndex(annotations(c, created), images...)
	if err != nil {
		return nil, err
	}
	result := &Result{Index: index}
	whole := sbom.Index{
		Name: c.Annotations["org.opencontainers.image.title"], Digest: index.Descriptor.Digest,
		MediaType: index.Descriptor.MediaType, Creator: b.Tool, Created: created,
	}
	for i := range list {
		variant, err := b.variant(c, &list[i])
		if err != nil {
			return nil, fmt.Errorf("describing image for %s: %w", list[i].arch.Name, err)
		}
		whole.Images = append(whole.Images, variant)
		list[i].arch.SBOM = variant.Encoded
		result.Archs = append(result.Archs, list[i].arch)
	}
	d, err := whole.Document()
	if err != nil {
		return nil, err
	}
	result.SBOM, err = encodeSBOM(d)
	return result, err
}

func compareArch(a, b apk.Arch) int {
	return bytes.Compare([]byte(oci.PlatformOf(a).String()), []byte(oci.PlatformOf(b).String()))
}

func (b *Builder) variant(c *image.Config, m *built) (sbom.Variant, error) {
	described, err := b.describe(m.root, c, m.arch.Image, m.layerOf, m.created)
	if err != nil {
		return sbom.Variant{}, err
	}
	d, err := described.Document()
	if err != nil {
		return sbom.Variant{}, err
	}
	encoded, err := encodeSBOM(d)
	return sbom.Variant{Image: described, Document: d, Encoded: encoded}, err
}

func encodeSBOM(d *sbom.Document) ([]byte, error) {
	var b bytes.Buffer
	err := d.Encode(&b)
	return b.Bytes(), err
}
