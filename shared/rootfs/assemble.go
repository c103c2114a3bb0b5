package rootfs

import (
	"fmt"
	"slices"
	"time"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// epoch is the time of generated files where nothing says another: the oldest that zip archives and some
// file systems can hold.
var epoch = time.Unix(315532800, 0)

// generator makes entries from what a tree holds.
type generator func(t *filetree.Tree, at time.Time) ([]filetree.Entry, error)

// AssembleOptions say what an image has besides its packages.
type AssembleOptions struct {
	Database
	Time time.Time // of the generated files; zero is 1980-01-01
}

// Assemble puts the packages, in the order of installation, into one tree, with the directories that
// every root has and the apk database. Entries are as the packages have them; nothing is opened. Packages
// that cannot be in one tree are a *Conflict. The database tells which package each file belongs to:
// see Owners.
func Assemble(packages []Opened, o AssembleOptions) (*filetree.Tree, *apk.Installed, error) {
	if o.Time.IsZero() {
		o.Time = epoch
	}
	m, err := merge(packages)
	if err != nil {
		return nil, nil, fmt.Errorf("assembling root: %w", err)
	}
	db := m.installed()
	es, err := o.Database.entries(db, o.Time)
	if err != nil {
		return nil, nil, fmt.Errorf("assembling root: %w", err)
	}
	for _, list := range [][]filetree.Entry{skeleton(m.tree, o.Time), es} {
		slices.SortStableFunc(list, byPath)
		for _, e := range list {
			if err := Place(m.tree, e); err != nil {
				return nil, nil, fmt.Errorf("assembling root: %w", err)
			}
		}
	}
	return m.tree, db, nil
}
