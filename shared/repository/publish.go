package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
)

// A Repository is a folder that is published, by a web server or as it is. On the disk:
//
//	<arch>                  -> .current/<arch>: what a client reads
//	.current                -> .generations/<n>: replaced by one rename, for all architectures
//	.generations/<n>/<arch>/   APKINDEX.tar.gz and the packages it names
//	.generations/<n>/generation.json
//	.pool/<sha256>.apk      each package's bytes once; generations hold hard links to them
//	.lock                   held by whoever publishes
//
// A generation is never changed. One that a process dies over has no number yet, and the next
// Publish takes it away. The indexes of a generation say its number, which only grows: a client that has seen
// one takes none that is older.
type Repository struct {
	Dir         string
	Signer      apk.Signer  // of the indexes; nil leaves them unsigned
	Keyring     apk.Keyring // if set, the present indexes must be signed by one of these keys to be added to
	Description string      // of the indexes
	Keep        int         // how many generations stay, the current one included; 0 means 5
}

// A Change is what a new generation has that the present one has not.
type Change struct {
	Add     map[apk.Arch][]Addition
	Remove  map[apk.Arch][]string // "name" for all versions, or "name-version"
	Replace bool                  // the new generation has nothing but what Add says
	After   int                   // the newest generation that clients have seen of this repository, wherever it was published

	// Respect keeps a rollback: when the change comes to one of the generations that were rolled back, nothing is
	// published, and the error is ErrUndone.
	Respect bool
}

// ErrUndone is the cause when a change comes to what was rolled back.
var ErrUndone = errors.New("this is what was rolled back")

// An Addition is a package and its file, which gets another hard link, and so must not be changed later.
type Addition struct {
	Package *apk.Package // with the Size and the Checksum of the file
	File    string
}

// A Generation is one consistent state of a repository.
type Generation struct {
	Number   int
	Dir      string
	Archs    []apk.Arch // sorted
	Packages int        // of all architectures
	Key      string     // name of the key that signed its indexes; empty for none

	Of     int   // the generation whose content it has, when it is a rollback to that one
	Undone []int // those that it was rolled back from, oldest first
}

// Index reads the index of one architecture of the generation.
func (g Generation) Index(arch apk.Arch, v apk.Verify) (*apk.Index, error) {
	f, err := os.Open(filepath.Join(g.Dir, string(arch), indexFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return apk.ReadIndex(f, v)
}

const (
	currentLink    = ".current"
	generationsDir = ".generations"
	poolDir        = ".pool"
	lockFile       = ".lock"
	stateFile      = "generation.json"
)

// state tells whether a generation would be the same as another one without reading either.
type state struct {
	Key      string              `json:"key,omitempty"` // name of the key that signed it
	Indexes  map[apk.Arch]string `json:"indexes"`       // SHA-256 of the text of each index, hex
	Packages int                 `json:"packages"`
	Of       int                 `json:"of,omitempty"` // see Generation
	Undone   []int               `json:"undone,omitempty"`

	// Higher are the packages of earlier generations that this one has only in a lower version, or not at all: the
	// highest of each name.
	Higher map[apk.Arch]map[string]Release `json:"higher,omitempty"`
}

func (s state) equal(t state) bool { return s.Key == t.Key && maps.Equal(s.Indexes, t.Indexes) }

// Publish makes the change visible in one step, and returns the generation that is then current. A change
// that changes nothing makes no generation. Publishers wait for each other. Whatever happens in the middle
// of it, readers see the old generation whole or the new one whole.
//
// A package of the name and version of a present one takes its place.
func (r *Repository) Publish(ctx context.Context, c Change) (Generation, error) {
	g, err := r.publish(ctx, c)
	if err != nil {
		return Generation{}, fmt.Errorf("publishing to %s: %w", r.Dir, err)
	}
	return g, nil
}

func (r *Repository) publish(ctx context.Context, c Change) (Generation, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return Generation{}, err
	}
	defer unlock()
	old, err := r.Current()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Generation{}, err
	}
	return r.follow(ctx, old, old, c, nil)
}

// follow makes the generation that comes after current: the one called base, with a change; undone are those that it
// rolls back. The lock is held.
func (r *Repository) follow(ctx context.Context, current, base Generation, c Change, undone []int) (Generation, error) {
	next, err := r.plan(base, c)
	if err != nil {
		return Generation{}, err
	}
	next.after = c.After
	before, err := readState(current.Dir)
	if err == nil && before.equal(next.state) && current.Number >= c.After {
		return current, nil
	}
	if c.Respect && r.isUndone(current, next.state) {
		return Generation{}, ErrUndone
	}
	if base.Number != current.Number {
		next.state.Of, next.state.Undone = base.Number, undone
	}
	if next.state.Higher, err = r.higher(current, next.index); err != nil {
		return Generation{}, err
	}
	g, err := r.write(ctx, next)
	if err != nil {
		return Generation{}, err
	}
	return g, r.expire(g)
}

