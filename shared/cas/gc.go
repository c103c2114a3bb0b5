package cas

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/shared/eviction"
)

// Grace is how long what was used stays whatever GC is asked for: long enough that between finding a
// blob and reading it nobody takes it away.
const Grace = time.Hour

// GC removes what was not used for olderThan, and then, longest unused first, as much as must go for the
// store to hold at most maxBytes. Zero means no limit of that kind. What was used within Grace stays.
func (s Store) GC(olderThan time.Duration, maxBytes int64) (eviction.Collected, error) {
	var all []eviction.Item
	for _, kind := range []string{"sha256", "ac", "tmp"} {
		names, err := files(filepath.Join(s.Dir, kind))
		if err != nil {
			return eviction.Collected{}, err
		}
		items, err := eviction.List(names, kind == "tmp")
		if err != nil {
			return eviction.Collected{}, err
		}
		all = slices.Concat(all, items)
	}
	store := eviction.Store{
		Lock:  func() (func(), error) { return s.lock(unix.LOCK_EX) },
		Aside: filepath.Join(s.Dir, "tmp"),
	}
	return store.Evict(all, eviction.Limits{Age: olderThan, Bytes: maxBytes, Grace: Grace})
}

// files lists those below a folder that may not be there.
func files(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	return names, err
}
