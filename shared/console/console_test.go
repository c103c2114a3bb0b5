package console

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPlainStreamGetsLinesOnly(t *testing.T) {
	var b bytes.Buffer
	c := New(&b, func() []string { return []string{"live"} })
	c.Println("one")
	time.Sleep(150 * time.Millisecond)
	c.Println("two")
	c.Close()
	if b.String() != "one\ntwo\n" {
		t.Errorf("printed %q", b.String())
	}
}

// TestTerminal looks at what a pseudo-terminal shows.
func TestTerminal(t *testing.T) {
	master, slave := pty(t)
	var text string
	var read sync.WaitGroup
	read.Go(func() {
		b, _ := io.ReadAll(master) // ends with EIO when the last slave is closed
		text = string(b)
	})
	c := New(slave, func() []string { return []string{"building a", strings.Repeat("x", 100)} })
	time.Sleep(250 * time.Millisecond)
	c.Println("done b")
	c.Close()
	slave.Close()
	read.Wait()
	for _, want := range []string{"building a\r\n", strings.Repeat("x", 39) + "…\r\n", "\x1b[2A\x1b[Jdone b\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("screen lacks %q:\n%q", want, text)
		}
	}
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatal(errno)
	}
	slave = os.NewFile(fd, "pty")
	if err := unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 40}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		30 * time.Millisecond: "0.03s", 4200 * time.Millisecond: "4.2s", 187 * time.Second: "3m07s", 62 * time.Minute: "1h02m",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{512: "512 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// TestStyle: words stand out on a terminal, for those who want it, and nowhere else.
func TestStyle(t *testing.T) {
	_, slave := pty(t)
	for _, c := range []struct {
		out   io.Writer
		plain bool
		want  string
	}{
		{slave, false, "\x1b[1;31mbad\x1b[0m"},
		{slave, true, "bad"},
		{new(strings.Builder), false, "bad"},
	} {
		if got := StyleOf(c.out, c.plain).Bad("bad"); got != c.want {
			t.Errorf("%T, plain %v: %q", c.out, c.plain, got)
		}
	}
}
