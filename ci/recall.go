package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"distro.internal/ci/graph"
	"distro.internal/ci/record"
	"distro.internal/melange/build"
	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
)

// Which action makes a node is only known when its environment is solved, and to
// solve one environment in a distribution takes milliseconds: seconds for all.
// But the environment is a function of little: of what the plan says, of the
// indexes of the repositories that it names, and of what its ancestors made. A
// digest of these is the node's basis. Who knows under which keys the node's
// packages were found when the basis was the same need not solve anything.
//
// What ancestors made enters by the keys of their packages, and so on down, not
// by what those were made of: a dependency that is built anew, and comes out
// equal, leaves the bases of its dependents as they were.

// recalled is what is remembered of a node that was found to be made.
type recalled struct {
	basis    string
	keys     [2]recalledKey // of the tree action and of the package action
	released [2]string      // digests of the releases by which its epoch comes out as it did: those of then, and itself
}

// A recalledKey is the digest of an action's key, by its kind.
type recalledKey struct{ kind, digest string }

// packages is the key that packages are found under.
func (r recalled) packages() string { return r.keys[1].digest }

// digests are the keys as a journal has them.
func (r recalled) digests() map[string]string {
	digests := map[string]string{}
	for _, k := range r.keys {
		digests[k.kind] = k.digest
	}
	return digests
}

// A recollection is what is remembered of all nodes of a workspace.
type recollection struct {
	file, identity string

	store string    // stamp of the store in which the results of all were seen
	seen  time.Time // when

	mu    sync.Mutex
	of    map[string]recalled // by node
	there map[string]bool     // nodes whose results this run has seen
	stale bool                // the file says something else
}

// believed is how long a look into the store counts. The store forgets what nobody has asked for.
const believed = 12 * time.Hour

const recallFormat = "made/2"

func openRecollection(file, identity string) *recollection {
	c := &recollection{file: file, identity: recallFormat + " " + identity, of: map[string]recalled{}, there: map[string]bool{}}
	if r, err := record.Open(file, c.identity); err == nil && !c.decode(r) {
		c.store, c.of = "", map[string]recalled{}
	}
	return c
}

func (c *recollection) encode(w *record.Writer, ids []string) {
	w.Text(c.store)
	w.Int(c.seen.Unix())
	w.Count(len(ids))
	for _, id := range ids {
		w.Text(id)
		w.Text(c.of[id].basis)
		for _, key := range c.of[id].keys {
			w.Text(key.kind)
			w.Text(key.digest)
		}
		for _, digest := range c.of[id].released {
			w.Text(digest)
		}
	}
}

func (c *recollection) decode(r *record.Reader) bool {
	c.store, c.seen = r.Text(), time.Unix(r.Int(), 0)
	for range r.Count() {
		node, k := r.Text(), recalled{basis: r.Text()}
		for i := range k.keys {
			k.keys[i] = recalledKey{r.Text(), r.Text()}
		}
		for i := range k.released {
			k.released[i] = r.Text()
		}
		c.of[node] = k
	}
	return r.Ended()
}

func (c *recollection) get(node string) (recalled, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.of[node]
	return k, ok
}

// found takes in what was just found in the store.
func (c *recollection) found(node string, k recalled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[node] != k {
		c.of[node], c.stale = k, true
	}
	c.there[node] = true
}

// whole tells whether the store is as it was when the results of all were seen in it.
func (c *recollection) whole(stamp string) bool {
	age := time.Since(c.seen)
	return stamp != "" && stamp == c.store && 0 <= age && age < believed
}

// save keeps what is remembered of the nodes of a graph, given the stamp of the store before any of them was looked
// for.
func (c *recollection) save(stamp string, nodes []*graph.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	all := stamp != ""
	for _, n := range nodes {
		if _, ok := c.of[n.ID]; ok {
			ids = append(ids, n.ID)
			all = all && c.there[n.ID]
		}
	}
	if all && !c.whole(stamp) {
		c.store, c.seen, c.stale = stamp, time.Now(), true
	}
	if !c.stale && len(ids) == len(c.of) {
		return nil
	}
	w := &record.Writer{}
	c.encode(w, ids)
	if err := record.Save(c.file, c.identity, w); err != nil {
		return fmt.Errorf("keeping what was found to be made: %w", err)
	}
	c.stale = false
	return nil
}

// recall finds a node, whose ancestors are all made, by what is remembered of it.
func (w *world) recall(ctx context.Context, n *graph.Node) (recalled, bool) {
	k, ok := w.recollection.get(n.ID)
	if !ok {
		return k, false
	}
	basis, err := w.basis(ctx, n)
	if err != nil || basis != k.basis || !slices.Contains(k.released[:], cas.DigestOf([]byte(w.releasesOf(n))).Hash) {
		return k, false
	}
	if !w.recollection.whole(w.stamp()) {
		if !w.there(k) {
			return k, false
		}
	}
	w.recollection.found(n.ID, k)
	w.sum(n, k.packages())
	return k, true
}

