package source

import (
	"bufio"
	"crypto/sha1"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	gitbinary "github.com/go-git/go-git/v5/utils/binary"
	"github.com/klauspost/compress/zlib"
)

// The objects of a history go into one pack. What is in it, in which order, and what is written as a difference to what is a
// function of the commits alone. A pack that a server made would be smaller, and another from each server.
//
// Commits go from the newest to the oldest. A tree or file of an older one is written as the difference to what has its
// path in the commit after it: no search is needed, for the trees of two commits that follow each other tell.

// A past is a commit and those before it.
type past struct {
	commits []pastCommit // each after one that it is a parent of
	shallow []string     // the commits whose parents are left out, sorted
}

type pastCommit struct{ hash, tree, later plumbing.Hash } // later is the tree of a commit that it is a parent of; zero for the first

// past is the last commits up to one: those that are fewer than depth steps away, or all when that is negative.
func (r *repository) past(head plumbing.Hash, depth int) (*past, error) {
	type step struct{ commit, later plumbing.Hash }
	p := new(past)
	seen := map[plumbing.Hash]bool{head: true}
	level := []step{{commit: head}}
	for n := 1; len(level) > 0; n++ {
		var before []step
		for _, s := range level {
			c, err := r.CommitObject(s.commit)
			if err != nil {
				return nil, err
			}
			p.commits = append(p.commits, pastCommit{s.commit, c.TreeHash, s.later})
			if n == depth {
				p.shallow = append(p.shallow, s.commit.String())
				continue
			}
			for _, parent := range c.ParentHashes {
				if !seen[parent] {
					seen[parent] = true
					before = append(before, step{parent, c.TreeHash})
				}
			}
		}
		level = before
	}
	slices.Sort(p.shallow)
	return p, nil
}

// A pack is objects on their way into a file.
type pack struct {
	from *repository
	list []packed
	seen map[plumbing.Hash]bool
}

type packed struct {
	kind plumbing.ObjectType
	hash plumbing.Hash
	like plumbing.Hash // another of the pack, and before it, that it probably resembles; zero when there is none
}

func newPack(r *repository) *pack { return &pack{from: r, seen: make(map[plumbing.Hash]bool)} }

// add lists an object, and reports whether it is new.
func (p *pack) add(kind plumbing.ObjectType, hash, like plumbing.Hash) bool {
	if p.seen[hash] {
		return false
	}
	p.seen[hash] = true
	p.list = append(p.list, packed{kind, hash, like})
	return true
}

func (p *pack) addPast(past *past) error {
	for _, c := range past.commits {
		p.add(plumbing.CommitObject, c.hash, plumbing.ZeroHash)
	}
	for _, c := range past.commits {
		if err := p.addTree(c.tree, c.later); err != nil {
			return err
		}
	}
	return nil
}

// addTree lists a tree and all below it, beside another of the same path that is listed already.
func (p *pack) addTree(hash, like plumbing.Hash) error {
	if !p.add(plumbing.TreeObject, hash, like) {
		return nil
	}
	var t, other object.Tree
	if err := p.from.decode(plumbing.TreeObject, hash, t.Decode); err != nil {
		return err
	}
	if !like.IsZero() {
		if err := p.from.decode(plumbing.TreeObject, like, other.Decode); err != nil {
			return err
		}
	}
	beside := make(map[string]object.TreeEntry, len(other.Entries))
	for _, e := range other.Entries {
		beside[e.Name] = e
	}
	for _, e := range t.Entries {
		o := beside[e.Name]
		if (o.Mode == filemode.Dir) != (e.Mode == filemode.Dir) || o.Mode == filemode.Submodule {
			o.Hash = plumbing.ZeroHash
		}
		switch e.Mode {
		case filemode.Dir:
			if err := p.addTree(e.Hash, o.Hash); err != nil {
				return err
			}
		case filemode.Submodule: // a commit of another repository
		default:
			p.add(plumbing.BlobObject, e.Hash, o.Hash)
		}
	}
	return nil
}

