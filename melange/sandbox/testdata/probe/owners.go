package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// chown makes a tool that gives files away: UID GID NAME...
func chown(give func(name string, uid, gid int) error) tool {
	return func(args []string) error {
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		for _, name := range args[2:] {
			if err := give(name, uid, gid); err != nil {
				return err
			}
		}
		return nil
	}
}

// opened gives away a file by a descriptor that was opened in some way.
func opened(flags int, give func(fd, uid, gid int) error) tool {
	return chown(func(name string, uid, gid int) error {
		fd, err := unix.Open(name, flags, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return give(fd, uid, gid)
	})
}

func emptyPath(fd, uid, gid int) error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) }

var ownership = map[string]tool{
	"chown":       chown(os.Lchown),
	"chown-far":   chown(os.Chown), // follows a link
	"fchown":      opened(unix.O_RDONLY, unix.Fchown),
	"chown-empty": opened(unix.O_PATH|unix.O_NOFOLLOW, emptyPath),
	"chown-in": opened(unix.O_PATH|unix.O_DIRECTORY, func(fd, uid, gid int) error { // the file "x" of a folder
		return unix.Fchownat(fd, "x", uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}),
	"chown-closed": chown(func(string, int, int) error { return unix.Fchownat(99, "x", 197609, 197609, 0) }),
	"chown-chroot": chown(func(name string, uid, gid int) error {
		if err := unix.Chroot(name); err != nil {
			return err
		}
		if err := os.Chdir("/sub"); err != nil {
			return err
		}
		for _, way := range []string{"/absolute", "../../../../relative", "/link"} {
			if err := os.Chown(way, uid, gid); err != nil {
				return fmt.Errorf("%s: %w", way, err)
			}
		}
		return nil
	}),
	"chown-dropped": chown(func(name string, uid, gid int) error { // without the capability to
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capset(&header, &data[0]); err != nil {
			return err
		}
		return os.Lchown(name, uid, gid)
	}),
	// chown-reuse makes, gives away and removes files in a folder, until one that is only made has a number of
	// theirs, which it calls "reused".
	"chown-reuse": chown(func(dir string, uid, gid int) error {
		given := make(map[uint64]bool)
		for i := range 200 {
			name := fmt.Sprintf("%s/%d", dir, i)
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				return err
			}
			var s unix.Stat_t
			if err := unix.Lstat(name, &s); err != nil {
				return err
			}
			if given[s.Ino] {
				fmt.Println("reused")
				return os.Rename(name, dir+"/reused")
			}
			given[s.Ino] = true
			if err := os.Lchown(name, uid, gid); err != nil {
				return err
			}
			if err := os.Remove(name); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond) // a clock of the kernel ticks in between
		}
		return os.WriteFile(dir+"/reused", nil, 0o644)
	}),
	// chown-signals gives files away from many threads, while signals come all the time.
	"chown-signals": chown(func(dir string, uid, gid int) error {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1)
		var stop atomic.Bool
		go func() {
			for !stop.Load() {
				syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
		}()
		var all sync.WaitGroup
		errs := make(chan error, 8)
		for worker := range 8 {
			all.Go(func() {
				for i := range 100 {
					name := fmt.Sprintf("%s/%d-%d", dir, worker, i)
					if err := os.WriteFile(name, nil, 0o644); err != nil {
						errs <- err
						return
					}
					if err := os.Lchown(name, uid+worker, gid+i); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		all.Wait()
		stop.Store(true)
		close(errs)
		return <-errs
	}),
	"chown-forever": chown(func(name string, uid, gid int) error {
		for {
			if err := os.Lchown(name, uid, gid); err != nil {
				return err
			}
		}
	}),
	"owner": func(args []string) error { // as it is shown
		var lines []string
		for _, name := range args {
			var s unix.Stat_t
			if err := unix.Lstat(name, &s); err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%d:%d", s.Uid, s.Gid))
		}
		fmt.Println(strings.Join(lines, " "))
		return nil
	},
}
