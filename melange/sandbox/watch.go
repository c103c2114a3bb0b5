package sandbox

import (
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The agent looks at what a command uses, and ends it when that is too much. Control groups, where there are
// any, stop it at the same marks; but they are not everywhere, and they do not say why a program failed.
const (
	watchSlow = 100 * time.Millisecond
	watchFast = 30 * time.Millisecond // from half of a limit on
)

// usage is what all processes but the agent have, files in memory not counted.
type usage struct {
	anonymous int64 // bytes that are of no file, in memory or where it is swapped to
	shared    int64 // bytes of shared memory, some of it perhaps files in memory
	tasks     int   // processes and threads
}

func (u *usage) add(v usage) {
	u.anonymous += v.anonymous
	u.shared += v.shared
	u.tasks += v.tasks
}

// memory is the least that it can be when files in memory take up the given number of bytes. What is in a memfd that
// nobody maps is seen by control groups alone.
func (u usage) memory(files int64) int64 { return u.anonymous + max(u.shared, files) }

func (g *guest) watch(x *execution, l Limits, done <-chan struct{}) {
	if l.Memory <= 0 && l.Pids <= 0 {
		return
	}
	pause := watchFast
	for {
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
		u, files := measure(quickly), g.inMemory()
		if cause := excess(u, files, l); cause != "" {
			x.end(cause)
		}
		pause = watchSlow
		if near(u.memory(files), l.Memory) || near(int64(u.tasks), int64(l.Pids)) {
			pause = watchFast
		}
	}
}

// lastLook finds out why a command failed before the watch looked again: where the kernel counts processes, who starts too
// many gets an error, and may die of it at once.
func lastLook(x *execution, l Limits) {
	if l.Pids > 0 && measure(quickly).tasks > l.Pids {
		x.end(causePids(l))
	}
}

func near(used, limit int64) bool { return limit > 0 && used > limit/2 }

// excess names the limit that is exceeded. Memory is measured in two ways: the quick one counts a page for each
// process that has it, and is believed only when it says that all is well.
func excess(u usage, files int64, l Limits) string {
	if l.Pids > 0 && u.tasks > l.Pids {
		return causePids(l)
	}
	if l.Memory > 0 && u.memory(files) > l.Memory && measure(exactly).memory(files) > l.Memory {
		return causeMemory(l)
	}
	return ""
}

func causeFree(l Limits) string   { return "left less than " + bytesText(l.Free) + " of the disk" }
func causeDisk(l Limits) string   { return "exceeded disk limit " + bytesText(l.Disk) }
func causePids(l Limits) string   { return "exceeded process limit " + strconv.Itoa(l.Pids) }
func causeMemory(l Limits) string { return "exceeded memory limit " + bytesText(l.Memory) }

func measure(process func(pid string) usage) (sum usage) {
	for _, pid := range processIDs() {
		sum.add(process(pid))
	}
	return sum
}

// quickly reads what the kernel has counted already. A process that is gone uses nothing.
func quickly(pid string) usage {
	f := readNumbers("/proc/"+pid+"/status", "RssAnon", "VmSwap", "RssShmem", "Threads")
	return usage{anonymous: (f[0] + f[1]) << 10, shared: f[2] << 10, tasks: int(f[3])}
}

// exactly has the kernel walk all pages, to count a page that several processes have once for all of them.
func exactly(pid string) usage {
	f := readNumbers("/proc/"+pid+"/smaps_rollup", "Pss_Anon", "SwapPss", "Pss_Shmem")
	return usage{anonymous: (f[0] + f[1]) << 10, shared: f[2] << 10}
}

// readNumbers reads lines "name: number" of a file, with or without a unit; what is missing is 0. It is read for
// each process many times a second.
func readNumbers(file string, names ...string) []int64 {
	found := make([]int64, len(names))
	data, err := os.ReadFile(file)
	if err != nil {
		return found
	}
	for i, name := range names {
		_, rest, _ := bytes.Cut(data, []byte("\n"+name+":"))
		for _, c := range bytes.TrimLeft(rest, " \t") {
			if c < '0' || c > '9' {
				break
			}
			found[i] = found[i]*10 + int64(c-'0')
		}
	}
	return found
}

// processIDs lists every process but this one, in no order.
func processIDs() []string {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	ids := names[:0]
	for _, name := range names {
		if name[0] >= '1' && name[0] <= '9' && name != "1" {
			ids = append(ids, name)
		}
	}
	return ids
}

// inMemory is what lies in the filesystems that are memory.
func (g *guest) inMemory() (sum int64) {
	for _, path := range g.memoryMounts {
		var s unix.Statfs_t
		if unix.Statfs(path, &s) == nil {
			sum += int64(s.Blocks-s.Bfree) * s.Bsize
		}
	}
	return sum
}

// Walking large trees takes its time: at most one part in diskShare of it.
const (
	diskPause = time.Second
	diskShare = 20
)

// watchDisk ends a command that fills the disk. A writable layer in memory needs no watch, it has a size.
func (g *guest) watchDisk(x *execution, l Limits, done <-chan struct{}) {
	if l.Disk <= 0 && l.Free <= 0 || len(g.measured) == 0 {
		return
	}
	for pause := diskPause; ; {
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
		begin := time.Now()
		if cause := g.diskExcess(l); cause != "" {
			x.end(cause)
		}
		pause = max(diskPause, diskShare*time.Since(begin))
	}
}

// diskExcess names the limit of disks that is exceeded. Only a disk that others may soon miss is worth the walk, unless
// there is a limit to the folders themselves.
func (g *guest) diskExcess(l Limits) string {
	scarce := l.Free > 0 && g.left() < l.Free
	if l.Disk <= 0 && !scarce {
		return ""
	}
	switch used := g.onDisk(); {
	case l.Disk > 0 && used > l.Disk:
		return causeDisk(l)
	case scarce && used > l.Free:
		return causeFree(l)
	}
	return ""
}

// contentExcess names the limit that files would exceed which are read from here to be kept: they may be far larger than
// what they take up, and are written out as a whole, and then once more.
func (g *guest) contentExcess(size int64, l Limits) string {
	switch {
	case l.Disk > 0 && size > l.Disk:
		return causeDisk(l)
	case l.Free > 0 && size > l.Free && size > (g.left()-l.Free)/2:
		return causeFree(l)
	}
	return ""
}

// left is the least that is free on a disk of the measured folders.
func (g *guest) left() int64 {
	least := int64(math.MaxInt64)
	for _, f := range g.measured {
		var s unix.Statfs_t
		if unix.Fstatfs(int(f.Fd()), &s) == nil {
			least = min(least, int64(s.Bavail)*s.Bsize)
		}
	}
	return least
}

// onDisk is what the folders take up. A file of several names counts once for all of them together.
func (g *guest) onDisk() (sum int64) {
	for _, f := range g.measured {
		// The host's names are gone; what is open is still there.
		filepath.WalkDir(fmt.Sprintf("/proc/self/fd/%d/", f.Fd()), func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // it may vanish meanwhile
			}
			if info, err := d.Info(); err == nil {
				stat := info.Sys().(*syscall.Stat_t)
				names := int64(1)
				if !d.IsDir() {
					names = max(names, int64(stat.Nlink))
				}
				sum += stat.Blocks * 512 / names
			}
			return nil
		})
	}
	return sum
}
