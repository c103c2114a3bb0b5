package sandbox

import (
	"bytes"
	"fmt"
	"io/fs"
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
	watchFast = 20 * time.Millisecond // from half of a limit on
)

// usage is what all processes but the agent use together.
type usage struct {
	memory int64 // bytes
	tasks  int   // processes and threads
}

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
		u := g.measure(l)
		if cause := g.excess(u, l); cause != "" {
			x.end(cause)
		}
		pause = watchSlow
		if u.memory > l.Memory/2 || u.tasks > l.Pids/2 {
			pause = watchFast
		}
	}
}

// excess names the limit that is exceeded. Memory is measured in two ways: the cheap one counts a page once
// for each process that has it, and is believed only when it says that all is well.
func (g *guest) excess(u usage, l Limits) string {
	if l.Pids > 0 && u.tasks > l.Pids {
		return causePids(l)
	}
	if l.Memory > 0 && u.memory > l.Memory && g.inMemory()+proportional() > l.Memory {
		return causeMemory(l)
	}
	return ""
}

func causeDisk(l Limits) string   { return "exceeded disk limit " + bytesText(l.Disk) }
func causePids(l Limits) string   { return "exceeded process limit " + strconv.Itoa(l.Pids) }
func causeMemory(l Limits) string { return "exceeded memory limit " + bytesText(l.Memory) }

func (g *guest) measure(l Limits) usage {
	var u usage
	for _, pid := range processIDs() {
		if l.Pids > 0 {
			u.tasks += threads(pid)
		}
		if l.Memory > 0 {
			u.memory += private(pid)
		}
	}
	if l.Memory > 0 {
		u.memory += g.inMemory()
	}
	return u
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

// threads is how many a process has; 0 when it is gone.
func threads(pid string) int {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; the 18th field after it is the number.
	const place = 17
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= place {
		return 0
	}
	n, _ := strconv.Atoi(string(fields[place]))
	return n
}

// private is what a process has in memory that is not of a file.
func private(pid string) int64 {
	statm, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 3 {
		return 0
	}
	resident, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, _ := strconv.ParseInt(string(fields[2]), 10, 64)
	return (resident - shared) * int64(os.Getpagesize())
}

// proportional is what all processes have in memory, each page counted once. The kernel walks all their pages
// for it.
func proportional() (sum int64) {
	for _, pid := range processIDs() {
		rollup, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range bytes.Lines(rollup) {
			value, ok := bytes.CutPrefix(line, []byte("Pss_Anon:"))
			if !ok {
				continue
			}
			kib, _ := strconv.ParseInt(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 10, 64)
			sum += kib << 10
		}
	}
	return sum
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
	if l.Disk <= 0 || len(g.measured) == 0 {
		return
	}
	for pause := diskPause; ; {
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
		begin := time.Now()
		if g.onDisk() > l.Disk {
			x.end(causeDisk(l))
		}
		pause = max(diskPause, diskShare*time.Since(begin))
	}
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
