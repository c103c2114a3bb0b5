package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A tool is a command that this program brings along.
type tool struct {
	valued string // options that have a value
	run    func(context.Context, *call) error
}

var tools = map[string]tool{
	"capabilities": {run: capabilities},
	"cat":          {run: cat},
	"chmod":        {run: chmod},
	"cp":           {run: cp},
	"dial":         {run: dial},
	"die":          {run: die},
	"id":           {run: id},
	"install":      {"m", install},
	"ln":           {run: ln},
	"ls":           {run: list},
	"mkdir":        {run: mkdir},
	"now":          {run: now},
	"rm":           {run: rm},
	"sleep":        {run: pause},
}

// path is where an argument leads.
func (c *call) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// pair returns the two paths of a tool that has a source and a target. A target
// that is a folder takes the source under its own name.
func (c *call) pair() (from, to string, err error) {
	if len(c.args) != 2 {
		return "", "", errors.New("need a source and a target")
	}
	from, to = c.path(c.args[0]), c.path(c.args[1])
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, filepath.Base(from))
	}
	return from, to, nil
}

func cat(_ context.Context, c *call) error {
	if len(c.args) == 0 {
		_, err := io.Copy(c.out, c.in)
		return err
	}
	for _, name := range c.args {
		data, err := os.ReadFile(c.path(name))
		if err != nil {
			return err
		}
		if _, err := c.out.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// list prints the names in folders, sorted, a line each.
func list(_ context.Context, c *call) error {
	for _, name := range c.args {
		entries, err := os.ReadDir(c.path(name))
		if err != nil {
			return err
		}
		for _, e := range entries {
			fmt.Fprintln(c.out, e.Name())
		}
	}
	return nil
}

func chmod(_ context.Context, c *call) error {
	if len(c.args) < 2 {
		return errors.New("need a mode and files")
	}
	mode, err := parseMode(c.args[0])
	if err != nil {
		return err
	}
	for _, name := range c.args[1:] {
		if err := os.Chmod(c.path(name), mode); err != nil {
			return err
		}
	}
	return nil
}

func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 12)
	mode := fs.FileMode(n & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&bit != 0 {
			mode |= flag
		}
	}
	return mode, err
}

func cp(_ context.Context, c *call) error {
	from, to, err := c.pair()
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() && c.has('r') {
		return os.CopyFS(to, os.DirFS(from))
	}
	return copyFile(from, to, info.Mode().Perm())
}

func install(_ context.Context, c *call) error {
	mode, err := parseMode("755")
	if text, ok := c.options['m']; ok {
		mode, err = parseMode(text)
	}
	if err != nil {
		return err
	}
	if c.has('d') {
		for _, name := range c.args {
			if err := errors.Join(os.MkdirAll(c.path(name), 0o755), os.Chmod(c.path(name), mode)); err != nil {
				return err
			}
		}
		return nil
	}
	from, to, err := c.pair()
	if err != nil {
		return err
	}
	if c.has('D') {
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(copyFile(from, to, mode), os.Chmod(to, mode))
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func ln(_ context.Context, c *call) error {
	if len(c.args) != 2 {
		return errors.New("need a target and a name")
	}
	if c.has('s') {
		return os.Symlink(c.args[0], c.path(c.args[1]))
	}
	return os.Link(c.path(c.args[0]), c.path(c.args[1]))
}

func mkdir(_ context.Context, c *call) error {
	for _, name := range c.args {
		create := os.Mkdir
		if c.has('p') {
			create = os.MkdirAll
		}
		if err := create(c.path(name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func rm(_ context.Context, c *call) error {
	for _, name := range c.args {
		remove := os.Remove
		if c.has('r') {
			remove = os.RemoveAll
		}
		if err := remove(c.path(name)); err != nil && !c.has('f') {
			return err
		}
	}
	return nil
}

// id prints who it is: UID:GID.
func id(_ context.Context, c *call) error {
	_, err := fmt.Fprintf(c.out, "%d:%d\n", os.Getuid(), os.Getgid())
	return err
}

// capabilities prints what this process may do beyond its id.
func capabilities(_ context.Context, c *call) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			fmt.Fprintln(c.out, strings.TrimSpace(set))
		}
	}
	return nil
}

// die kills this very shell.
func die(ctx context.Context, _ *call) error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// now prints the time: what no build should write down.
func now(_ context.Context, c *call) error {
	_, err := fmt.Fprintln(c.out, time.Now().UnixNano())
	return err
}

// dial connects to a TCP address and hangs up.
func dial(ctx context.Context, c *call) error {
	for _, address := range c.args {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		conn.Close()
	}
	return nil
}
