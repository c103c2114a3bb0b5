package build

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"distro.internal/apko/image"
	"distro.internal/apko/oci"
	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
	"distro.internal/shared/rootfs"
	"golang.org/x/sync/errgroup"
)

// The order inside of a layer
//
// A layer that was hashed as far as another one is like it need not be hashed there again (see oci.NewLayer). So what is
// most of a layer and seldom changes comes first: the packages' segments, the large ones before the small ones, where
// sizes count in powers of two, as in the cut into layers. What differs in each combination of packages is small, and
// comes last: what was made or changed here, and the directories.
//
// OCI demands of the order only that a hard link comes after its file. Who unpacks a layer makes the folders of files as
// they come, and gives them their owner, mode and time when it gets to them; at the end no file can change that time any
// more, which some would not set right otherwise.

// layers cuts the root into layers, lowest first. layerOf tells in which layer each part lies.
func (b *Builder) layers(ctx context.Context, r *root, l image.Layering) (layers []*oci.Layer, layerOf []int, err error) {
	segments, err := b.partSegments(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	layerOf = make([]int, len(r.parts))
	own := r.parts
	if r.base != nil {
		layers, own = slices.Clone(r.base.layers), r.parts[len(r.base.parts):]
		for i, p := range r.base.parts {
			layerOf[i] = r.base.layer(p)
		}
	}
	groups := partition(own, l)
	for i, group := range groups {
		for j := range group {
			group[j] += len(r.parts) - len(own)
		}
		top := i == len(groups)-1
		for _, p := range group {
			layerOf[p] = len(layers)
		}
		directories, made, err := r.own(group, top, len(groups) == 1)
		if err != nil {
			return nil, nil, err
		}
		list := make([]oci.Segment, 0, len(group)+1)
		for _, p := range r.heaviestFirst(group, segments) {
			list = append(list, segments[p])
		}
		if list, err = b.appendEntries(ctx, list, slices.Concat(made, directories)); err != nil {
			return nil, nil, err
		}
		layer, err := oci.NewLayer(ctx, b.CAS.Store, b.Compression, list)
		if err != nil {
			return nil, nil, err
		}
		layer.Comment = r.comment(group, top)
		layers = append(layers, layer)
	}
	return layers, layerOf, nil
}

// heaviestFirst is the group in the order of a layer, without those of which nothing is left.
func (r *root) heaviestFirst(group []int, segments []oci.Segment) []int {
	list := slices.DeleteFunc(slices.Clone(group), func(p int) bool { return segments[p] == (oci.Segment{}) })
	slices.SortFunc(list, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(class(segments[b].Plain.Size), class(segments[a].Plain.Size)),
			cmp.Compare(r.parts[a].Package.Name, r.parts[b].Package.Name),
		)
	})
	return list
}

func (r *root) comment(group []int, top bool) string {
	var origins []string
	for _, p := range group {
		origins = append(origins, originOf(r.parts[p]))
	}
	slices.Sort(origins)
	origins = slices.Compact(origins)
	switch {
	case len(origins) == 0:
		return "configuration"
	case top || len(origins) > 8:
		return fmt.Sprintf("%d packages", len(group))
	}
	return strings.Join(origins, " ")
}

func originOf(p *part) string { return cmp.Or(p.Package.Origin, p.Package.Name) }

