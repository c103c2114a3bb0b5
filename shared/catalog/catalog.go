// Package catalog makes the universe that a solver works on of the
// repositories that packages come from, and keeps it between runs, so that who
// asks about the same state of the same repositories again neither reads nor
// compiles their indexes.
//
// What is kept lies beside the client's cache, mapped into memory by all who
// use it at the same time. Its name says all that it was made of: the bytes of
// each index, the keys that vouched for them, the architecture, the format. So
// a signature is verified once for each state of an index and each set of keys.
//
// The package knows how indexes become universes. How to fetch and verify an
// index is for repository to know, and what a universe is for solve.
package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"distro.internal/shared/apk"
	"distro.internal/shared/cas"
	"distro.internal/shared/repository"
	"distro.internal/shared/solve"
)

// A Source is a repository to choose packages from.
type Source struct {
	repository.Source
	Name     string // for people; empty: the folder or address
	Optional bool   // it may have no index of the architecture
}

// worthKeeping is how many bytes of indexes, compressed, are worth a file: what
// is smaller is compiled in a few milliseconds.
const worthKeeping = 256 << 10

// Open returns the universe of some repositories, in their order, for an
// architecture. Chosen.Repository counts the sources. It is kept in the
// client's cache, if that has a directory; and so is that of each large one
// alone, so that where one has changed the others are not read again.
func Open(ctx context.Context, client *repository.Client, arch apk.Arch, sources ...Source) (*solve.Universe, error) {
	indexes, err := snapshots(ctx, client, arch, sources)
	if err != nil {
		return nil, err
	}
	u, _, err := market{client, arch}.open(ctx, sources, indexes)
	return u, err
}

// A market is where the packages for an architecture are.
type market struct {
	client *repository.Client
	arch   apk.Arch
}

// open also returns the generation of each index.
func (m market) open(ctx context.Context, sources []Source, indexes []*repository.Snapshot) (*solve.Universe, []int64, error) {
	if !m.keeps(indexes...) {
		return m.compile(ctx, sources, indexes)
	}
	shelf := shelf{filepath.Join(m.client.Cache, "universes")}
	if u, generations, err := m.take(shelf, sources, indexes); err == nil {
		return u, generations, nil
	}
	u, generations, err := m.compile(ctx, sources, indexes)
	if err != nil {
		return nil, nil, err
	}
	// It was only now that the digests became those of what was verified.
	err = shelf.put(key(m.arch, sources, indexes), func(w io.Writer) error {
		return errors.Join(binary.Write(w, binary.NativeEndian, generations), u.Encode(w))
	})
	if err != nil && m.client.Log != nil {
		m.client.Log(fmt.Sprintf("keeping compiled indexes: %v", err))
	}
	return u, generations, nil
}

// keeps reports whether what is made of the indexes is kept.
func (m market) keeps(indexes ...*repository.Snapshot) bool {
	return m.client.Cache != "" && size(indexes) >= worthKeeping
}

func size(indexes []*repository.Snapshot) (n int64) {
	for _, x := range indexes {
		if x != nil {
			n += x.Digest.Size
		}
	}
	return n
}

// take takes a universe from the shelf. It begins with the generation of each index, because also of what was
// verified before nothing is used that is older than what was seen since.
func (m market) take(s shelf, sources []Source, indexes []*repository.Snapshot) (*solve.Universe, []int64, error) {
	body, file, err := s.take(key(m.arch, sources, indexes))
	if err != nil {
		return nil, nil, err
	}
	generations := make([]int64, len(indexes))
	head, err := binary.Decode(body, binary.NativeEndian, generations)
	if err != nil {
		return nil, nil, errDamaged
	}
	for i, x := range indexes {
		if x == nil {
			continue
		}
		if err := x.Accept(int(generations[i])); err != nil {
			return nil, nil, err
		}
	}
	file = io.NewSectionReader(file, int64(head), int64(len(body)-head))
	u, err := solve.Decode(body[head:], file, describe(sources), m.arch)
	return u, generations, err
}

// snapshots asks all repositories at once. A repository without an index is nil.
func snapshots(ctx context.Context, client *repository.Client, arch apk.Arch, sources []Source) ([]*repository.Snapshot, error) {
	list := make([]*repository.Snapshot, len(sources))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range sources {
		g.Go(func() error {
			x, err := client.Snapshot(ctx, s.Source, arch)
			if s.Optional && errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			list[i] = x
			return err
		})
	}
	return list, g.Wait()
}