// there tells whether the store has what was found: the packages, and what is known of the trees that they were made of.
func (w *world) there(k recalled) bool {
	trees, err := cas.ParseDigest(k.keys[0].digest)
	if err == nil {
		_, err = w.builder.Store.Recorded(trees)
	}
	packages, parseErr := cas.ParseDigest(k.packages())
	if err == nil && parseErr == nil {
		_, err = w.builder.Store.Result(packages)
	}
	return err == nil && parseErr == nil
}

// remember keeps what was found of a node by solving its environment.
func (w *world) remember(ctx context.Context, n *graph.Node, made *build.Result) {
	basis, err := w.basis(ctx, n)
	if err != nil || len(made.Keys) != len(recalled{}.keys) {
		return
	}
	k := recalled{basis: basis}
	for i, text := range []string{w.releasesOf(n), releasedAs(made.Packages)} {
		k.released[i] = cas.DigestOf([]byte(text)).Hash
	}
	for i, key := range made.Keys {
		k.keys[i] = recalledKey{key.Kind(), key.Digest().String()}
	}
	w.recollection.found(n.ID, k)
	w.sum(n, k.packages())
}

// basis is a digest of all that a node's keys are a function of.
func (w *world) basis(ctx context.Context, n *graph.Node) (string, error) {
	h := sha256.New()
	definition, err := n.Definition()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s %s %d %q %q %q\n", n.ID, definition, w.builder.Epoch, w.builder.Lint.Require, w.builder.Lint.Warn, w.builder.Distribution)
	if w.builder.Lint.Require != nil {
		fmt.Fprintf(h, "%s\n", n.Digests.Test) // that a test is missing may be among what is required
	}
	for _, arch := range slices.Compact([]apk.Arch{n.RootArch(), n.Arch}) {
		state, err := w.offeredNow(ctx, n.Repositories, n.Keyring, arch)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, arch, state)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addSums(h, n)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sum notes what a node offers to those who need it: its packages, and those of all that it needs.
func (w *world) sum(n *graph.Node, packages string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := sha256.New()
	fmt.Fprintln(h, n.ID, packages)
	w.addSums(h, n)
	w.sums[n.ID] = [sha256.Size]byte(h.Sum(nil))
}

// addSums adds those of what a node needs.
func (w *world) addSums(h hash.Hash, n *graph.Node) {
	text := make([]byte, 0, len(n.Needs())*sha256.Size)
	for _, to := range n.Needs() {
		sum := w.sums[to.ID]
		text = append(text, sum[:]...)
	}
	h.Write(text)
}

// stamp is the store's, as it was when this run first looked.
func (w *world) stamp() string {
	w.stampOnce.Do(func() { w.storeStamp = w.builder.Store.Stamp() })
	return w.storeStamp
}

// packagesOf are what a node has made, which is made.
func (w *world) packagesOf(n *graph.Node) ([]build.Package, error) {
	w.mu.Lock()
	r := w.made[n.ID]
	w.mu.Unlock()
	if r != nil {
		return r.Packages, nil
	}
	k, ok := w.recollection.get(n.ID)
	if !ok {
		return nil, fmt.Errorf("%s is not made", n.ID)
	}
	d, err := cas.ParseDigest(k.packages())
	if err != nil {
		return nil, err
	}
	names := make([]string, len(n.Outputs))
	for i, o := range n.Outputs {
		names[i] = o.Name
	}
	packages, err := w.builder.Recall(d, names)
	if err != nil {
		return nil, fmt.Errorf("finding the packages of %s, which were there a moment ago: %w", n.ID, err)
	}
	w.mu.Lock()
	w.made[n.ID] = &build.Result{Packages: packages}
	w.mu.Unlock()
	return packages, nil
}

// offeredNow names what the repositories of an environment have: the digest of each index, the newest generation that
// was seen of it, and who vouches for it.
func (w *world) offeredNow(ctx context.Context, repositories, keyring []string, arch apk.Arch) (string, error) {
	name := externalName(repositories, keyring, arch)
	w.mu.Lock()
	defer w.mu.Unlock()
	if state, ok := w.states[name]; ok {
		return state, nil
	}
	state, err := w.lookAt(ctx, slices.Concat(repositories, w.config.Repositories), slices.Concat(keyring, w.config.Keyring), arch)
	if err == nil {
		w.states[name] = state
	}
	return state, err
}

func (w *world) lookAt(ctx context.Context, urls, keys []string, arch apk.Arch) (string, error) {
	h := sha256.New()
	for _, key := range w.paths(keys) {
		data, err := os.ReadFile(key)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %s\n", key, cas.DigestOf(data))
	}
	trusted, err := apk.LoadKeyring(w.paths(keys)...)
	if err != nil {
		return "", err
	}
	for _, url := range urls {
		tag, address := splitTag(url)
		s := repository.Source{URL: w.path(address), Keyring: trusted, Tag: tag}
		x, err := w.client.Snapshot(ctx, s, arch)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintln(h, tag, address, "none")
		case err != nil:
			return "", err
		default:
			fmt.Fprintln(h, tag, address, x.Digest, x.Seen(), w.client.AllowOlder)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// externalName tells the repositories of environments apart.
func externalName(repositories, keyring []string, arch apk.Arch) string {
	return fmt.Sprintf("%s %q %q", arch, repositories, keyring)
}
