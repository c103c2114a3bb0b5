package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"distro.internal/ci/graph"
	"distro.internal/melange/build"
	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
)

// The number of a release, the N of 1.2.3-rN, has one purpose: a client that has
// a package takes another one only if its version is higher. So nobody should
// have to count it: of what is published it follows what comes next. A recipe's
// epoch is the least that it may be.
//
// Which number a node's packages get is decided when they are made. As long as
// they come out as they are published, to the last byte of what is signed, they
// keep the number; otherwise they get the next one that no client has seen. What
// they are is known only for a number, which is a part of them. Therefore they
// are made for the published number first. Where no step asks for the number, the
// steps run once for all of them, and to make the packages of other numbers takes
// milliseconds.
//
// A revert is a new release, too: who has got the change would keep it otherwise.

// published is the repository that people have. That is ours, unless the workspace says otherwise.
func (w *world) published(ctx context.Context) (s repository.Source, ours bool, err error) {
	if w.config.Published == "" {
		return repository.Source{URL: w.out("repository"), Keyring: w.keyring}, true, nil
	}
	keys, err := w.publishedKeys()
	if err != nil {
		return s, false, err
	}
	s.URL = w.path(w.config.Published)
	s.Keyring, err = w.client.Keyring(ctx, keys...)
	return s, false, err
}

// publishedKeys are those that it may be signed by: the ones that the workspace trusts, or packages.
func (w *world) publishedKeys() ([]string, error) {
	keys := w.paths(w.config.Keyring)
	if w.config.Keys == "" {
		return keys, nil
	}
	own, err := filepath.Glob(filepath.Join(w.path(w.config.Keys), "*.pub"))
	return append(keys, own...), err
}

// readReleases finds out what people may have, of our repository and of the one that they have.
func (w *world) readReleases(ctx context.Context) (err error) {
	if w.releases, err = w.repository().Releases(); err != nil {
		return err
	}
	source, ours, err := w.published(ctx)
	if err != nil || ours {
		return err
	}
	found := false
	for _, arch := range w.config.Archs {
		index, err := w.client.Index(ctx, source, apk.Arch(arch))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the architecture is new
		} else if err != nil {
			return fmt.Errorf("reading what is published: %w", err)
		}
		found = true
		w.releases.Add(apk.Arch(arch), index)
		w.seen = max(w.seen, index.Generation)
	}
	if !found { // to begin to count anew is not what a mistyped address should do
		return fmt.Errorf("nothing is published in %s: leave published: and --published out until there is", w.config.Published)
	}
	return nil
}

// epochs are those that the packages of a node can have.
type epochs struct {
	published []uint64 // ascending
	next      uint64
}

// epochs tells of which epochs packages of a version are published, as far as they are not below the recipe's.
func (w *world) epochs(n *graph.Node, version apk.Version, least uint64) epochs {
	all := epochs{next: least}
	for _, o := range n.Outputs {
		for _, r := range w.releases[n.Arch][o.Name] {
			if epoch, ok := epochOf(r.Version, version); ok && epoch >= least {
				all.published = append(all.published, epoch)
				all.next = max(all.next, epoch+1)
			}
		}
	}
	slices.Sort(all.published)
	all.published = slices.Compact(all.published)
	return all
}

// epochOf is the N of version-rN.
func epochOf(full, version apk.Version) (uint64, bool) {
	number, ok := strings.CutPrefix(string(full), string(version)+"-r")
	if !ok {
		return 0, false
	}
	epoch, err := strconv.ParseUint(number, 10, 64)
	return epoch, err == nil
}

// isPublished tells whether all packages that are published of the same release as these are these.
func (w *world) isPublished(arch apk.Arch, packages []build.Package) bool {
	for _, p := range packages {
		for _, r := range w.releases[arch][p.Name] {
			if r.Version == p.Version && !r.Is(p.Package) {
				return false
			}
		}
	}
	return true
}

