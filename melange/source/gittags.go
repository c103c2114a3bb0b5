package source

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

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"

	"distro.internal/shared/atomicfile"
)

// A gitTag is a tag as a server has it.
type gitTag struct {
	name      string
	commit    plumbing.Hash
	annotated bool
}

// tagsOf lists the tags of a repository, by name. The one of a file:// address is read where it is.
func tagsOf(ctx context.Context, uri string) ([]gitTag, error) {
	tags, err := listTags(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %s: %w", redacted(uri), err)
	}
	slices.SortFunc(tags, func(a, b gitTag) int { return strings.Compare(a.name, b.name) })
	return tags, nil
}

func listTags(ctx context.Context, uri string) ([]gitTag, error) {
	if dir, ok := strings.CutPrefix(uri, "file://"); ok {
		return localTags(dir)
	}
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{uri}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{PeelingOption: git.AppendPeeled})
	if err != nil {
		return nil, err
	}
	byName := map[string]gitTag{}
	for _, ref := range refs {
		name, isTag := strings.CutPrefix(ref.Name().String(), "refs/tags/")
		name, annotated := strings.CutSuffix(name, peeled)
		if isTag && (annotated || !byName[name].annotated) {
			byName[name] = gitTag{name, ref.Hash(), annotated}
		}
	}
	tags := make([]gitTag, 0, len(byName))
	for _, name := range sortedKeys(byName) {
		tags = append(tags, byName[name])
	}
	return tags, nil
}

func localTags(dir string) ([]gitTag, error) {
	repo, err := git.PlainOpen(dir)
	if err != nil {
		return nil, err
	}
	iter, err := repo.Tags()
	if err != nil {
		return nil, err
	}
	var tags []gitTag
	return tags, iter.ForEach(func(ref *plumbing.Reference) error {
		commit, err := repo.ResolveRevision(plumbing.Revision(ref.Name()))
		if err == nil { // a tag may be of no commit
			tags = append(tags, gitTag{ref.Name().Short(), *commit, *commit != ref.Hash()})
		}
		return nil
	})
}

// A tagMemory keeps what tags a server had, for each commit that was fetched from it.
type tagMemory struct {
	dir    string
	wanted bool
}

// ask asks the server, and keeps the answer.
func (m tagMemory) ask(ctx context.Context, r *repository, uri string) ([]gitTag, error) {
	if !m.wanted {
		return nil, nil
	}
	if tags, err := m.recall(r.commit); err == nil {
		return tags, nil
	}
	tags, err := tagsOf(ctx, uri)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, t := range tags {
		kind := "plain"
		if t.annotated {
			kind = "annotated"
		}
		fmt.Fprintf(&text, "%s %s %s\n", t.commit, kind, t.name)
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return nil, err
	}
	return tags, atomicfile.Write(m.file(r.commit), 0o644, atomicfile.Bytes(text.Bytes()))
}

func (m tagMemory) file(commit plumbing.Hash) string { return filepath.Join(m.dir, commit.String()) }

// recall returns what was kept, or [fs.ErrNotExist].
func (m tagMemory) recall(commit plumbing.Hash) ([]gitTag, error) {
	if !m.wanted {
		return nil, nil
	}
	text, err := os.ReadFile(m.file(commit))
	if err != nil {
		return nil, err
	}
	var tags []gitTag
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) != 3 || !plumbing.IsHash(words[0]) {
			return nil, fmt.Errorf("%s: %q is no tag: %w", m.file(commit), line, fs.ErrNotExist)
		}
		tags = append(tags, gitTag{words[2], plumbing.NewHash(words[0]), words[1] == "annotated"})
	}
	return tags, nil
}

// tagRefs are the tags of a history. An annotated one is an object made up from its commit, as the recipe's own is.
func tagRefs(r *repository, past *past) ([]*plumbing.Reference, error) {
	in := make(map[plumbing.Hash]bool, len(past.commits))
	for _, c := range past.commits {
		in[c.hash] = true
	}
	var refs []*plumbing.Reference
	for _, t := range r.tags {
		ref := plumbing.NewHashReference(plumbing.NewTagReferenceName(t.name), t.commit)
		if !in[t.commit] || ref.Name().Validate() != nil || strings.ContainsFunc(t.name, isUnsafe) {
			continue
		}
		if t.annotated {
			hash, err := makeTag(r, t.commit, t.name)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("tag %s", t.name), err)
			}
			ref = plumbing.NewHashReference(ref.Name(), hash)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// isUnsafe says of what is in a name that it could not be in one line, or be a file.
func isUnsafe(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }
