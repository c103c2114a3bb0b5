package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Grace is how long what was used stays whatever GC is asked for: longer than any build runs, because
// the layers of a running one must not go.
const Grace = 24 * time.Hour

// Collected says what GC did.
type Collected struct {
	Packages, Roots int   // removed
	Bytes           int64 // of the removed files
	Left            int64 // bytes that stayed
}

// GC removes what was not used for olderThan, and then, longest unused first, as much as must go for the
// store to hold at most maxBytes. Zero means no limit of that kind. What was used within Grace stays.
func (s Store) GC(olderThan time.Duration, maxBytes int64) (Collected, error) {
	now := time.Now()
	var c Collected
	dirs, err := s.dirs()
	if err != nil {
		return c, err
	}
	for _, d := range dirs {
		c.Left += d.size
	}
	slices.SortFunc(dirs, func(a, b usedDir) int { return a.used.Compare(b.used) })
	for _, d := range dirs {
		age := now.Sub(d.used)
		tooOld := olderThan > 0 && age > olderThan
		tooMuch := maxBytes > 0 && c.Left > maxBytes
		if age <= Grace || !(tooOld || tooMuch || d.kind == partial) {
			continue
		}
		gone, err := s.collect(d)
		if err != nil {
			return c, err
		}
		if !gone {
			continue
		}
		c.Bytes += d.size
		c.Left -= d.size
		switch d.kind {
		case unpacked:
			c.Packages++
		case composed:
			c.Roots++
		}
	}
	return c, nil
}

type dirKind int

const (
	unpacked dirKind = iota
	composed
	partial // left behind by a process that died
)

type usedDir struct {
	name string
	kind dirKind
	size int64
	used time.Time
}

func (s Store) dirs() ([]usedDir, error) {
	var dirs []usedDir
	for _, in := range []struct {
		dir  string
		kind dirKind
	}{{s.Dir, unpacked}, {filepath.Join(s.Dir, "roots"), composed}, {filepath.Join(s.Dir, "tmp"), partial}} {
		entries, err := os.ReadDir(in.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			const hexSHA256 = 64
			if in.kind == unpacked && len(e.Name()) != hexSHA256 {
				continue
			}
			d := usedDir{name: filepath.Join(in.dir, e.Name()), kind: in.kind}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			d.used = info.ModTime()
			if d.size, err = diskUse(d.name); err != nil {
				return nil, err
			}
			dirs = append(dirs, d)
		}
	}
	return dirs, nil
}

func diskUse(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreAbsent(err)
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return ignoreAbsent(err)
	})
	return sum, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// collect removes the directory unless it was used since it was listed.
func (s Store) collect(d usedDir) (gone bool, err error) {
	unlock, err := s.lock("gc", unix.LOCK_EX)
	if err != nil {
		return false, err
	}
	aside := filepath.Join(s.Dir, "tmp", "gone-"+filepath.Base(d.name))
	info, err := os.Lstat(d.name)
	if err == nil && info.ModTime().Equal(d.used) && d.kind != partial {
		gone = true
		err = moveAside(d.name, aside)
	} else if d.kind == partial {
		aside, gone = d.name, true
	}
	unlock()
	if err != nil || !gone {
		return false, ignoreAbsent(err)
	}
	return true, os.RemoveAll(aside)
}

// discard removes a directory that is not whole, if it is there.
func (s Store) discard(dir string) error {
	aside := filepath.Join(s.Dir, "tmp", "gone-"+filepath.Base(dir))
	if err := moveAside(dir, aside); err != nil {
		return ignoreAbsent(err)
	}
	return os.RemoveAll(aside)
}

// moveAside takes away the name first: nobody sees a directory that is half removed.
func moveAside(dir, aside string) error {
	if err := os.MkdirAll(filepath.Dir(aside), 0o777); err != nil {
		return err
	}
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	return os.Rename(dir, aside)
}
