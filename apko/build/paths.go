package build

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"distro.internal/apko/image"
	"distro.internal/shared/filetree"
)

// paths makes the changes that the image file asks for, in its order.
func (r *root) paths(changes []image.Path) error {
	for _, c := range changes {
		if err := r.change(c); err != nil {
			return fmt.Errorf("path /%s: %s: %w", c.Path, c.Type, err)
		}
	}
	return nil
}

func (r *root) change(c image.Path) error {
	switch c.Type {
	case image.Directory:
		return r.changeDirectory(c)
	case image.EmptyFile:
		return r.changeEmptyFile(c)
	case image.Symlink:
		return r.changeSymlink(c)
	case image.HardLink:
		return r.changeHardLink(c)
	default:
		return r.changePermissions(c)
	}
}

var errIsLink = errors.New("a symbolic link is there, and links are not followed: name the file it leads to")

func (r *root) changeDirectory(c image.Path) error {
	name, err := r.locate(c.Path)
	if err != nil {
		return err
	}
	have, ok := r.Tree.Lookup(name)
	switch {
	case !ok:
		e := filetree.Entry{Path: name, Mode: fs.ModeDir | c.Mode}
		own(&e, c)
		return r.put(e)
	case have.Mode.Type() == fs.ModeSymlink:
		return errIsLink
	case !have.Mode.IsDir():
		return errors.New("a file is there")
	}
	return r.changePermissions(c)
}

// changeEmptyFile also empties a file that is there.
func (r *root) changeEmptyFile(c image.Path) error {
	name, err := r.locate(c.Path)
	if err != nil {
		return err
	}
	e := filetree.Entry{Path: name, Mode: c.Mode}
	if have, ok := r.Tree.Lookup(name); ok {
		if have.Mode.Type() == fs.ModeSymlink {
			return errIsLink
		}
		if !have.Mode.IsRegular() {
			return errors.New("something else than a file is there")
		}
		e.UID, e.GID = have.UID, have.GID
		if !c.HasMode {
			e.Mode = have.Mode
		}
	}
	own(&e, c)
	return r.put(e)
}

func (r *root) changeSymlink(c image.Path) error {
	name, err := r.locate(c.Path)
	if err != nil {
		return err
	}
	if have, ok := r.Tree.Lookup(name); ok && (have.Mode.Type() != fs.ModeSymlink || have.Link != c.Source) {
		return errors.New("something else is there")
	}
	e := filetree.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: c.Source}
	own(&e, c)
	return r.put(e)
}

func (r *root) changeHardLink(c image.Path) error {
	name, err := r.locate(c.Path)
	if err != nil {
		return err
	}
	source, err := r.locate(c.Source)
	if err != nil {
		return err
	}
	target, ok := r.Tree.Lookup(source)
	if ok && target.HardLink {
		target, ok = r.Tree.Lookup(target.Link)
	}
	switch {
	case !ok:
		return fmt.Errorf("source /%s is not there", c.Source)
	case !target.IsRegular():
		return fmt.Errorf("source /%s is not a regular file", c.Source)
	case target.Path == name:
		return errors.New("it is its own source")
	}
	e := filetree.Entry{
		Path: name, HardLink: true, Link: target.Path,
		Mode: target.Mode, UID: target.UID, GID: target.GID, ModTime: target.ModTime,
	}
	if err := r.put(e); err != nil {
		return err
	}
	if !c.HasMode && c.UID == nil && c.GID == nil {
		return nil
	}
	return r.edit(name, func(e *filetree.Entry) { permit(e, c) })
}

func (r *root) changePermissions(c image.Path) error {
	name, err := r.locate(c.Path)
	if err != nil {
		return err
	}
	have, ok := r.Tree.Lookup(name)
	if !ok {
		return errors.New("nothing is there")
	}
	if have.Mode.Type() == fs.ModeSymlink && c.HasMode {
		return errIsLink
	}
	if !c.HasMode && c.UID == nil && c.GID == nil {
		return nil
	}
	names := []string{name}
	if c.Recursive {
		for e := range r.Tree.All() {
			if strings.HasPrefix(e.Path, name+"/") && !e.HardLink {
				names = append(names, e.Path)
			}
		}
	}
	for _, name := range names {
		if err := r.edit(name, func(e *filetree.Entry) { permit(e, c) }); err != nil {
			return err
		}
	}
	return nil
}

// permit sets mode and owner. A link has no mode of its own.
func permit(e *filetree.Entry, c image.Path) {
	if c.HasMode && e.Mode.Type() != fs.ModeSymlink {
		e.Mode = e.Mode.Type() | c.Mode
	}
	own(e, c)
}

func own(e *filetree.Entry, c image.Path) {
	if c.UID != nil {
		e.UID = int(*c.UID)
	}
	if c.GID != nil {
		e.GID = int(*c.GID)
	}
}
