package sandbox

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTerminal: what a shell needs to be interactive.
func TestTerminal(t *testing.T) {
	a := start(t, Sandbox{})
	input, keyboard := io.Pipe()
	defer keyboard.Close()
	var screen bytes.Buffer
	go io.WriteString(keyboard, "typed\n")
	err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "terminal"}, Stdin: input, Stdout: &screen, TTY: true})
	must(t, err)
	// The terminal echoes what is typed, and ends lines as terminals do.
	for _, want := range []string{"terminal: true\r\n", "controlling: true\r\n", "typed\r\n", "read: typed\r\n"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("%q is not in %q", want, screen.String())
		}
	}
}

// TestTerminalInput: a command does not type into its own terminal what would be left for who reads there after it.
func TestTerminalInput(t *testing.T) {
	a := start(t, Sandbox{})
	var screen bytes.Buffer
	err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "tiocsti"}, Stdin: strings.NewReader(""), Stdout: &screen, TTY: true})
	if err == nil || !strings.Contains(screen.String(), "operation not permitted") {
		t.Errorf("%v: %s", err, screen.String())
	}
}

func TestTerminalEndOfInput(t *testing.T) {
	a := start(t, Sandbox{})
	var screen bytes.Buffer
	must(t, a.Run(t.Context(), Command{Args: []string{"/bin/probe", "stdin"}, Stdin: strings.NewReader("piped\n"), Stdout: &screen, TTY: true}))
	if !strings.HasSuffix(screen.String(), "piped\r\n") {
		t.Errorf("got %q", screen.String())
	}
}

// TestTerminalInterrupt: Ctrl-C in the caller's raw terminal reaches what runs inside, and only that.
func TestTerminalInterrupt(t *testing.T) {
	t.Parallel()
	a := start(t, Sandbox{})
	input, keyboard := io.Pipe()
	defer keyboard.Close()
	time.AfterFunc(300*time.Millisecond, func() { keyboard.Write([]byte{3}) })
	err := a.Run(t.Context(), Command{Args: []string{"/bin/probe", "sleep", "1h"}, Stdin: input, TTY: true})
	if err == nil || !(strings.Contains(err.Error(), "interrupt") || strings.Contains(err.Error(), "exit status 2")) {
		t.Errorf("got %v", err)
	}
	expect(t, a, "echo", "the environment goes on")
}

// TestCallersTerminal: the size is handed on, and raw mode does not stay.
func TestCallersTerminal(t *testing.T) {
	master, slave, err := openTerminal(identity{})
	must(t, err)
	defer master.Close()
	defer slave.Close()
	must(t, unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 34}))
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	must(t, err)
	a := start(t, Sandbox{})
	var screen bytes.Buffer
	must(t, a.Run(t.Context(), Command{Args: []string{"/bin/probe", "size"}, Stdin: slave, Stdout: &screen, TTY: true}))
	if screen.String() != "12 34\r\n" {
		t.Errorf("got %q", screen.String())
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	must(t, err)
	if *before != *after {
		t.Error("the terminal is not as it was")
	}
}
