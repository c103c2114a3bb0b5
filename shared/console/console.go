// Package console prints for people: permanent lines, and on a terminal a live
// area below them that shows what is going on. On anything but a terminal the
// live area is never drawn, and no escape sequence is ever written.
package console

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A Console serializes lines and the live area on one stream.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	term  *os.File // nil when out is no terminal
	drawn int      // lines of the live area on screen
	stop  chan struct{}
	ended sync.WaitGroup
}

// New prints to out. live draws the live area, and is asked ten times a second
// while out is a terminal; it may be nil. Close ends it.
func New(out io.Writer, live func() []string) *Console {
	c := &Console{out: out, stop: make(chan struct{})}
	f, ok := out.(*os.File)
	if !ok || live == nil || !IsTerminal(f) {
		return c
	}
	c.term = f
	c.ended.Go(func() { c.animate(live) })
	return c
}

// IsTerminal tells whether a person looks at f.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Println prints one permanent line.
func (c *Console) Println(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	fmt.Fprintln(c.out, line)
}

// Close removes the live area.
func (c *Console) Close() {
	close(c.stop)
	c.ended.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
}

func (c *Console) animate(live func() []string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
			lines := live() // outside the lock: it may take locks of its own
			c.mu.Lock()
			c.draw(lines)
			c.mu.Unlock()
		}
	}
}

// erase moves up over the live area and clears it.
func (c *Console) erase() {
	if c.drawn > 0 {
		fmt.Fprintf(c.out, "\x1b[%dA\x1b[J", c.drawn)
		c.drawn = 0
	}
}

func (c *Console) draw(lines []string) {
	rows, columns := c.size()
	if len(lines) > rows-1 {
		lines = lines[:rows-1]
	}
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(Cut(line, columns))
		b.WriteByte('\n')
	}
	c.erase()
	io.WriteString(c.out, b.String())
	c.drawn = len(lines)
}

func (c *Console) size() (rows, columns int) {
	w, err := unix.IoctlGetWinsize(int(c.term.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row < 2 || w.Col == 0 {
		return 24, 80
	}
	return int(w.Row), int(w.Col)
}

// Cut shortens a line to a number of columns, ending it with an ellipsis; it
// counts a rune as one column.
func Cut(line string, columns int) string {
	if utf8.RuneCountInString(line) <= columns {
		return line
	}
	runes := []rune(line)
	return string(runes[:max(columns-1, 0)]) + "…"
}

// Duration prints a time as people say it: 0.03s, 4.2s, 3m07s, 1h02m.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// Bytes prints a size in binary units: 512 B, 1.5 MiB.
func Bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGT"[unit])
}