// A plan is a generation that is decided and not written.
type plan struct {
	old   Generation
	state state
	archs []apk.Arch // sorted
	index map[apk.Arch]*apk.Index
	added map[apk.Arch]map[string]Addition // by file name
	after int                              // see Change
}

func (r *Repository) plan(old Generation, c Change) (plan, error) {
	p := plan{old: old, index: make(map[apk.Arch]*apk.Index), added: make(map[apk.Arch]map[string]Addition)}
	p.state.Indexes = make(map[apk.Arch]string)
	if r.Signer != nil {
		p.state.Key = r.Signer.KeyName()
	}
	archs := slices.Collect(maps.Keys(c.Add))
	if !c.Replace {
		archs = append(archs, old.Archs...)
	}
	slices.Sort(archs)
	p.archs = slices.Compact(archs)
	for _, arch := range p.archs {
		if arch == "" || arch[0] == '.' || strings.ContainsAny(string(arch), "/\x00") {
			return plan{}, fmt.Errorf("architecture %q: not a name of a folder", arch)
		}
		x := &apk.Index{}
		if slices.Contains(old.Archs, arch) {
			var err error
			if x, err = old.Index(arch, apk.Verify{Keyring: r.Keyring, Insecure: r.Keyring == nil}); err != nil {
				return plan{}, err
			}
		}
		if err := p.change(arch, x, c); err != nil {
			return plan{}, err
		}
		x.Description = r.Description
		sum, err := textSum(x)
		if err != nil {
			return plan{}, err
		}
		p.index[arch], p.state.Indexes[arch] = x, sum
		p.state.Packages += len(x.Packages)
	}
	return p, nil
}

// change makes the old index of one architecture the new one. An addition that is there already, by its
// checksum, is none: its file is not looked at.
func (p *plan) change(arch apk.Arch, x *apk.Index, c Change) error {
	there := make(map[string]apk.Checksum, len(x.Packages))
	for _, old := range x.Packages {
		there[old.FileName()] = old.Checksum
	}
	remove := make(map[string]bool)
	for _, name := range c.Remove[arch] {
		remove[name] = true
	}
	x.Packages = slices.DeleteFunc(x.Packages, func(p *apk.Package) bool {
		return c.Replace || remove[p.Name] || remove[p.Name+"-"+string(p.Version)]
	})
	p.added[arch] = make(map[string]Addition)
	packages := make([]*apk.Package, len(c.Add[arch]))
	for i, a := range c.Add[arch] {
		name := a.Package.FileName()
		if strings.Contains(name, "/") || name[0] == '.' {
			return fmt.Errorf("package %q: not a name of a file", name)
		}
		if twin, ok := p.added[arch][name]; ok && twin.Package.Checksum != a.Package.Checksum {
			return fmt.Errorf("adding %s twice for %s, with different content", name, arch)
		}
		packages[i], p.added[arch][name] = a.Package, a
	}
	x.Merge(packages...)
	maps.DeleteFunc(p.added[arch], func(name string, a Addition) bool { return there[name] == a.Package.Checksum })
	return nil
}

func textSum(x *apk.Index) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", x.Description)
	if err := x.Write(h); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write makes the generation, and then makes it current.
