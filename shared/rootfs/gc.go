package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/shared/eviction"
)

// Grace is how long what was used stays whatever GC is asked for: longer than any build runs, because
// the layers of a running one must not go.
const Grace = 24 * time.Hour

// GC removes what was not used for olderThan, and then, longest unused first, as much as must go for the
// store to hold at most maxBytes. Zero means no limit of that kind. What was used within Grace stays.
func (s Store) GC(olderThan time.Duration, maxBytes int64) (eviction.Collected, error) {
	var all []eviction.Item
	for _, in := range []struct {
		dir     string
		is      func(name string) bool
		partial bool
	}{
		{s.Dir, func(name string) bool { return len(name) == hex.EncodedLen(sha256.Size) }, false},
		{filepath.Join(s.Dir, "roots"), nil, false},
		{filepath.Join(s.Dir, "tmp"), nil, true},
	} {
		entries, err := os.ReadDir(in.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return eviction.Collected{}, err
		}
		var names []string
		for _, e := range entries {
			if in.is == nil || in.is(e.Name()) {
				names = append(names, filepath.Join(in.dir, e.Name()))
			}
		}
		items, err := eviction.List(names, in.partial)
		if err != nil {
			return eviction.Collected{}, err
		}
		all = slices.Concat(all, items)
	}
	return s.eviction().Evict(all, eviction.Limits{Age: olderThan, Bytes: maxBytes, Grace: Grace})
}

func (s Store) eviction() eviction.Store {
	return eviction.Store{
		Lock:  func() (func(), error) { return s.lock("gc", unix.LOCK_EX) },
		Aside: filepath.Join(s.Dir, "tmp"),
	}
}

// discard removes a directory that is not whole, if it is there.
func (s Store) discard(dir string) error { return s.eviction().Discard(dir) }
