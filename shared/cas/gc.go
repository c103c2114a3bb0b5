package cas

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Grace is how long what was used stays whatever GC is asked for: long enough that between finding a
// blob and reading it nobody takes it away.
const Grace = time.Hour

// Collected says what GC did.
type Collected struct {
	Files, Bytes         int64 // removed
	LeftFiles, LeftBytes int64
}

// GC removes what was not used for olderThan, and then, longest unused first, as much as must go for the
// store to hold at most maxBytes. Zero means no limit of that kind. What was used within Grace stays.
func (s Store) GC(olderThan time.Duration, maxBytes int64) (Collected, error) {
	now := time.Now()
	var c Collected
	files, err := s.files()
	if err != nil {
		return c, err
	}
	for _, f := range files {
		c.LeftFiles++
		c.LeftBytes += f.size
	}
	slices.SortFunc(files, func(a, b usedFile) int { return a.used.Compare(b.used) })
	for _, f := range files {
		age := now.Sub(f.used)
		tooOld := olderThan > 0 && age > olderThan
		tooMuch := maxBytes > 0 && c.LeftBytes > maxBytes
		if age <= Grace || !(tooOld || tooMuch || f.partial) {
			continue
		}
		gone, err := s.collect(f)
		if err != nil {
			return c, err
		}
		if gone {
			c.Files++
			c.Bytes += f.size
			c.LeftFiles--
			c.LeftBytes -= f.size
		}
	}
	return c, nil
}

type usedFile struct {
	name    string
	size    int64
	used    time.Time
	partial bool // left behind by a process that died while writing
}

func (s Store) files() ([]usedFile, error) {
	var files []usedFile
	for _, kind := range []string{"sha256", "ac", "tmp"} {
		err := filepath.WalkDir(filepath.Join(s.Dir, kind), func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			files = append(files, usedFile{name, info.Size(), info.ModTime(), kind == "tmp"})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// collect removes the file unless it was used since it was listed. The lock is held for one file at a
// time: nobody waits for a long collection.
func (s Store) collect(f usedFile) (gone bool, err error) {
	unlock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return false, err
	}
	defer unlock()
	info, err := os.Lstat(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil || !info.ModTime().Equal(f.used) {
		return false, err
	}
	return true, os.Remove(f.name)
}