func (r *Repository) write(ctx context.Context, p plan) (Generation, error) {
	generations := filepath.Join(r.Dir, generationsDir)
	for _, dir := range []string{generations, filepath.Join(r.Dir, poolDir)} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return Generation{}, err
		}
	}
	numbers, err := r.numbers()
	if err != nil {
		return Generation{}, err
	}
	g := Generation{Number: p.after + 1, Archs: p.archs, Packages: p.state.Packages, Key: p.state.Key, Of: p.state.Of, Undone: p.state.Undone}
	if len(numbers) > 0 {
		g.Number = max(g.Number, numbers[len(numbers)-1]+1)
	}
	g.Dir = filepath.Join(generations, strconv.Itoa(g.Number))
	temp := filepath.Join(generations, partialPrefix+strconv.Itoa(g.Number))
	if err := r.removePartial(); err != nil {
		return Generation{}, err
	}
	for _, arch := range p.archs {
		p.index[arch].Generation = g.Number
		if err := r.writeArch(ctx, filepath.Join(temp, string(arch)), p, arch); err != nil {
			return Generation{}, fmt.Errorf("%s: %w", arch, err)
		}
	}
	b, err := json.Marshal(p.state)
	if err != nil {
		return Generation{}, err
	}
	if err := os.MkdirAll(temp, 0o777); err != nil {
		return Generation{}, err
	}
	if err := writeFile(filepath.Join(temp, stateFile), b); err != nil {
		return Generation{}, err
	}
	for _, dir := range []string{filepath.Join(r.Dir, poolDir), temp} {
		if err := syncDir(dir); err != nil {
			return Generation{}, err
		}
	}
	if err := os.Rename(temp, g.Dir); err != nil {
		return Generation{}, err
	}
	if err := syncDir(generations); err != nil {
		return Generation{}, err
	}
	return g, r.makeCurrent(g)
}

const partialPrefix = ".partial-"

