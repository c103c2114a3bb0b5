package sandbox

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReceive: whatever comes over a wire is a message or an error.
func FuzzReceive(f *testing.F) {
	message := func(length uint32, body string) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, length), body...)
	}
	f.Add(message(17, `{"Tar":"/outputs"}`))
	f.Add(message(4, "null"))
	f.Add(message(1<<31, "x"))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return // more than a socket holds
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		to, from := os.NewFile(uintptr(fds[0]), "to"), os.NewFile(uintptr(fds[1]), "from")
		defer from.Close()
		w, err := newWire(from)
		must(t, err)
		defer w.conn.Close()
		to.Write(data)
		to.Close()
		for err == nil {
			var r request
			_, err = w.receive(&r)
		}
	})
}
