package ar

import (
	"bytes"
	"fmt"
	"testing"
)

// archive is one of two files, the second with a long name, and an index of a symbol in each.
func archive(first, second string) []byte {
	head := func(name string, size int) string {
		return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 1700000000, 1000, 100, "100664", size)
	}
	even := func(s string) string {
		if len(s)%2 != 0 {
			return s + "\n"
		}
		return s
	}
	const index = 4 + 2*4 + 4
	at := len(Magic) + headerSize + index
	names := head(longNames, 20) + "a-name-so-very-long/"
	one := at + len(names)
	two := one + headerSize + len(even(first))
	number := func(n int) string { return string([]byte{0, 0, byte(n >> 8), byte(n)}) }
	return []byte(Magic + head(symbols, index) + number(2) + number(one) + number(two) + "x\x00y\x00" + names +
		head("a.o/", len(first)) + even(first) + head("/0", len(second)) + even(second))
}

func TestRewrite(t *testing.T) {
	got, err := Rewrite(archive("debugging", "more"), func(b []byte) ([]byte, error) {
		return bytes.ReplaceAll(b, []byte("bugg"), nil), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.ReplaceAll(archive("deing", "more"), []byte("1700000000  1000  100   100664  "), []byte("0           0     0     644     "))
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

// FuzzRewrite: no archive is too broken, and one that was rewritten stays as it is.
func FuzzRewrite(f *testing.F) {
	f.Add(archive("one", "two!"))
	f.Add([]byte(Magic + "#1/4            0           0     0     644     6         `\nnamexy"))
	f.Fuzz(func(t *testing.T, data []byte) {
		same := func(b []byte) ([]byte, error) { return b, nil }
		once, err := Rewrite(data, same)
		if err != nil {
			return
		}
		twice, err := Rewrite(once, same)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("rewriting it again: %v\n%q\n%q", err, once, twice)
		}
	})
}