func (r *Repository) removePartial() error {
	left, err := filepath.Glob(filepath.Join(r.Dir, generationsDir, partialPrefix+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// writeArch links the packages of one architecture and writes their index. Packages that were there before
// are linked from the old generation by their name: none of them is read.
func (r *Repository) writeArch(ctx context.Context, dir string, p plan, arch apk.Arch) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for _, pkg := range p.index[arch].Packages {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := pkg.FileName()
		from := filepath.Join(p.old.Dir, string(arch), name)
		if a, ok := p.added[arch][name]; ok {
			var err error
			if from, err = r.ingest(ctx, a); err != nil {
				return fmt.Errorf("adding %s: %w", name, err)
			}
		}
		if err := os.Link(from, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	var index bytes.Buffer
	if err := apk.WriteIndex(&index, p.index[arch], r.Signer); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, indexFile), index.Bytes()); err != nil {
		return err
	}
	return syncDir(dir)
}

// ingest brings the file into the pool, after making sure that it is the package it is said to be.
func (r *Repository) ingest(ctx context.Context, a Addition) (string, error) {
	if a.Package.Size == 0 || a.Package.Checksum.IsZero() {
		return "", errors.New("size or checksum is not given")
	}
	if err := verifyHead(a.File, a.Package, apk.Limits{}); err != nil {
		return "", err
	}
	f, err := os.Open(a.File)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	to := filepath.Join(r.Dir, poolDir, hex.EncodeToString(h.Sum(nil))+".apk")
	if info, err := os.Stat(to); err == nil && info.Size() == a.Package.Size {
		return to, nil
	}
	return to, r.linkOrCopy(f, a.File, to)
}

// linkOrCopy gives the content of f, which is the file from, another name, on another disk by a copy.
func (r *Repository) linkOrCopy(f *os.File, from, to string) error {
	temp := to + ".tmp" // nobody else writes: the lock is held
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(from, temp); err == nil {
		return errors.Join(f.Sync(), os.Chmod(temp, 0o644), os.Rename(temp, to))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	if err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return os.Rename(temp, to)
}

// makeCurrent is the moment in which everything changes. Links of architectures come before it when
// they are new, after it when they lead nowhere any more.
func (r *Repository) makeCurrent(g Generation) error {
	for _, arch := range g.Archs {
		target := filepath.Join(currentLink, string(arch))
		if have, err := os.Readlink(filepath.Join(r.Dir, string(arch))); err == nil && have == target {
			continue
		}
		if err := r.replaceLink(target, string(arch)); err != nil {
			return err
		}
	}
	if err := r.replaceLink(filepath.Join(generationsDir, strconv.Itoa(g.Number)), currentLink); err != nil {
		return err
	}
	return r.removeOldArchs(g)
}

func (r *Repository) replaceLink(target, name string) error {
	temp := filepath.Join(r.Dir, ".new"+name)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(r.Dir, name)); err != nil {
		return err
	}
	return syncDir(r.Dir)
}

func (r *Repository) removeOldArchs(g Generation) error {
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(r.Dir, e.Name()))
		if err != nil || target != filepath.Join(currentLink, e.Name()) || slices.Contains(g.Archs, apk.Arch(e.Name())) {
			continue
		}
		if err := os.Remove(filepath.Join(r.Dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Current returns the generation that readers see; there being none is fs.ErrNotExist.
func (r *Repository) Current() (Generation, error) {
	target, err := os.Readlink(filepath.Join(r.Dir, currentLink))
	if err != nil {
		return Generation{}, err
	}
	n, err := strconv.Atoi(filepath.Base(target))
	if err != nil {
		return Generation{}, fmt.Errorf("%s leads to %s, which is no generation", filepath.Join(r.Dir, currentLink), target)
	}
	return r.generation(n)
}

func (r *Repository) generation(n int) (Generation, error) {
	g := Generation{Number: n, Dir: filepath.Join(r.Dir, generationsDir, strconv.Itoa(n))}
	s, err := readState(g.Dir)
	if err != nil {
		return Generation{}, err
	}
	g.Archs, g.Packages, g.Key, g.Of, g.Undone = slices.Sorted(maps.Keys(s.Indexes)), s.Packages, s.Key, s.Of, s.Undone
	return g, nil
}

func readState(dir string) (state, error) {
	var s state
	if dir == "" {
		return s, fs.ErrNotExist
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

// Generations lists those that are there, oldest first.
func (r *Repository) Generations() ([]Generation, error) {
	numbers, err := r.numbers()
	if err != nil {
		return nil, err
	}
	var all []Generation
	for _, n := range numbers {
		g, err := r.generation(n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // expired meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

func (r *Repository) numbers() ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, generationsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Rollback publishes what an earlier generation had, as a new generation: its number is higher than all
// before, so clients that refuse to go back take it. The earlier one being current already, or no different,
// makes none.
func (r *Repository) Rollback(ctx context.Context, n int) (Generation, error) {
	g, err := r.rollback(ctx, n)
	if err != nil {
		return Generation{}, fmt.Errorf("rolling back %s to generation %d: %w", r.Dir, n, err)
	}
	return g, nil
}

func (r *Repository) rollback(ctx context.Context, n int) (Generation, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return Generation{}, err
	}
	defer unlock()
	current, err := r.Current()
	if err != nil {
		return Generation{}, err
	}
	base, err := r.generation(n)
	if errors.Is(err, fs.ErrNotExist) {
		numbers, _ := r.numbers()
		return Generation{}, fmt.Errorf("it is not kept: there are %s", strings.Trim(fmt.Sprint(numbers), "[]"))
	} else if err != nil {
		return Generation{}, err
	}
	if s, err := readState(current.Dir); err == nil && s.Key != "" && r.Signer == nil {
		return Generation{}, fmt.Errorf("its indexes are signed, by %s, and there is no key to sign them anew", s.Key)
	}
	return r.follow(ctx, current, base, Change{}, undone(current, base))
}

// undone are the generations that a rollback takes back: those that are newer than what it goes to. To go forth again
// takes nothing back.
func undone(current, base Generation) []int {
	list := slices.DeleteFunc(slices.Clone(current.Undone), func(n int) bool { return n <= base.Number })
	if cmp.Or(current.Of, current.Number) > base.Number {
		list = append(list, current.Number)
	}
	return list
}

// isUndone tells whether a state is one that the current generation was rolled back from.
func (r *Repository) isUndone(current Generation, next state) bool {
	return slices.ContainsFunc(current.Undone, func(n int) bool {
		s, err := readState(filepath.Join(r.Dir, generationsDir, strconv.Itoa(n)))
		return err == nil && s.equal(next)
	})
}

// expire removes generations beyond Keep, oldest first, and the packages that were only theirs: those in
// the pool that have no other name.
func (r *Repository) expire(current Generation) error {
	keep := r.Keep
	if keep <= 0 {
		keep = 5
	}
	numbers, err := r.numbers()
	if err != nil {
		return err
	}
	numbers = slices.DeleteFunc(numbers, func(n int) bool { return n == current.Number })
	if len(numbers) < keep {
		return nil
	}
	for _, n := range numbers[:len(numbers)-keep+1] {
		dir := filepath.Join(r.Dir, generationsDir, strconv.Itoa(n))
		aside := filepath.Join(r.Dir, generationsDir, partialPrefix+strconv.Itoa(n))
		if err := errors.Join(os.Rename(dir, aside), os.RemoveAll(aside)); err != nil {
			return err
		}
	}
	return r.emptyPool()
}

func (r *Repository) emptyPool() error {
	pool := filepath.Join(r.Dir, poolDir)
	entries, err := os.ReadDir(pool)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var st unix.Stat_t
		name := filepath.Join(pool, e.Name())
		if err := unix.Lstat(name, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: name, Err: err}
		}
		if st.Nlink > 1 {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// lock waits until nobody else publishes.
func (r *Repository) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(r.Dir, 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(r.Dir, lockFile), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// syncDir brings the names in a directory to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
