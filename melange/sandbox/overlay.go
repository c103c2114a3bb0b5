package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"distro.internal/shared/filetree"
	"golang.org/x/sys/unix"
)

// overlayLayers is the kernel's limit for one overlay.
const overlayLayers = 500

// openOverlay puts the layers above each other. A host that has no overlays for users, or none above the filesystem that
// it keeps its files on, gets a copy.
func (o operation) openOverlay(scratch string) (int, error) {
	if o.Copy {
		return o.openCopy(scratch + ".copy")
	}
	fd, err := o.mountOverlay(scratch)
	if refused(err) {
		return o.openCopy(scratch + ".copy")
	}
	return fd, err
}

// mountOverlay makes an overlay whose writable layer, if any, is in Upper or else in memory, at scratch.
func (o operation) mountOverlay(scratch string) (int, error) {
	if len(o.Layers) > overlayLayers {
		return -1, fmt.Errorf("%d layers; the kernel allows %d in one overlay", len(o.Layers), overlayLayers)
	}
	upper := o.Upper
	if upper == "" && !o.ReadOnly {
		if err := scratchUpper(scratch, o.Size); err != nil {
			return -1, err
		}
		upper = scratch
		if o.Copies != "" && !keepsAttributes(scratch) {
			upper = o.Copies + ".upper"
		}
	}
	if upper != "" {
		if err := prepareUpper(upper); err != nil {
			return -1, err
		}
	}
	if o.ShortNames {
		return o.mountShort(upper, scratch+".names")
	}
	fd, err := o.mountLayers(upper)
	if errors.Is(err, errNoLayerOption) || errors.Is(err, unix.EINVAL) { // before Linux 6.5 only the whole is looked at
		return o.mountShort(upper, scratch+".names")
	}
	return fd, err
}

// scratchUpper makes a filesystem in memory of the size for a writable layer.
func scratchUpper(dir string, size int64) error {
	options := []string{"mode=0755"}
	if size > 0 {
		options = append(options, fmt.Sprintf("size=%d", size))
	}
	fd, err := newFilesystem("tmpfs", 0, options...)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return place(fd, dir)
}

// keepsAttributes tells whether a filesystem has what an overlay needs to put a new folder where one was removed. What is in
// memory has it since Linux 6.6.
func keepsAttributes(dir string) bool {
	return unix.Setxattr(dir, "user.overlay.probe", nil, 0) == nil
}

// prepareUpper makes the folders of a writable layer. What lies in work is the kernel's, and of no use to a
// later mount: it is made anew, which also clears the mark that a volatile mount leaves.
func prepareUpper(upper string) error {
	if err := os.RemoveAll(filepath.Join(upper, "work")); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Join(upper, "upper"), 0o755), os.MkdirAll(filepath.Join(upper, "work"), 0o755))
}

// The options of every overlay: trusted.* attributes are not for user namespaces; and nothing waits for the disk,
// since after a crash a build is made again.
const (
	optionAttributes = "userxattr"
	optionVolatile   = "volatile"
)

// errNoLayerOption says that the kernel takes no single layers, being older than Linux 6.7, or that a name is too long
// for it. Short names help in both cases.
var errNoLayerOption = errors.New("no option for this layer")

// mountLayers names each layer by itself, so that their number and the length of their names hardly matter.
func (o operation) mountLayers(upper string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, optionAttributes); err != nil {
		return -1, describe(fs, err)
	}
	for i := len(o.Layers) - 1; i >= 0; i-- { // the first one named is the topmost
		err := unix.FsconfigSetString(fs, "lowerdir+", o.Layers[i])
		if err == unix.EINVAL {
			return -1, errNoLayerOption
		}
		if err != nil {
			return -1, fmt.Errorf("layer %s: %w", o.Layers[i], describe(fs, err))
		}
	}
	if upper != "" {
		err := errors.Join(
			unix.FsconfigSetString(fs, "upperdir", filepath.Join(upper, "upper")),
			unix.FsconfigSetString(fs, "workdir", filepath.Join(upper, "work")),
			unix.FsconfigSetFlag(fs, optionVolatile),
		)
		if err != nil {
			return -1, describe(fs, err)
		}
	}
	return finishFilesystem(fs, o.attributes())
}

// mountShort mounts in the old way. All options together must fit into a page there, so the folders go by the names
// of links, which are numbers.
func (o operation) mountShort(upper, dir string) (int, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return -1, err
	}
	names := make([]string, len(o.Layers))
	for i, layer := range o.Layers {
		names[len(names)-1-i] = strconv.Itoa(i)
		if err := os.Symlink(layer, filepath.Join(dir, strconv.Itoa(i))); err != nil {
			return -1, err
		}
		if _, err := os.Stat(layer); err != nil { // the kernel would only say that something is missing
			return -1, fmt.Errorf("layer %w", err)
		}
	}
	options := optionAttributes + ",lowerdir=" + strings.Join(names, ":")
	if upper != "" {
		if err := os.Symlink(upper, filepath.Join(dir, "w")); err != nil {
			return -1, err
		}
		options += ",upperdir=w/upper,workdir=w/work," + optionVolatile
	}
	target := filepath.Join(dir, "all")
	if err := os.Mkdir(target, 0o755); err != nil {
		return -1, err
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, os.NewSyscallError("chdir", err)
	}
	if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
		return -1, os.NewSyscallError("mount", err)
	}
	fd, err := cloneTree(target)
	if err != nil {
		return -1, err
	}
	return fd, setAttributes(fd, o.attributes())
}

// refused tells that there can be no overlay from one that is wrong.
func refused(err error) bool {
	for _, errno := range []unix.Errno{unix.ENODEV, unix.EPERM, unix.EINVAL, unix.EOPNOTSUPP} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// openCopy makes a folder that looks like the layers above each other. Files are copied: a link would let commands
// write to the layer's own. Where the disk can, the kernel has both share their blocks.
func (o operation) openCopy(scratch string) (int, error) {
	dir := o.Copies
	if dir == "" {
		if err := scratchUpper(scratch, o.Size); err != nil {
			return -1, err
		}
		dir = filepath.Join(scratch, "all")
	}
	if _, err := os.Stat(dir); err != nil || o.Upper == "" { // what was written to Upper stays
		if err := flatten(o.Layers, dir); err != nil {
			return -1, err
		}
	}
	fd, err := cloneTree(dir)
	if err != nil {
		return -1, err
	}
	return fd, setAttributes(fd, o.attributes())
}

// flatten copies the layers, one over the other. The folder has its name once it is whole.
func flatten(layers []string, dir string) error {
	partial := dir + ".partial"
	if err := errors.Join(os.RemoveAll(partial), os.MkdirAll(partial, 0o755)); err != nil {
		return err
	}
	root, err := os.OpenRoot(partial)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, layer := range layers {
		tree, err := filetree.Scan(layer, filetree.ScanOptions{})
		if err == nil {
			err = makeWay(root, tree)
		}
		if err == nil {
			err = filetree.Extract(tree, partial, filetree.ExtractOptions{})
		}
		if err != nil {
			return fmt.Errorf("layer %s: %w", layer, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(partial, dir)
}

// makeWay removes what is no folder where the tree has one, and folders with all that is in them where it has none.
func makeWay(root *os.Root, tree *filetree.Tree) error {
	for e := range tree.All() {
		info, err := root.Lstat(e.Path)
		if err == nil && info.IsDir() != e.Mode.IsDir() {
			err = root.RemoveAll(e.Path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
