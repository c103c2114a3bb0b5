package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"distro.internal/ci/graph"
	"distro.internal/shared/apk"
	"distro.internal/shared/repository"
)

// What a run would publish is known before it runs as far as packages are made already. Of what is not made, nobody
// knows yet whether it comes out as it is published; what is said of a repository that waits for that is the rest.

// A releaseChange is what a generation has of a package that is not as in the one before.
type releaseChange struct {
	Arch apk.Arch    `json:"arch"`
	Name string      `json:"name"`
	Old  apk.Version `json:"old,omitempty"` // empty: it is new
	New  apk.Version `json:"new,omitempty"` // empty: it is gone
}

func (c releaseChange) String() string {
	switch {
	case c.Old == "":
		return fmt.Sprintf("%s-%s is new", c.Name, c.New)
	case c.New == "":
		return fmt.Sprintf("%s-%s is gone", c.Name, c.Old)
	}
	return fmt.Sprintf("%s-%s for %s", c.Name, c.New, c.Old)
}

// surveyRepository tells what publishing would come to after the nodes of the findings; whole is as of a maker.
func (w *world) surveyRepository(findings []finding, whole bool) finding {
	f := finding{id: repositoryNode, verdict: stale}
	for i := range findings {
		if findings[i].verdict != upToDate {
			f.verdict, f.after = waiting, append(f.after, findings[i].roots()...)
		}
	}
	slices.Sort(f.after)
	f.after = slices.Compact(f.after)
	r := w.repository()
	current, err := r.Current()
	if f.never = errors.Is(err, fs.ErrNotExist); err != nil && !f.never {
		f.err = err
		return f
	}
	before, err := r.Present(current)
	if err != nil {
		f.err = err
		return f
	}
	after, err := w.presentAfter(before, findings, whole)
	if err != nil {
		f.err = err
		return f
	}
	f.releases = releaseChanges(before, after)
	if f.verdict == waiting || f.never {
		return f
	}
	held, err := isRolledBack(r, current, after)
	switch {
	case err != nil:
		f.err = err
	case held:
		f.verdict, f.releases = upToDate, nil
	case len(f.releases) > 0:
	case current.Key != w.keyName:
		f.changes = []change{{Action: "publish", Input: "key", Old: current.Key, New: w.keyName}}
	case current.Number < w.seen:
		f.changes = []change{{Action: "publish", Input: "generation that people have", Old: fmt.Sprint(current.Number), New: fmt.Sprint(w.seen)}}
	default:
		f.verdict = upToDate
	}
	return f
}

// presentAfter is what the next generation has. Packages that are not made are left as they are.
func (w *world) presentAfter(before repository.Releases, findings []finding, whole bool) (repository.Releases, error) {
	after := repository.Releases{}
	put := func(arch apk.Arch, name string, releases []repository.Release) {
		if after[arch] == nil {
			after[arch] = map[string][]repository.Release{}
		}
		after[arch][name] = releases
	}
	if !whole {
		for arch, names := range before {
			after[arch] = maps.Clone(names)
		}
	}
	for _, f := range findings {
		if f.verdict != upToDate {
			for _, o := range f.node.Outputs {
				if releases := before[f.node.Arch][o.Name]; len(releases) > 0 {
					put(f.node.Arch, o.Name, releases)
				}
			}
			continue
		}
		packages, err := w.packagesOf(f.node)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			put(f.node.Arch, p.Name, []repository.Release{repository.ReleaseOf(p.Package)})
		}
	}
	return after, nil
}

// releaseChanges compares what two generations have, by name and then architecture.
func releaseChanges(before, after repository.Releases) []releaseChange {
	var changes []releaseChange
	for arch, names := range after {
		for name, now := range names {
			if was := before[arch][name]; !slices.Equal(was, now) {
				changes = append(changes, releaseChange{arch, name, newestRelease(was), newestRelease(now)})
			}
		}
	}
	for arch, names := range before {
		for name, was := range names {
			if len(after[arch][name]) == 0 {
				changes = append(changes, releaseChange{arch, name, newestRelease(was), ""})
			}
		}
	}
	slices.SortFunc(changes, func(a, b releaseChange) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.Arch), string(b.Arch)))
	})
	return changes
}

func newestRelease(releases []repository.Release) (version apk.Version) {
	for _, r := range releases {
		if version == "" || apk.Compare(r.Version, version) > 0 {
			version = r.Version
		}
	}
	return version
}

// isRolledBack tells whether what the next generation would have is what one had that the present one was rolled back
// from: that is not published again.
func isRolledBack(r *repository.Repository, current repository.Generation, next repository.Releases) (bool, error) {
	if len(current.Undone) == 0 {
		return false, nil
	}
	all, err := r.Generations()
	if err != nil {
		return false, err
	}
	for _, g := range all {
		if !slices.Contains(current.Undone, g.Number) {
			continue
		}
		if had, err := r.Present(g); err != nil || len(releaseChanges(had, next)) == 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// touches tells whether what an image may be chosen from will be other than it is, as far as is known: packages of its
// ancestors, or that some are gone.
func (f *finding) touches(ancestors []*graph.Node) bool {
	made := map[releaseChange]bool{}
	for _, n := range ancestors {
		if n.Kind != graph.Packages {
			continue
		}
		for _, o := range n.Outputs {
			made[releaseChange{Arch: n.Arch, Name: o.Name}] = true
		}
	}
	return slices.ContainsFunc(f.releases, func(c releaseChange) bool {
		return c.New == "" || made[releaseChange{Arch: c.Arch, Name: c.Name}]
	})
}

// published says what of a generation is known to be other than it was, of all architectures at once.
func (f finding) published() string {
	var words []string
	for _, c := range f.releases {
		words = append(words, c.String())
	}
	return list(slices.Compact(words), 3)
}
