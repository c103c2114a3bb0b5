package catalog

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"distro.internal/shared/atomicfile"
	"distro.internal/shared/cas"
)

// A shelf is a folder of files that are used in place. A file on it is whole
// and does not change: it appears by a rename, and whoever takes it first holds
// it against its checksum. That also finds what a crash of the machine left, so
// nobody waits for the disk when a file is put there.
//
// To read all of a file takes longer than to use it. So who has checked one
// leaves a witness beside it, which names the file as the file system knows it
// and the run of the machine. As long as both are the same nobody has written
// to the file, and nothing of it was lost in a crash.
type shelf struct{ dir string }

// A file begins with a seal: magic, length and checksum of the body, and a
// checksum of these.
const (
	magic    = "distro shelf 1\n\x00"
	sealSize = 32
)

var errDamaged = errors.New("damaged")

func (s shelf) name(key cas.Digest) string { return filepath.Join(s.dir, key.Hash) }

// take returns the content of a file twice: mapped, where each part that is
// looked at, with what lies around it, becomes memory of the process; and to be read. It
// stays mapped until the process ends: nobody could tell who still has a
// string of it.
func (s shelf) take(key cas.Digest) (mapped []byte, file io.ReaderAt, err error) {
	f, err := os.Open(s.name(key))
	if err != nil {
		return nil, nil, err
	}
	mapped, err = s.open(f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return mapped, io.NewSectionReader(f, sealSize, int64(len(mapped))), nil
}

func (s shelf) open(f *os.File) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if time.Since(time.Unix(st.Mtim.Unix())) > time.Hour {
		now := time.Now()
		os.Chtimes(f.Name(), now, now) // for collect; it may fail where nothing can be collected
	}
	witness := filepath.Join(s.dir, witnesses, filepath.Base(f.Name()))
	says := statement(&st)
	if said, err := os.ReadFile(witness); says == "" || err != nil || string(said) != says {
		if err := check(f, st.Size); err != nil {
			os.Remove(f.Name())
			return nil, err
		}
		if says != "" && os.MkdirAll(filepath.Dir(witness), 0o777) == nil {
			atomicfile.Write(witness, 0o644, atomicfile.Bytes([]byte(says))) // else the next one checks again
		}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return data[sealSize:], nil
}

// witnesses is a folder of files that are called as what they speak of.
const witnesses = "witness"

// statement is what a witness says of a file, if there can be one: a file that has just changed can change
// once more without looking any different.
func statement(st *unix.Stat_t) string {
	changed := time.Unix(st.Ctim.Unix())
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || time.Since(changed) < 2*time.Second {
		return ""
	}
	return fmt.Sprintf("%s %d %d %d %d %d\n", bytes.TrimSpace(boot), st.Dev, st.Ino, st.Size, st.Mtim.Nano(), changed.UnixNano())
}

// check reads the file in passing, not through the mapping: pages that are
// looked at there count as memory of the process.
func check(f *os.File, size int64) error {
	var have [sealSize]byte
	if _, err := io.ReadFull(f, have[:]); err != nil {
		return errDamaged
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{f}, make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if n != size-sealSize || !bytes.Equal(have[:], seal(n, sum.Sum32())) {
		return errDamaged
	}
	return nil
}

func seal(length int64, sum uint32) []byte {
	b := append(make([]byte, 0, sealSize), magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(length))
	b = binary.LittleEndian.AppendUint32(b, sum)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// put makes a file of what write writes, and clears away what is not used.
func (s shelf) put(key cas.Digest, write func(io.Writer) error) error {
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, temporary)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	length := &counter{}
	b := bufio.NewWriterSize(f, 1<<20)
	_, err = b.Write(make([]byte, sealSize))
	if err == nil {
		err = write(io.MultiWriter(b, sum, length))
	}
	err = errors.Join(err, b.Flush())
	if err == nil {
		_, err = f.WriteAt(seal(length.n, sum.Sum32()), 0)
	}
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), s.name(key)); err != nil {
		return err
	}
	return s.collect()
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

const (
	keep      = 12 // files; each new state of a repository makes one, or two if it is one of several
	temporary = ".tmp-"
	abandoned = time.Hour // so old a temporary file has nobody who writes it
)

// collect removes all but those that were used last. Who has one mapped keeps it.
func (s shelf) collect() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil, info.IsDir(): // another process was faster
		case e.Name()[:min(len(temporary), len(e.Name()))] != temporary:
			files = append(files, info)
		case time.Since(info.ModTime()) > abandoned:
			os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, info := range files[min(keep, len(files)):] {
		if err := os.Remove(filepath.Join(s.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		os.Remove(filepath.Join(s.dir, witnesses, info.Name()))
	}
	return nil
}
