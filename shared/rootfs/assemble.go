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

// AssembleOptions say what an image has besides its packages.
type AssembleOptions struct {
	Database
	Time    time.Time      // of the generated files; zero is 1980-01-01
	Beneath *filetree.Tree // what is there before the packages; may be nil
}

// Beneath is the origin of what the packages found there and left as it was.
var Beneath = Origin{-2, -2}

// Assembled is the packages of an image in one tree.
type Assembled struct {
	Tree *filetree.Tree

	// Files tells of each name of the tree which file of which package it is. What is no directory and
	// is not in it was made here: generated, or a hard link whose file became another package's.
	Files map[string]Origin

	// Installed is what the database lists: the packages in their order, each with the files that are its own.
	Installed *apk.Installed

	merged *merged
}

// Place is where the file of a package lies in the tree, or would if it had not been taken over: not where
// the package has it when its directories lead through another package's link. A directory's is where what
// is in it lies.
func (a *Assembled) Place(o Origin) string { return a.merged.place(o.Package, o.File) }

// Assemble puts the packages, in the order of installation, into one tree, with the directories that
// every root has and the apk database. Entries are as the packages have them; none is opened but keys of
// the database's names. Packages that cannot be in one tree are a *Conflict.
func Assemble(packages []Opened, o AssembleOptions) (*Assembled, error) {
	if o.Time.IsZero() {
		o.Time = epoch
	}
	m, err := merge(packages)
	if err != nil {
		return nil, fmt.Errorf("assembling root: %w", err)
	}
	db := m.installed()
	if err := m.fill(o.Beneath); err != nil {
		return nil, fmt.Errorf("assembling root: %w", err)
	}
	if err := m.complete(db, o); err != nil {
		return nil, fmt.Errorf("assembling root: %w", err)
	}
	return &Assembled{Tree: m.tree, Files: m.files, Installed: db, merged: m}, nil
}

// fill adds what lies beneath wherever no package has put anything.
func (m *merged) fill(beneath *filetree.Tree) error {
	if beneath == nil {
		return nil
	}
	for e := range beneath.All() {
		if _, there := m.tree.Lookup(e.Path); there {
			continue
		}
		if err := m.tree.Put(*e); err != nil {
			return err
		}
		if !e.Mode.IsDir() {
			m.files[e.Path] = Beneath
		}
	}
	return nil
}

// complete adds what no package brings.
func (m *merged) complete(db *apk.Installed, o AssembleOptions) error {
	for _, generate := range []generator{skeleton, o.Database.of(db)} {
		es, err := generate(m.tree, o.Time)
		if err != nil {
			return err
		}
		slices.SortStableFunc(es, byPath)
		for _, e := range es {
			if e.Path, err = Locate(m.tree, e.Path); err != nil {
				return err
			}
			delete(m.files, e.Path)
			if err := Place(m.tree, e); err != nil {
				return err
			}
		}
	}
	return m.breakLinks()
}
