// Package stage0 makes the first tools: an apk repository converted from
// Debian's packages, with which the distribution's own packages are built.
//
// Three files say what it holds. A Spec, written by hand, names the Debian
// packages wanted and what is changed in them. A Lock, made by Refresh, pins
// every package of their closure by digest. Out of the two, Make fetches,
// verifies, converts, signs and indexes, and does nothing when that was done.
// A third, Mirrors, lists upstream sources that Debian's archive holds as well.
//
// It talks to no server itself: Debian's files come through the apt of this
// machine, with its mirrors, proxies and keys, in a folder of our own, as any
// user. It knows nothing of recipes, and nothing that it makes is part of the
// distribution: only what was built with it is.
package stage0

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"distro.internal/shared/apk"
	"distro.internal/shared/atomicfile"
)

// Arch is the architecture of the tools: the one machine that builds.
const Arch apk.Arch = "x86_64"

const debianArch = "amd64"

// format names the bytes that Make and shared/apk write for a given lock and spec. It
// changes with them, so that what is there is made anew.
const format = "stage0-2"

// Config says what Make makes, and where.
type Config struct {
	Spec   *Spec
	Lock   *Lock
	Dir    string     // the repository; Dir/x86_64 is replaced as a whole
	Cache  string     // of downloaded packages, by digest; shared by all workspaces of a user
	Signer apk.Signer // nil: the key Dir/stage0.rsa, which is made when there is none
	Apt    Apt
	Jobs   int // packages converted at a time; 0 = one per processor

	// Progress, when set, is told now and then how far a stage has come.
	Progress func(stage string, done, total int64)
}

// Stages that Progress is told of.
const (
	StageDownload = "download" // bytes
	StageConvert  = "convert"  // packages
)

// PublicKey is the file of the key that the repository in dir is signed with
// when no other signer was given.
func PublicKey(dir string) string { return filepath.Join(dir, keyFile+".pub") }

const (
	keyFile   = "stage0.rsa"
	stampFile = ".stamp"
)

// Files are those of the repository in dir by which Make knows that there is nothing to do.
func Files(dir string) []string {
	return []string{filepath.Join(dir, keyFile), filepath.Join(dir, string(Arch), stampFile)}
}

// Make brings the repository in c.Dir up to what the spec and the lock say,
// and reports whether there was anything to do. A reader sees the whole old
// one or the whole new one.
func Make(ctx context.Context, c Config) (made bool, err error) {
	if err := c.Lock.check(c.Spec); err != nil {
		return false, err
	}
	signer, err := c.signer()
	if err != nil {
		return false, fmt.Errorf("making stage0: %w", err)
	}
	arch, stamp := filepath.Join(c.Dir, string(Arch)), c.stamp(signer)
	if was, err := os.ReadFile(filepath.Join(arch, stampFile)); err == nil && string(was) == stamp {
		return false, nil
	}
	if err := c.make(ctx, arch, stamp, signer); err != nil {
		return false, fmt.Errorf("making stage0: %w", err)
	}
	return true, nil
}

// Stands reports whether Make would find nothing to do. It makes nothing, no key either.
func (c Config) Stands() bool {
	signer := c.Signer
	if signer == nil {
		var err error
		if signer, err = apk.LoadSigner(filepath.Join(c.Dir, keyFile)); err != nil {
			return false
		}
	}
	was, err := os.ReadFile(filepath.Join(c.Dir, string(Arch), stampFile))
	return err == nil && string(was) == c.stamp(signer)
}

// stamp names everything that the bytes of the repository depend on.
func (c Config) stamp(signer apk.Signer) string {
	h := sha256.New()
	for _, part := range []string{format, c.Spec.digest, c.Lock.digest(), signer.KeyName()} {
		fmt.Fprintf(h, "%d %s\n", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)) + "\n"
}

func (c Config) signer() (apk.Signer, error) {
	if c.Signer != nil {
		return c.Signer, nil
	}
	file := filepath.Join(c.Dir, keyFile)
	signer, err := apk.LoadSigner(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	key, err := apk.GenerateKey(2048)
	if err != nil {
		return nil, err
	}
	public, err := apk.EncodePublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteSynced(file+".pub", 0o644, atomicfile.Bytes(public)); err != nil {
		return nil, err
	}
	// What an older key has signed is of no use any more.
	if err := os.RemoveAll(filepath.Join(c.Dir, string(Arch))); err != nil {
		return nil, err
	}
	if err := atomicfile.WriteSynced(file, 0o600, atomicfile.Bytes(apk.EncodePrivateKey(key))); err != nil {
		return nil, err
	}
	return apk.LoadSigner(file)
}

func (c Config) make(ctx context.Context, arch, stamp string, signer apk.Signer) error {
	debs, err := Download(ctx, c)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.Dir, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	packages, err := c.convert(ctx, debs, work, signer)
	if err != nil {
		return err
	}
	index := &apk.Index{Description: "stage0 " + c.Lock.Suite, Packages: packages}
	index.Sort()
	if err := create(filepath.Join(work, "APKINDEX.tar.gz"), func(w io.Writer) error {
		return apk.WriteIndex(w, index, signer)
	}); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(work, stampFile), []byte(stamp), 0o644); err != nil {
		return err
	}
	return swap(work, arch)
}

// swap puts the folder work in the place of the folder at name. What was there
// is then in work.
func swap(work, name string) error {
	err := unix.Renameat2(unix.AT_FDCWD, work, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		return os.Rename(work, name)
	}
	if err != nil {
		return fmt.Errorf("exchanging %s and %s: %w", work, name, err)
	}
	return nil
}

// convert writes every package of the lock into dir, and the base package.
func (c Config) convert(ctx context.Context, debs []string, dir string, signer apk.Signer) ([]*apk.Package, error) {
	closure, err := readClosure(c.Lock, debs)
	if err != nil {
		return nil, err
	}
	x := converter{spec: c.Spec, suite: c.Lock.Suite, closure: closure, dir: dir, signer: signer}
	jobs := c.Jobs
	if jobs == 0 {
		jobs = runtime.NumCPU()
	}
	// The largest first: what is begun last decides when all is done.
	order := slices.SortedStableFunc(slices.Values(closure.packages), func(a, b *deb) int {
		return int(b.pin.Size - a.pin.Size)
	})
	packages := make([]*apk.Package, len(order)+1)
	var done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for i, d := range order {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if packages[i], err = x.convert(ctx, d); err != nil {
				return fmt.Errorf("converting %s: %w", d.pin.Name, err)
			}
			c.progress(StageConvert, done.Add(1), int64(len(order)))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if packages[len(order)], err = x.base(); err != nil {
		return nil, fmt.Errorf("making %s: %w", baseName, err)
	}
	return packages, nil
}

func (c Config) progress(stage string, done, total int64) {
	if c.Progress != nil {
		c.Progress(stage, done, total)
	}
}

// create writes a file through a function.
func create(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return f.Close()
}

// below reports whether the clean path name is dir or lies in it.
func below(name, dir string) bool {
	rest, ok := strings.CutPrefix(name, dir)
	return ok && (rest == "" || rest[0] == '/')
}