// isNewRelease tells whether packages, of which others are published, get a number that none of those has.
func (w *world) isNewRelease(arch apk.Arch, packages []build.Package) bool {
	others := 0
	for _, p := range packages {
		for _, r := range w.releases[arch][p.Name] {
			if r.Version == p.Version {
				return false
			}
			others++
		}
	}
	return others > 0
}

// allot has a node's packages made, or looked up, for one epoch after another until they are what can be published as
// that. An error ends it.
func (w *world) allot(ctx context.Context, n *graph.Node, do func(build.Job) (*build.Result, error)) (*build.Result, error) {
	plan, err := n.Plan(0)
	if err != nil {
		return nil, err
	}
	all := w.epochs(n, plan.Version, plan.Epoch)
	ran, packed := false, false
	try := func(job build.Job) (*build.Result, error) {
		r, err := do(job)
		if r != nil {
			ran, packed = ran || r.Ran, packed || r.Packed
			r.Ran, r.Packed = ran, packed
		}
		return r, err
	}
	for _, epoch := range all.published {
		job, err := w.job(ctx, n, epoch)
		if err != nil {
			return nil, err
		}
		if w.inVain(ctx, n, job, all.next) {
			continue
		}
		if r, err := try(job); err != nil || w.isPublished(n.Arch, r.Packages) {
			return r, err
		}
	}
	job, err := w.job(ctx, n, all.next)
	if err != nil {
		return nil, err
	}
	return try(job)
}

// lookup is for allot: what is made is found, and nothing is made.
func (w *world) lookup(ctx context.Context) func(build.Job) (*build.Result, error) {
	return func(job build.Job) (*build.Result, error) { return w.builder.Lookup(ctx, job) }
}

// inVain tells whether steps would run only to find out that what they make is no longer what is published: they ask
// for the number, something else has changed as well, and they would run once more for the next number.
func (w *world) inVain(ctx context.Context, n *graph.Node, job build.Job, next uint64) bool {
	plan, err := n.Plan(next)
	if err != nil || plan.Digests().Build == job.Plan.Digests().Build {
		return false
	}
	_, err = w.builder.Lookup(ctx, job)
	return errors.Is(err, fs.ErrNotExist)
}

// nextRelease is what a node's packages, of which some are published, are released as if they come out other than that;
// empty if none is.
func (w *world) nextRelease(n *graph.Node) (string, error) {
	if !slices.ContainsFunc(n.Outputs, func(o graph.Output) bool { return len(w.releases[n.Arch][o.Name]) > 0 }) {
		return "", nil
	}
	plan, err := n.Plan(0)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-r%d", plan.Version, w.epochs(n, plan.Version, plan.Epoch).next), nil
}

// madePlan is the plan of a node for the epoch that its packages, which are made, have.
func (w *world) madePlan(n *graph.Node) (*recipe.Plan, error) {
	plan, err := n.Plan(0)
	if err != nil {
		return nil, err
	}
	packages, err := w.packagesOf(n)
	if err != nil || len(packages) == 0 {
		return plan, err
	}
	epoch, ok := epochOf(packages[0].Version, plan.Version)
	if !ok {
		return nil, fmt.Errorf("%s is %s, which is no release of %s", packages[0].Name, packages[0].Version, plan.Version)
	}
	return n.Plan(epoch)
}

// releasesOf describes all published releases that decide about a node's.
func (w *world) releasesOf(n *graph.Node) string {
	var text strings.Builder
	for _, o := range n.Outputs {
		for _, r := range w.releases[n.Arch][o.Name] {
			describeRelease(&text, o.Name, r)
		}
	}
	return text.String()
}

// releasedAs is what releasesOf will say when nothing but these packages, in the order of the outputs, is published.
func releasedAs(packages []build.Package) string {
	var text strings.Builder
	for _, p := range packages {
		describeRelease(&text, p.Name, repository.ReleaseOf(p.Package))
	}
	return text.String()
}

func describeRelease(text *strings.Builder, name string, r repository.Release) {
	fmt.Fprintf(text, "%s %s %s\n", name, r.Version, r.Checksum)
}
