package plugin

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// TestHusk: what the engine would put into the memory is the same, and nothing else is left to make smaller.
func TestHusk(t *testing.T) {
	whole := module(t)
	empty, err := husk(whole)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image(t, empty), image(t, whole)) {
		t.Error("the memory differs")
	}
	if again, err := husk(empty); err != nil || !bytes.Equal(again, empty) {
		t.Errorf("the husk of a husk is another: %v", err)
	}
	runtime := wazero.NewRuntime(t.Context())
	defer runtime.Close(t.Context())
	if _, err := runtime.CompileModule(t.Context(), empty); err != nil {
		t.Error(err)
	}
}

// image is the memory of a module as it begins.
func image(t *testing.T, module []byte) []byte {
	t.Helper()
	memory := make([]byte, 8<<20)
	for rest := module[len(preamble):]; len(rest) > 0; {
		kind := rest[0]
		content, after, ok := sized(rest[1:])
		if !ok {
			t.Fatal("a section is cut")
		}
		rest = after
		if kind != dataSection {
			continue
		}
		all, ok := pieces(content)
		if !ok || len(all) == 0 {
			t.Fatal("the pieces of data cannot be read")
		}
		for _, p := range all {
			copy(memory[p.at:], p.data)
		}
		return memory
	}
	t.Fatal("there is no data")
	return nil
}

// TestJoined: pieces are joined where that changes nothing.
func TestJoined(t *testing.T) {
	section := func(pieces ...string) []byte {
		return []byte(string(rune(len(pieces))) + strings.Join(pieces, ""))
	}
	at := func(offset byte, text string) string {
		return string([]byte{plainMode, i32Const, offset, endCode, byte(len(text))}) + text
	}
	for _, tc := range []struct {
		name string
		in   []byte
		want []byte // nil: as it is
	}{
		{"none", section(), section()},
		{"close", section(at(1, "ab"), at(5, "c")), section(at(1, "ab\x00\x00c"))},
		{"in another order", section(at(5, "c"), at(1, "ab")), section(at(1, "ab\x00\x00c"))},
		{"over each other", section(at(1, "ab"), at(2, "c")), nil},
		{"passive", append([]byte{1, 1, 1}, 'a'), nil},
		{"before the memory", section(at(0x7f, "a")), nil},
		{"cut", section(at(1, "ab"))[:6], nil},
	} {
		if got, ok := joined(tc.in); ok != (tc.want != nil) || !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %x, %v, not %x", tc.name, got, ok, tc.want)
		}
	}
}

// FuzzHusk: any bytes are a module with a husk, of which there is no smaller one, or an error.
func FuzzHusk(f *testing.F) {
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\x01\x00\x0a\x06\x01\x04\x00\x01\x01\x0b\x0b\x0f\x02\x00\x41\x05\x0b\x01c\x00\x41\x01\x0b\x02ab"))
	f.Fuzz(func(t *testing.T, module []byte) {
		once, err := husk(module)
		if err != nil {
			return
		}
		if twice, err := husk(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x, then %x, %v", once, twice, err)
		}
	})
}
