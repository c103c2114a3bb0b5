package lint

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// checkCatalog looks whether data is what msgfmt writes: GNU gettext's manual, "The Format of GNU MO Files". It begins with
// a number that tells the order of bytes, a version, the number of messages, and where the tables of the messages and of
// their translations begin. An entry of a table is the length and the place of a text that ends in a zero byte.
func checkCatalog(data []byte) error {
	const header = 28
	if len(data) < header {
		return errors.New("it is too short")
	}
	var order binary.ByteOrder = binary.LittleEndian
	const magic = 0x950412de
	if order.Uint32(data) != magic {
		order = binary.BigEndian
	}
	if order.Uint32(data) != magic {
		return errors.New("it does not begin like one")
	}
	if major := order.Uint32(data[4:]) >> 16; major > 1 {
		return fmt.Errorf("version %d is not known", major)
	}
	messages := uint64(order.Uint32(data[8:]))
	for _, field := range []int{12, 16} {
		table := uint64(order.Uint32(data[field:]))
		if table+8*messages > uint64(len(data)) {
			return errors.New("a table is cut off")
		}
		for i := range messages {
			entry := data[table+8*i:]
			end := uint64(order.Uint32(entry)) + uint64(order.Uint32(entry[4:]))
			if end >= uint64(len(data)) || data[end] != 0 {
				return fmt.Errorf("text %d is cut off", i+1)
			}
		}
	}
	return nil
}
