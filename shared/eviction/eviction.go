// Package eviction takes from a store what was not used for long, or what is too much, while other processes use the store.
//
// It knows of the items of a store how large they are and when they were used last, which is their time of modification.
// It refuses to know what they are and where they lie.
package eviction

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Limits say what may stay. Zero is no limit of that kind.
type Limits struct {
	Age   time.Duration // what was not used for longer goes
	Bytes int64         // and of the rest, longest unused first, as much as must for no more to be left
	Grace time.Duration // what was used within stays, whatever the other two say
}

// An Item is a file or a folder that goes as a whole.
type Item struct {
	Name    string
	Size    int64
	Used    time.Time
	Partial bool // a process was making it; what died goes as soon as the grace is over
}

// Collected says what went and what is left.
type Collected struct {
	Items, Bytes         int64
	LeftItems, LeftBytes int64
}

// A Store is where the items are.
type Store struct {
	Lock  func() (unlock func(), err error) // keeps everybody from marking an item as used meanwhile
	Aside string                            // a folder on the same disk; what is in it is nobody's
}

// List makes items of the names, and of nothing that is gone.
func List(names []string, partial bool) ([]Item, error) {
	var items []Item
	for _, name := range names {
		info, err := os.Lstat(name)
		if err == nil {
			item := Item{Name: name, Size: info.Size(), Used: info.ModTime(), Partial: partial}
			if info.IsDir() {
				item.Size, err = size(name)
			}
			items = append(items, item)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return items, nil
}

// size is that of all files below a folder.
func size(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil && !d.IsDir() {
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sum, err
}

// Evict removes what goes. The lock is held for one item at a time: nobody waits for a long collection.
func (s Store) Evict(items []Item, l Limits) (Collected, error) {
	now := time.Now()
	var c Collected
	for _, item := range items {
		c.LeftItems++
		c.LeftBytes += item.Size
	}
	for _, item := range slices.SortedFunc(slices.Values(items), func(a, b Item) int { return a.Used.Compare(b.Used) }) {
		age := now.Sub(item.Used)
		tooOld := l.Age > 0 && age > l.Age
		tooMuch := l.Bytes > 0 && c.LeftBytes > l.Bytes
		if age <= l.Grace || !(tooOld || tooMuch || item.Partial) {
			continue
		}
		gone, err := s.remove(item)
		if err != nil {
			return c, err
		}
		if gone {
			c.Items++
			c.Bytes += item.Size
			c.LeftItems--
			c.LeftBytes -= item.Size
		}
	}
	return c, nil
}

// remove takes the item away unless it was used since it was listed.
func (s Store) remove(item Item) (gone bool, err error) {
	name := item.Name
	unlock, err := s.Lock()
	if err != nil {
		return false, err
	}
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err, gone = nil, true
	case err == nil && info.ModTime().Equal(item.Used):
		gone = true
		if filepath.Dir(name) != s.Aside {
			name, err = s.putAside(name)
		}
	}
	unlock()
	if err != nil || !gone {
		return false, err
	}
	return true, os.RemoveAll(name)
}

// Discard removes what is not whole, if it is there. Nobody else may be at it.
func (s Store) Discard(name string) error {
	aside, err := s.putAside(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(aside)
}

// putAside takes away the name first: nobody sees a folder that is half removed.
func (s Store) putAside(name string) (aside string, err error) {
	if err := os.MkdirAll(s.Aside, 0o777); err != nil {
		return "", err
	}
	aside = filepath.Join(s.Aside, "gone-"+filepath.Base(name))
	if err := os.RemoveAll(aside); err != nil {
		return "", err
	}
	return aside, os.Rename(name, aside)
}
