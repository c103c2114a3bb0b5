// Package inputs remembers which files something was made of, so that who has
// kept what was made can tell whether it would come out the same today without
// reading them: the idea of make, with the care of git's index.
//
// An input is what was found at a path: a file with its bytes, a folder with the
// names in it, or nothing, for also that a file is not there decides something.
// Of each the set knows what it held, as a digest, and what the file system said
// of it: size, times, inode. As long as the file system says the same nobody has
// written there. When it says something else the content is looked at: a file
// that was only touched, or checked out again, is what it was.
//
// That the same is said of the same content is true with one exception: a file
// that is written twice within one tick of the clock looks the same after both.
// So what was found shortly after it had changed is not believed by its looks
// (git calls such entries racy), and is read again next time.
//
// What is made of the files, and which, others know.
package inputs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Set is inputs, each under its path relative to a folder, or absolute. It may
// be used by many at once.
type Set struct {
	root string

	mu     sync.Mutex
	inputs []input
	number map[string]int32
}

type input struct {
	name    string
	looks   looks
	holds   digest
	changed bool // found to be otherwise, and not looked at since
}

type digest = [sha256.Size]byte

// looks are what the file system says, other than where. The zero value is not
// believed.
type looks struct {
	kind                kind
	size, mtime, ctime  int64
	inode, device, mode uint64
}

type kind uint8

const (
	unknown kind = iota
	nothing
	file
	folder
)

// unbelieved is a size that nothing has.
const unbelieved = -1

// atRest is how long something must not have changed for its looks to be
// believed: longer than the tick of any clock that a file system goes by.
const atRest = 2 * time.Second

// New returns a set of nothing yet.
func New(root string) *Set { return &Set{root: root, number: map[string]int32{}} }

// A Trail leads through all that is looked at on one way: what is made on it is
// a function of what it was made with and of these inputs. It may be used by
// many at once.
type Trail struct {
	set *Set
	mu  sync.Mutex
	met map[int32]bool
}

// Trail begins one.
func (s *Set) Trail() *Trail { return &Trail{set: s, met: map[int32]bool{}} }

// Inputs are the numbers of what was looked at, sorted.
func (t *Trail) Inputs() []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	numbers := make([]int32, 0, len(t.met))
	for n := range t.met {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// Digest names what a file holds, and whether it can be executed.
func (t *Trail) Digest(name string) (string, error) {
	found, err := t.look(name, false)
	return hex.EncodeToString(found.holds[:]), err
}

// ReadFile reads a file.
func (t *Trail) ReadFile(name string) ([]byte, error) {
	found, err := t.look(name, true)
	if err != nil {
		return nil, err
	}
	if found.kind == folder {
		return nil, &fs.PathError{Op: "read", Path: t.set.path(name), Err: unix.EISDIR}
	}
	return found.data, nil
}

// ReadDir lists a folder, sorted.
func (t *Trail) ReadDir(name string) ([]fs.DirEntry, error) {
	found, err := t.look(name, false)
	if err != nil {
		return nil, err
	}
	if found.kind != folder {
		return nil, &fs.PathError{Op: "readdir", Path: t.set.path(name), Err: unix.ENOTDIR}
	}
	return found.entries, nil
}

// Met says that what is at a path decides something, whatever it is. What the set knows already it does not look at
// again: many recipes use a pipeline, and it is read for all of them once.
func (t *Trail) Met(name string) error {
	if n, ok := t.set.known(filepath.Clean(name)); ok {
		t.note(n)
		return nil
	}
	_, err := t.look(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (t *Trail) look(name string, data bool) (found, error) {
	name = filepath.Clean(name)
	found, err := look(t.set.path(name), data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	t.note(t.set.put(name, found))
	return found, err
}

func (t *Trail) note(n int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.met[n] = true
}

// known tells the number of an input that was found, and of which nothing else was heard since.
func (s *Set) known(name string) (int32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.number[name]
	return n, ok && !s.inputs[n].changed
}

func (s *Set) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.root, name)
}

// put takes in what was found. What is found twice, and is not the same, was
// changed by somebody meanwhile: then nobody knows which of them counted.
func (s *Set) put(name string, f found) int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.number[name]
	if !ok {
		n = int32(len(s.inputs))
		s.number[name] = n
		s.inputs = append(s.inputs, input{name: name, looks: f.looks, holds: f.holds})
		return n
	}
	i := &s.inputs[n]
	switch {
	case i.changed:
		*i = input{name: name, looks: f.looks, holds: f.holds}
	case i.holds != f.holds:
		i.looks, i.holds = looks{}, digest{}
	}
	return n
}

// found is what is at a path.
type found struct {
	looks
	holds   digest
	data    []byte        // of a file
	entries []fs.DirEntry // of a folder
	info    fs.FileInfo
}

// look reads what is at a path; the bytes of a file it keeps if they are wanted. That nothing is there is an error, and something
// that was found.
func look(path string, data bool) (found, error) {
	began := time.Now()
	f, err := os.Open(path)
	if err != nil {
		if absent(err) {
			return found{looks: looks{kind: nothing}}, err
		}
		return found{}, err
	}
	defer f.Close()
	before, err := looksOf(f)
	if err != nil {
		return found{}, err
	}
	found := found{looks: before}
	if found.info, err = f.Stat(); err != nil {
		return found, err
	}
	if before.kind == folder {
		if found.entries, err = os.ReadDir(path); err == nil {
			found.holds = listing(found.entries)
		}
	} else {
		found.data, found.holds, err = read(f, before, data)
	}
	if err != nil {
		return found, err
	}
	after, err := looksOf(f)
	if newest := time.Unix(0, max(before.mtime, before.ctime)); err != nil || after != before || began.Sub(newest) < atRest {
		found.looks = looks{kind: before.kind, size: unbelieved}
	}
	return found, err
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// hashedAtOnce is how much of a file is in memory when its bytes are not wanted. Most are smaller.
const hashedAtOnce = 32 << 10

// read reads a file, and keeps its bytes if they are wanted.
func read(f *os.File, l looks, wanted bool) ([]byte, digest, error) {
	h := sha256.New()
	fmt.Fprintln(h, l.mode&0o111 != 0) // that it can be executed
	if !wanted {
		_, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, min(l.size+bytes.MinRead, hashedAtOnce)))
		return nil, digest(h.Sum(nil)), err
	}
	b := bytes.NewBuffer(make([]byte, 0, l.size+bytes.MinRead))
	_, err := b.ReadFrom(f)
	h.Write(b.Bytes())
	return b.Bytes(), digest(h.Sum(nil)), err
}