// write writes the pack and its index below the folder of a repository.
func (p *pack) write(dir *os.Root, modified time.Time) error {
	const unnamed = "objects/pack/new"
	f, err := dir.OpenFile(unnamed, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := bufio.NewWriterSize(f, 256<<10)
	idx, sum, err := p.encode(buffer)
	if err != nil {
		return err
	}
	if err := buffer.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	name := "objects/pack/pack-" + sum.String()
	if err := dir.Rename(unnamed, name+".pack"); err != nil {
		return err
	}
	if err := dir.Chtimes(name+".pack", modified, modified); err != nil {
		return err
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		_, err := idxfile.NewEncoder(w).Encode(idx)
		w.CloseWithError(err)
	}()
	return writeInto(dir, name+".idx", 0o444, modified, r)
}

const (
	maxChain = 50      // of differences to differences, as git has it
	maxDelta = 8 << 20 // bytes of an object that is written as a difference
)

// encode writes the pack in git's format (gitformat-pack(5)), and makes its index.
func (p *pack) encode(w io.Writer) (*idxfile.MemoryIndex, plumbing.Hash, error) {
	out := &packWriter{w: w, sum: sha1.New(), at: make(map[plumbing.Hash]packedAt, len(p.list))}
	idx := new(idxfile.Writer)
	header := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(p.list)))
	if _, err := out.Write(header); err != nil {
		return nil, plumbing.ZeroHash, err
	}
	if err := idx.OnHeader(uint32(len(p.list))); err != nil {
		return nil, plumbing.ZeroHash, err
	}
	for _, o := range p.list {
		data, err := p.from.read(o.kind, o.hash)
		if err != nil {
			return nil, plumbing.ZeroHash, err
		}
		delta, err := p.delta(out, o, data)
		if err != nil {
			return nil, plumbing.ZeroHash, err
		}
		start := out.size
		crc, err := out.object(o, data, delta)
		if err != nil {
			return nil, plumbing.ZeroHash, err
		}
		idx.Add(o.hash, uint64(start), crc)
	}
	sum := plumbing.Hash(out.sum.Sum(nil))
	if _, err := w.Write(sum[:]); err != nil {
		return nil, sum, err
	}
	if err := idx.OnFooter(sum); err != nil {
		return nil, sum, err
	}
	index, err := idx.Index()
	return index, sum, err
}

// delta is an object as the difference to the one that it resembles; nil when that is of no use.
func (p *pack) delta(out *packWriter, o packed, data []byte) ([]byte, error) {
	base, ok := out.at[o.like]
	if !ok || o.like.IsZero() || base.chain >= maxChain || len(data) > maxDelta || base.size > maxDelta || len(data) < 64 {
		return nil, nil
	}
	like, err := p.from.read(o.kind, o.like)
	if err != nil {
		return nil, err
	}
	if d := packfile.DiffDelta(like, data); len(d) < len(data)/2 {
		return d, nil
	}
	return nil, nil
}

// A packWriter knows where in the pack it is.
type packWriter struct {
	w      io.Writer
	sum    hash.Hash // of all
	crc    uint32    // of the object
	size   int64
	at     map[plumbing.Hash]packedAt
	zipper *zlib.Writer
}

type packedAt struct {
	offset int64
	size   int // of the object itself
	chain  int // how many differences lead to it
}

func (w *packWriter) Write(b []byte) (int, error) {
	w.sum.Write(b)
	w.crc = crc32.Update(w.crc, crc32.IEEETable, b)
	n, err := w.w.Write(b)
	w.size += int64(n)
	return n, err
}

// object writes an object whole, or as a difference to what it is like. The checksum is of what was written.
func (w *packWriter) object(o packed, data, delta []byte) (crc uint32, err error) {
	w.crc = 0
	here := packedAt{offset: w.size, size: len(data)}
	kind, body := o.kind, data
	if delta != nil {
		kind, body = plumbing.OFSDeltaObject, delta
		here.chain = w.at[o.like].chain + 1
	}
	if _, err := w.Write(objectHeader(kind, len(body))); err != nil {
		return 0, err
	}
	if delta != nil {
		if err := gitbinary.WriteVariableWidthInt(w, here.offset-w.at[o.like].offset); err != nil {
			return 0, err
		}
	}
	w.at[o.hash] = here
	if w.zipper == nil {
		if w.zipper, err = zlib.NewWriterLevel(w, zlib.BestSpeed); err != nil {
			return 0, err
		}
	} else {
		w.zipper.Reset(w)
	}
	if _, err := w.zipper.Write(body); err != nil {
		return 0, err
	}
	err = w.zipper.Close()
	return w.crc, err
}

// objectHeader is the kind of an object and how long it is unpacked: four bits of that in the first byte, then seven in each.
func objectHeader(kind plumbing.ObjectType, size int) []byte {
	b := byte(kind)<<4 | byte(size&15)
	var header []byte
	for size >>= 4; size > 0; size >>= 7 {
		header = append(header, b|0x80)
		b = byte(size & 0x7f)
	}
	return append(header, b)
}
