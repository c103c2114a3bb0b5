// The probe is the only program in the roots of the sandbox's tests: small tools in one static binary. A tool
// that tries something forbidden succeeds, and says what it reached, when it was not stopped.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

type tool func(args []string) error

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "probe: which tool?")
		os.Exit(127)
	}
	for _, command := range strings.Split(strings.Join(os.Args[1:], "\x00"), "\x00;\x00") {
		perform(strings.Split(command, "\x00"))
	}
}

// perform runs one of the commands that ";" separates.
func perform(args []string) {
	for _, set := range []map[string]tool{files, processes, attempts, ownership, foreign} {
		if t, ok := set[args[0]]; ok {
			if err := t(args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, "probe: no tool", args[0])
	os.Exit(127)
}

var files = map[string]tool{
	"echo": func(args []string) error {
		_, err := fmt.Println(strings.Join(args, " "))
		return err
	},
	"cat": func(args []string) error {
		for _, name := range args {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			os.Stdout.Write(data)
		}
		return nil
	},
	"read": func(args []string) error { // what is there of them
		for _, name := range args {
			data, err := os.ReadFile(name)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			os.Stdout.Write(data)
		}
		return nil
	},
	"ls": func(args []string) error {
		entries, err := os.ReadDir(args[0])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	},
	"write": func(args []string) error { return os.WriteFile(args[0], []byte(args[1]), 0o644) },
	"copy": func(args []string) error {
		data, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		return os.WriteFile(args[1], data, 0o755)
	},
	"truncate": func(args []string) error {
		size, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		return f.Truncate(size)
	},
	"deepen": func(args []string) error { // n folders in each other
		n, err := strconv.Atoi(args[1])
		if err == nil {
			err = os.Chdir(args[0])
		}
		for range n {
			if err == nil {
				err = os.Mkdir("deeper", 0o755)
			}
			if err == nil {
				err = os.Chdir("deeper")
			}
		}
		return err
	},
	"mkdir":    func(args []string) error { return os.MkdirAll(args[0], 0o755) },
	"readlink": func(args []string) error { text, err := os.Readlink(args[0]); fmt.Println(text); return err },
	"link":     func(args []string) error { return os.Link(args[0], args[1]) },
	"symlink":  func(args []string) error { return os.Symlink(args[0], args[1]) },
	"rename":   func(args []string) error { return os.Rename(args[0], args[1]) },
	"rm":       func(args []string) error { return os.RemoveAll(args[0]) },
	"chmod": func(args []string) error {
		mode, err := strconv.ParseUint(args[0], 8, 32)
		if err != nil {
			return err
		}
		return chmod(args[1], uint32(mode))
	},
	"setxattr":    func(args []string) error { return setxattr(args[0], args[1], []byte(args[2])) },
	"setcap":      func(args []string) error { return setcap(args[0]) },
	"fill":        func(args []string) error { return fill(args[0], time.Millisecond) }, // other tests need some disk too
	"fill-slowly": func(args []string) error { return fill(args[0], 100*time.Millisecond) },
	"stdin": func([]string) error {
		_, err := os.Stdout.ReadFrom(os.Stdin)
		return err
	},
}

func fill(name string, pause time.Duration) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	for block := make([]byte, 1<<20); ; time.Sleep(pause) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
}

var processes = map[string]tool{
	"exit": func(args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(n)
		return nil
	},
	"env": func([]string) error {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	},
	"id": func([]string) error {
		host, err := os.Hostname()
		fmt.Println(os.Getuid(), os.Getgid(), os.Getpid() != 1, host)
		return err
	},
	"ps": func([]string) error {
		names, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		sort.Strings(names)
		for _, name := range names {
			line, _ := os.ReadFile(name + "/cmdline")
			fmt.Println(filepath.Base(name), strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " "))
		}
		return nil
	},
	"fds": func([]string) error {
		entries, err := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			to, err := os.Readlink("/proc/self/fd/" + e.Name())
			if err == nil && !strings.HasPrefix(to, "/proc/") && !strings.HasPrefix(to, "anon_inode:") {
				fmt.Println(e.Name())
			}
		}
		return err
	},
	"arch":   func([]string) error { fmt.Println(runtime.GOARCH); return nil },
	"name":   func([]string) error { fmt.Println(os.Args[0]); return nil },
	"cpus":   func([]string) error { fmt.Println(cpus()); return nil },
	"self":   func(args []string) error { return self(args, true) },
	"leave":  func(args []string) error { return self(args, false) }, // does not wait for it
	"signal": func(args []string) error { return signalSelf(args[0]) },
	"sleep": func(args []string) error {
		d, err := time.ParseDuration(args[0])
		time.Sleep(d)
		return err
	},
	"say": func(args []string) error { // n lines, a pause after each
		n, _ := strconv.Atoi(args[0])
		d, err := time.ParseDuration(args[1])
		for i := range n {
			fmt.Println("line", i)
			time.Sleep(d)
		}
		return err
	},
	"beat": func(args []string) error { // grows a file for as long as it lives
		f, err := os.Create(args[0])
		for err == nil {
			_, err = f.WriteString("x")
			time.Sleep(5 * time.Millisecond)
		}
		return err
	},
	"flood": func([]string) error {
		for line := []byte(strings.Repeat("x", 4095) + "\n"); ; {
			if _, err := os.Stdout.Write(line); err != nil {
				return err
			}
		}
	},
	"hog": func([]string) error {
		var all [][]byte
		for {
			block := make([]byte, 8<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			all = append(all, block)
			_ = all
		}
	},
	"hog-shared": func([]string) error {
		for {
			if err := shareMemory(8 << 20); err != nil {
				return err
			}
		}
	},
	"hog-unmapped": func([]string) error { return fillMemory() },
	"threads": func(args []string) error { // n of them, that sleep
		n, err := strconv.Atoi(args[0])
		for range n {
			go func() { runtime.LockOSThread(); select {} }()
		}
		time.Sleep(10 * time.Second)
		return err
	},
	"burn": func(args []string) error { // two processors, if it may
		d, err := time.ParseDuration(args[0])
		end := time.Now().Add(d)
		spin := func() {
			for time.Now().Before(end) {
			}
		}
		go spin()
		spin()
		return err
	},
	"bomb": func([]string) error {
		for {
			self([]string{"bomb"}, false)
		}
	},
}