func listing(entries []fs.DirEntry) digest {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%d %s %v\n", len(e.Name()), e.Name(), e.Type())
	}
	return digest(h.Sum(nil))
}

func looksOf(f *os.File) (looks, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return looks{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return looksOfStat(&st), nil
}

func looksOfStat(st *unix.Stat_t) looks {
	l := looks{
		kind: file, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
		inode: st.Ino, device: st.Dev, mode: uint64(st.Mode),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		l.kind = folder
	}
	return l
}

// Check looks at all inputs, and reports whether any is not what it was. Then
// Changed tells which, until a trail meets it again. What only looks otherwise
// is noted: refreshed tells that the set is worth keeping anew.
func (s *Set) Check() (changed, refreshed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := checker{Set: s, whole: make([]atomic.Bool, len(s.inputs))}
	// Folders come first: where no name came or went, what was not there is not there still.
	c.all(func(i *input) bool { return i.looks.kind == folder })
	c.all(func(i *input) bool { return i.looks.kind != folder })
	return c.changed.Load(), c.refreshed.Load()
}

type checker struct {
	*Set
	whole              []atomic.Bool // folders that look as they did
	changed, refreshed atomic.Bool
}

// all checks the inputs of some kinds, on all processors.
func (c *checker) all(which func(*input) bool) {
	workers := runtime.GOMAXPROCS(0)
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for n := len(c.inputs) * w / workers; n < len(c.inputs)*(w+1)/workers; n++ {
				if which(&c.inputs[n]) {
					c.one(int32(n))
				}
			}
		})
	}
	work.Wait()
}

func (c *checker) one(n int32) {
	i := &c.inputs[n]
	if i.looks.kind == nothing {
		if parent, ok := c.number[filepath.Dir(i.name)]; ok && c.whole[parent].Load() {
			return
		}
	}
	path := c.path(i.name)
	var st unix.Stat_t
	is := looks{kind: nothing}
	if err := unix.Stat(path, &st); err == nil {
		is = looksOfStat(&st)
	} else if !absent(err) {
		is = looks{}
	}
	if is == i.looks && is.kind != unknown {
		c.whole[n].Store(is.kind == folder)
		return
	}
	found, err := look(path, false)
	if err != nil && !absent(err) || found.kind != i.looks.kind || found.holds != i.holds {
		i.changed = true
		c.changed.Store(true)
		return
	}
	i.looks = found.looks
	if found.looks.size != unbelieved {
		c.refreshed.Store(true)
	}
}

// Changed reports whether one of some inputs was found to be otherwise, or was
// never known for certain.
func (s *Set) Changed(numbers []int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(numbers, func(n int32) bool { return s.inputs[n].changed })
}

// FS is a folder, what is looked at in it being met.
func (t *Trail) FS(dir string) fs.FS { return folderFS{t, dir} }

type folderFS struct {
	trail *Trail
	dir   string
}

func (f folderFS) name(op, name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return filepath.Join(f.dir, filepath.FromSlash(name)), nil
}

func (f folderFS) ReadFile(name string) ([]byte, error) {
	path, err := f.name("open", name)
	if err != nil {
		return nil, err
	}
	return f.trail.ReadFile(path)
}

func (f folderFS) ReadDir(name string) ([]fs.DirEntry, error) {
	path, err := f.name("readdir", name)
	if err != nil {
		return nil, err
	}
	return f.trail.ReadDir(path)
}

func (f folderFS) Stat(name string) (fs.FileInfo, error) {
	path, err := f.name("stat", name)
	if err != nil {
		return nil, err
	}
	found, err := f.trail.look(path, false)
	return found.info, err
}

func (f folderFS) Open(name string) (fs.File, error) {
	path, err := f.name("open", name)
	if err != nil {
		return nil, err
	}
	found, err := f.trail.look(path, true)
	if err != nil {
		return nil, err
	}
	return &openFile{Reader: bytes.NewReader(found.data), found: found}, nil
}

// openFile is a file that was read.
type openFile struct {
	*bytes.Reader
	found found
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.found.info, nil }
func (f *openFile) Close() error               { return nil }

func (f *openFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || len(f.found.entries) == 0 {
		if n > 0 {
			return nil, io.EOF
		}
		all := f.found.entries
		f.found.entries = nil
		return all, nil
	}
	n = min(n, len(f.found.entries))
	some := f.found.entries[:n]
	f.found.entries = f.found.entries[n:]
	return some, nil
}
