package cas

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
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
	"sync"
	"syscall"
	"time"

	"distro.internal/shared/atomicfile"
)

// A Stat remembers the digests of files together with what the file system said of them (size, times,
// inode), so that a file that was not touched is not read again. It lives in one file between runs.
//
// It has git's problem of the racy timestamp: a file written twice within one tick of the clock looks
// the same after both. So a digest is remembered only of a file that had been at rest for a while when it was
// read.
type Stat struct {
	file string

	mu      sync.Mutex
	known   map[string]*statEntry
	changed bool
}

type statEntry struct {
	signature
	hash string
	day  int64 // of the last use, in days since 1970
}

// signature is what changes when a file does. ctime is the one that nobody can set back.
type signature struct {
	size, mtime, ctime int64
	inode              uint64
}

// statFormat heads the file; each line after it holds hash, size, mtime, ctime, inode, day, path.
const statFormat = "stat/1"

// atRest is how long a file must not have changed for its digest to be remembered: longer than the
// clock tick of any file system that sources lie on.
const atRest = 2 * time.Second

// forgetAfter is how many days a file is remembered that nobody asks for.
const forgetAfter = 30

// OpenStat reads what was remembered. A file that is missing or damaged remembers nothing.
func OpenStat(file string) (*Stat, error) {
	s := &Stat{file: file, known: make(map[string]*statEntry)}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if known, err := parseStat(string(b)); err == nil {
		s.known = known
	}
	return s, nil
}

func parseStat(text string) (map[string]*statEntry, error) {
	head, rest, _ := strings.Cut(text, "\n")
	count, ok := strings.CutPrefix(head, statFormat+" ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 0 || n > len(rest) {
		return nil, errors.New("not a memory of files")
	}
	known := make(map[string]*statEntry, n)
	entries := make([]statEntry, 0, n)
	for line := range strings.Lines(rest) {
		line, whole := strings.CutSuffix(line, "\n")
		e, name, err := parseStatLine(line)
		if err != nil || !whole || len(entries) == n {
			return nil, fmt.Errorf("bad line %.100q", line)
		}
		entries = append(entries, e)
		known[name] = &entries[len(entries)-1]
	}
	if len(entries) != n {
		return nil, io.ErrUnexpectedEOF
	}
	return known, nil
}

func parseStatLine(line string) (e statEntry, name string, err error) {
	hash, rest, _ := strings.Cut(line, " ")
	e.hash = strings.Clone(hash)
	var inode int64
	for _, field := range []*int64{&e.size, &e.mtime, &e.ctime, &inode, &e.day} {
		var number string
		number, rest, _ = strings.Cut(rest, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return e, "", err
		}
		*field = n
	}
	e.inode = uint64(inode)
	return e, strings.Clone(rest), Digest{Hash: hash, Size: e.size}.check()
}

// Digest returns the digest of the file's content, reading it only when it may have changed.
func (s *Stat) Digest(name string) (Digest, error) {
	return s.DigestBy(name, func() (Digest, error) { return digestFile(name) })
}

// DigestBy is Digest for who has a use of their own for the content when it is read.
func (s *Stat) DigestBy(name string, read func() (Digest, error)) (Digest, error) {
	before, err := signatureOf(name)
	if err != nil {
		return Digest{}, err
	}
	today := time.Now().Unix() / (24 * 60 * 60)
	s.mu.Lock()
	e := s.known[name]
	if e != nil && e.signature == before {
		if e.day != today {
			e.day, s.changed = today, true
		}
		s.mu.Unlock()
		return Digest{Hash: e.hash, Size: e.size}, nil
	}
	s.mu.Unlock()

	start := time.Now()
	d, err := read()
	if err != nil {
		return Digest{}, err
	}
	after, err := signatureOf(name)
	if err != nil {
		return Digest{}, err
	}
	newest := time.Unix(0, max(after.ctime, after.mtime))
	s.mu.Lock()
	defer s.mu.Unlock()
	if before == after && start.Sub(newest) > atRest && !strings.Contains(name, "\n") {
		s.known[name] = &statEntry{signature: after, hash: d.Hash, day: today}
		s.changed = true
	} else if e != nil {
		delete(s.known, name)
		s.changed = true
	}
	return d, nil
}

func signatureOf(name string) (signature, error) {
	info, err := os.Stat(name)
	if err != nil {
		return signature{}, err
	}
	if !info.Mode().IsRegular() {
		return signature{}, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	st := info.Sys().(*syscall.Stat_t)
	return signature{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), inode: st.Ino}, nil
}

func digestFile(name string) (Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return Digest{Hash: hex.EncodeToString(h.Sum(nil)), Size: n}, err
}

// Save writes what is known, if anything is new. Of two processes that save at the same time the later
// one wins: what the other had learnt is learnt again.
func (s *Stat) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return nil
	}
	today := time.Now().Unix() / (24 * 60 * 60)
	maps.DeleteFunc(s.known, func(_ string, e *statEntry) bool { return today-e.day > forgetAfter })
	if err := os.MkdirAll(filepath.Dir(s.file), 0o777); err != nil {
		return err
	}
	if err := atomicfile.Write(s.file, 0o644, s.write); err != nil {
		return fmt.Errorf("saving %s: %w", s.file, err)
	}
	s.changed = false
	return nil
}

func (s *Stat) write(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintf(w, "%s %d\n", statFormat, len(s.known))
	for _, name := range slices.Sorted(maps.Keys(s.known)) {
		e := s.known[name]
		fmt.Fprintf(w, "%s %d %d %d %d %d %s\n", e.hash, e.size, e.mtime, e.ctime, int64(e.inode), e.day, name)
	}
	return w.Flush()
}