// partSegments returns the segment of each part: the part's own when all its files are in the tree as they are, a variant
// otherwise, the zero Segment when no file is left.
func (b *Builder) partSegments(ctx context.Context, r *root) ([]oci.Segment, error) {
	segments := make([]oci.Segment, len(r.parts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(b.jobs())
	for i, p := range r.parts {
		plan, moved := r.plan(i)
		switch {
		case len(plan) == 0, p.inherited:
		case len(moved) == 0:
			segments[i] = p.segment
		default:
			g.Go(func() (err error) {
				segments[i], err = p.variant(ctx, plan, moved)
				return err
			})
		}
	}
	return segments, g.Wait()
}

// plan is where in the tree the files of a part are; moved says of each that is not where the package has it where it
// went, in the package's order.
func (r *root) plan(i int) (plan map[string]string, moved []string) {
	plan = make(map[string]string, len(r.parts[i].Files))
	for j := range r.parts[i].Files {
		f := &r.parts[i].Files[j]
		if f.Mode.IsDir() {
			continue
		}
		file := rootfs.Origin{Package: i, File: j}
		name := r.Place(file)
		if at, ok := r.Files[name]; !ok || at != file {
			moved = append(moved, f.Path)
			continue
		}
		plan[f.Path] = name
		if name != f.Path {
			moved = append(moved, f.Path+" -> "+name)
		}
	}
	return plan, moved
}

// own lists the directories that the parts of a group need, and, for the top layer, what was made here. A layer that is
// not alone has each directory with the time that its own packages give it, so that the update of a package leaves the
// layers of the others alone; and it has a database of its own packages, which the top layer's covers, for those who look
// at layers one by one to learn what is in them.
func (r *root) own(group []int, top, alone bool) (directories, made []filetree.Entry, err error) {
	if r.base != nil {
		return r.aboveBase(group)
	}
	if alone {
		for e := range r.Tree.All() {
			if e.Mode.IsDir() {
				directories = append(directories, *e)
			}
		}
		return directories, r.made(), nil
	}
	needed := make(map[string]*filetree.Entry)
	for _, p := range group {
		r.needPart(needed, p)
	}
	if top {
		made = r.made()
		r.needEmpty(needed)
	} else if made, err = r.database(group); err != nil {
		return nil, nil, err
	}
	for i := range made {
		need(needed, made[i].Path, &made[i])
	}
	for e := range r.Tree.All() {
		n, ok := needed[e.Path]
		if !ok || !e.Mode.IsDir() {
			continue
		}
		d := *e
		if !top {
			d.ModTime = n.ModTime
		}
		directories = append(directories, d)
	}
	return directories, made, nil
}

// aboveBase lists what was made here and the directories that a layer on the base needs: those in which it has something,
// because a layer without them would change their owner and mode, and those that are new or changed.
func (r *root) aboveBase(group []int) (directories, made []filetree.Entry, err error) {
	needed := make(map[string]*filetree.Entry)
	for _, p := range group {
		r.needPart(needed, p)
	}
	for _, e := range r.made() {
		changed, err := r.base.changed(r.Tree, &e)
		if err != nil {
			return nil, nil, err
		}
		if changed {
			made = append(made, e)
			need(needed, e.Path, &e)
		}
	}
	for e := range r.Tree.All() {
		if !e.Mode.IsDir() {
			continue
		}
		changed, err := r.base.changed(r.Tree, e)
		if err != nil {
			return nil, nil, err
		}
		if changed {
			need(needed, e.Path, e)
		}
	}
	for e := range r.Tree.All() {
		if e.Mode.IsDir() && needed[e.Path] != nil {
			directories = append(directories, *e)
		}
	}
	return directories, made, nil
}

// database is the list of installed packages with only those of the group, as old as the newest of them.
func (r *root) database(group []int) ([]filetree.Entry, error) {
	e, ok := r.Tree.Resolve(apk.InstalledFile)
	if !ok {
		return nil, nil // the image file made something else of it
	}
	part := new(apk.Installed)
	newest := int64(0)
	for _, i := range group {
		part.Packages = append(part.Packages, r.Installed.Packages[i])
		newest = max(newest, r.parts[i].Package.BuildDate)
	}
	var text bytes.Buffer
	if err := part.Write(&text); err != nil {
		return nil, err
	}
	own := *e
	own.ModTime, own.Size, own.Open = time.Unix(newest, 0).UTC(), int64(text.Len()), filetree.Bytes(text.Bytes())
	return []filetree.Entry{own}, nil
}

// needPart adds the directories of a part.
func (r *root) needPart(needed map[string]*filetree.Entry, part int) {
	for j := range r.parts[part].Files {
		need(needed, r.Place(rootfs.Origin{Package: part, File: j}), &r.parts[part].Files[j].Entry)
	}
}

// need adds the directory, or the parents of the file, to those that a layer needs.
func need(needed map[string]*filetree.Entry, name string, e *filetree.Entry) {
	if e.Mode.IsDir() {
		needed[name] = e
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if needed[dir] == nil {
			needed[dir] = &filetree.Entry{}
		}
	}
}

// needEmpty adds the directories that no package brings.
func (r *root) needEmpty(needed map[string]*filetree.Entry) {
	brought := make(map[string]*filetree.Entry)
	for i := range r.parts {
		r.needPart(brought, i)
	}
	for e := range r.Tree.All() {
		if e.Mode.IsDir() && brought[e.Path] == nil {
			need(needed, e.Path, e)
		}
	}
}

// made lists what is not in any package's segment, hard links after what they name.
func (r *root) made() []filetree.Entry {
	var files, links []filetree.Entry
	for e := range r.Tree.All() {
		_, home := r.Files[e.Path]
		switch {
		case home || e.Mode.IsDir():
		case e.HardLink:
			links = append(links, *e)
		default:
			files = append(files, *e)
		}
	}
	return append(files, links...)
}

// appendEntries appends a segment of the entries, if there are any.
func (b *Builder) appendEntries(ctx context.Context, list []oci.Segment, entries []filetree.Entry) ([]oci.Segment, error) {
	if len(entries) == 0 {
		return list, nil
	}
	s, err := oci.WriteSegment(ctx, b.CAS.Store, b.Compression, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for i := range entries {
			entries[i].User, entries[i].Group = "", ""
			if err := filetree.WriteEntry(tw, &entries[i], nil); err != nil {
				return err
			}
		}
		return tw.Flush()
	})
	return append(list, s), err
}
