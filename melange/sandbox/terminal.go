package sandbox

import (
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// terminal keeps the caller's terminal and the command's in step.
type terminal struct {
	master *os.File
	input  *os.File // nil when the caller's input is no terminal
	saved  *unix.Termios
	resize chan os.Signal
}

func newTerminal(master *os.File, stdin io.Reader) *terminal {
	t := &terminal{master: master}
	f, ok := stdin.(*os.File)
	if !ok {
		return t
	}
	saved, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return t
	}
	raw := *saved
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw) != nil {
		return t
	}
	t.input, t.saved, t.resize = f, saved, make(chan os.Signal, 1)
	signal.Notify(t.resize, unix.SIGWINCH)
	t.fit()
	go func() {
		for range t.resize {
			t.fit()
		}
	}()
	return t
}

func (t *terminal) fit() {
	if size := sizeOf(t.input); size != nil {
		unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// sizeOf is the size of a terminal; nil when it is none.
func sizeOf(stdin io.Reader) *unix.Winsize {
	f, ok := stdin.(*os.File)
	if !ok {
		return nil
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return size
}

func (t *terminal) restore() {
	if t.input == nil {
		return
	}
	signal.Stop(t.resize)
	close(t.resize)
	unix.IoctlSetTermios(int(t.input.Fd()), unix.TCSETS, t.saved)
}