// packedEntry is how many bytes of an index a package takes at least, in all distributions that there are.
const packedEntry = 64

// compile reads the indexes, all at once as far as there is room, while the compiler takes them in in their order. Of
// several, those that are large are compiled, and kept, each by itself.
func (m market) compile(ctx context.Context, sources []Source, indexes []*repository.Snapshot) (*solve.Universe, []int64, error) {
	generations := make([]int64, len(indexes))
	c := solve.NewCompiler(m.arch, int(size(indexes)/packedEntry))
	streams := make([]stream, len(indexes))
	alone := make([]*solve.Universe, len(indexes))
	g, ctx := errgroup.WithContext(ctx)
	for i, x := range indexes {
		streams[i] = newStream()
		g.Go(func() error {
			if err := streams[i].parse(); err != nil {
				return fmt.Errorf("repository %s: %w", describe(sources[i : i+1])[0].Name, err)
			}
			return nil
		})
		g.Go(func() (err error) {
			defer close(streams[i].text)
			switch {
			case x == nil:
			case len(indexes) > 1 && m.keeps(x):
				s := sources[i]
				s.Tag = ""
				var generation []int64
				if alone[i], generation, err = m.open(ctx, []Source{s}, []*repository.Snapshot{x}); err == nil {
					generations[i] = generation[0]
				}
			default:
				generations[i], err = streams[i].fill(ctx, x)
			}
			return err
		})
	}
	for i, r := range describe(sources) {
		c.Begin(r)
		for p := range streams[i].read {
			c.Add(p.entries.List)
			streams[i].free <- p
		}
		if alone[i] == nil {
			continue
		}
		if err := c.Merge(alone[i]); err != nil {
			return nil, nil, errors.Join(err, g.Wait())
		}
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	u := c.Universe()
	return u, generations, u.Err()
}

// A stream is an index on its way from who uncompresses it by who parses it to who compiles it. A piece that was
// compiled is room for another.
type stream struct{ free, text, read chan *piece }

type piece struct {
	text    []byte
	entries apk.Entries
}

func newStream() stream {
	const pieces, size = 5, 128 << 10
	s := stream{make(chan *piece, pieces), make(chan *piece, pieces), make(chan *piece, pieces)} // there is always room
	for range pieces {
		s.free <- &piece{text: make([]byte, 0, size)}
	}
	return s
}

// fill returns the generation of the index when all of it was sent, and is accepted.
func (s stream) fill(ctx context.Context, x *repository.Snapshot) (int64, error) {
	r, err := x.Open(ctx)
	for err == nil {
		var p *piece
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case p = <-s.free:
		}
		if p.text, err = r.Next(p.text); err == nil {
			s.text <- p
		}
	}
	if err != io.EOF {
		return 0, err
	}
	return int64(r.Generation), x.Accept(r.Generation)
}

// parse goes on until there is no more text, or some that is none of an index.
func (s stream) parse() error {
	defer close(s.read)
	for p := range s.text {
		if err := p.entries.Read(unsafe.String(unsafe.SliceData(p.text), len(p.text))); err != nil {
			return err
		}
		s.read <- p
	}
	return nil
}

// describe is what the solver is told of the sources, without their packages.
func describe(sources []Source) []solve.Repository {
	list := make([]solve.Repository, len(sources))
	for i, s := range sources {
		list[i] = solve.Repository{Name: s.Name, Tag: s.Tag}
		if s.Name == "" {
			list[i].Name = s.URL
		}
	}
	return list
}

// key names a universe by all that it is made of.
func key(arch apk.Arch, sources []Source, indexes []*repository.Snapshot) cas.Digest {
	k := cas.NewKey("catalog/1")
	k.Add("universe", solve.Format)
	k.Add("machine", runtime.GOARCH)
	k.Add("arch", string(arch))
	for i, x := range indexes {
		if x == nil {
			k.Add("none", "")
			continue
		}
		k.Add("index", x.Digest.String())
		k.Add("keys", identity(sources[i].Source))
		k.Add("tag", sources[i].Tag)
	}
	return k.Digest()
}

// identity names whom a source trusts.
func identity(s repository.Source) string {
	if s.Insecure {
		return "insecure"
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s.Keyring)) {
		key := s.Keyring[name]
		fmt.Fprintf(h, "%d %s %x %x\n", len(name), name, key.N, key.E)
	}
	return hex.EncodeToString(h.Sum(nil))
}
