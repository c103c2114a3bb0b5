package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// request is what the caller asks of the agent. Exactly one field is set.
type request struct {
	Policy *policy  `json:",omitempty"` // to the setup stage, once
	Run    *run     `json:",omitempty"` // with stdin, stdout, stderr; none of them for a terminal
	Tar    *reading `json:",omitempty"` // with the stream to write to
	Own    string   `json:",omitempty"` // a folder that commands are to own
	Remove []string `json:",omitempty"` // to the remove stage
	Kill   bool     `json:",omitempty"` // whatever runs
}

type run struct {
	Args    []string
	Self    bool
	Env     []string
	Dir     string
	TTY     bool
	Size    *unix.Winsize // of the terminal, before the command can ask for it; nil: nobody knows
	Root    bool
	Network bool
	Limits  Limits
}

// reading is of a folder and all that is in it.
type reading struct {
	Dir    string
	Limits Limits
}

// reply answers every request but Kill.
type reply struct {
	Error  string             `json:",omitempty"` // the request could not be done
	Status syscall.WaitStatus `json:",omitempty"`
	Cause  string             `json:",omitempty"` // the limit that ended the command
	Full   bool               `json:",omitempty"` // the writable layer had no room left
	TTY    bool               `json:",omitempty"` // comes with the terminal's master; the end follows in a second reply
}

// messageLimit bounds a message: a command's arguments and environment are at most a few MiB for the kernel.
const messageLimit = 64 << 20

// wire carries messages, each a length and that many bytes of JSON, with open files beside it.
type wire struct{ conn *net.UnixConn }

func newWire(f *os.File) (*wire, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return &wire{c.(*net.UnixConn)}, nil
}

func (w *wire) send(message any, files ...*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	if _, _, err := w.conn.WriteMsgUnix(head, rights, nil); err != nil {
		return err
	}
	_, err = w.conn.Write(body)
	return err
}

// receive fills the message. The files that came with it are the caller's to close, also when there is an error.
func (w *wire) receive(message any) ([]*os.File, error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4*4))
	n, m, _, _, err := w.conn.ReadMsgUnix(head, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := openFiles(rights[:m])
	if err != nil {
		return files, err
	}
	if _, err := io.ReadFull(w.conn, head[n:]); err != nil {
		return files, err
	}
	length := binary.LittleEndian.Uint32(head)
	if length > messageLimit {
		return files, fmt.Errorf("message of %d bytes", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return files, err
	}
	return files, json.Unmarshal(body, message)
}

func openFiles(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// pair returns both ends of a socket for a wire; the second is for a child process.
func pair() (*wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	child := os.NewFile(uintptr(fds[1]), "agent")
	parent := os.NewFile(uintptr(fds[0]), "caller")
	defer parent.Close()
	w, err := newWire(parent)
	if err != nil {
		return nil, nil, errors.Join(err, child.Close())
	}
	return w, child, nil
}
