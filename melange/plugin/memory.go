package plugin

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// memory is that of a module, which grows where it is: all that it may ever become is reserved, and costs nothing until it is
// used. The engine's own would be copied again and again, and be in two places meanwhile.
type memory []byte

func reserve(_, most uint64) experimental.LinearMemory {
	m, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil { // the engine has no way to be told
		panic(fmt.Errorf("reserving %d bytes: %w", most, err))
	}
	return memory(m)
}

func (m memory) Reallocate(size uint64) []byte { return m[:size:size] }

func (m memory) Free() { unix.Munmap(m) }
