package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"distro.internal/melange/recipe"
	"distro.internal/shared/cas"
)

// The kinds of the actions, with the version of what they make of given
// inputs. It changes when the same inputs would give other bytes, and only then.
const (
	treeAction    = "tree/1"
	packageAction = "package/4" // 2: linters look; 4: folders without a slash
	testAction    = "test/1"
)

// treeKey names everything that the trees of a job are a function of.
func (b *Builder) treeKey(job Job) (*cas.Key, error) {
	p := job.Plan
	k := cas.NewKey(treeAction)
	k.Add("arch", string(p.Arch))
	k.Add("build arch", string(job.rootArch()))
	k.Add("plan", p.Digests().Build)
	if b.Epoch != 0 {
		k.Add("epoch", strconv.FormatInt(b.Epoch, 10))
	}
	if slices.ContainsFunc(p.Sources, recipe.Source.Locked) {
		k.Add("locked packages", "listed") // results from before this was said lack the list
	}
	return k, addSurroundings(k, job)
}

// testKey names everything that the outcome of a test is a function of.
func testKey(job Job) (*cas.Key, error) {
	k := cas.NewKey(testAction)
	k.Add("arch", string(job.Plan.Arch))
	k.Add("package", job.Test.Output)
	k.Add("plan", job.Plan.Digests().Test)
	return k, addSurroundings(k, job)
}

// addSurroundings names what the steps of a job find: the recipe's own files,
// and the packages of the environment.
func addSurroundings(k *cas.Key, job Job) error {
	for _, name := range job.Plan.LocalFiles {
		digest, err := fileDigest(job.Local, name)
		if err != nil {
			return err
		}
		k.Add("file "+name, digest)
	}
	for _, i := range job.Environment.Root {
		k.Add("package "+i.Name, i.content())
	}
	for _, i := range job.Environment.Sysroot {
		k.Add("sysroot "+i.Name, i.content())
	}
	return nil
}

// packageKey names what packages are a function of once their trees are there.
func (b *Builder) packageKey(job Job, trees *trees) (*cas.Key, error) {
	p := job.Plan
	k := cas.NewKey(packageAction)
	k.Add("arch", string(p.Arch))
	k.Add("metadata", p.Digests().Package)
	k.Add("epoch", strconv.FormatInt(trees.epoch, 10))
	for _, s := range p.Sources { // the bill of materials names them
		k.Add("source", strings.Join([]string{s.URI, s.SHA256, s.SHA512, s.Commit, s.Module, s.Version, s.Sum}, " "))
	}
	if slices.ContainsFunc(p.Sources, func(s recipe.Source) bool { return s.Kind == recipe.SourceModule }) {
		k.Add("modules", "named") // in the bill of materials, which once they were not
	}
	for _, o := range p.Outputs {
		for _, g := range o.Setcap {
			k.Add("setcap "+o.Name, fmt.Sprintf("%s %x", g.Path, g.Value))
		}
	}
	if b.Lint.Require != nil {
		k.Add("linters required", strings.Join(b.Lint.Require, " "))
		for _, o := range p.Outputs { // that a test is missing may be among what is required
			k.Add("tested by", strings.Join(testPipelines(p, o.Name), " "))
		}
	}
	if b.Lint.Warn != nil {
		k.Add("linters warning", strings.Join(b.Lint.Warn, " "))
	}
	if b.Distribution != (Distribution{}) {
		k.Add("distribution", fmt.Sprintf("%q", b.Distribution))
	}
	for _, t := range trees.outputs {
		k.Add("tree "+t.Name, t.Digest.String())
	}
	if trees.locked != (cas.Digest{}) {
		k.Add("locked packages", trees.locked.String())
	}
	extra, err := b.extra(job, trees.epoch)
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		k.Add("file "+name, cas.DigestOf(extra[name]).Hash)
	}
	return k, err
}

// fileDigest covers a file's content and whether it can be executed.
func fileDigest(dir fs.FS, name string) (string, error) {
	f, err := dir.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return fmt.Sprintf("%s/%o", hex.EncodeToString(h.Sum(nil)), info.Mode().Perm()&0o111), nil
}

// lost reports whether something stored is not there, or not any more what it was.
func lost(err error) bool { return absent(err) || errors.Is(err, cas.ErrCorrupt) }

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
