package apk

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestWorld(t *testing.T) {
	world := deps("a", "!b", "c@edge>=1", "d~2")
	var b bytes.Buffer
	if err := WriteWorld(&b, world); err != nil || b.String() != "a\n!b\nc@edge>=1\nd~2\n" {
		t.Fatalf("%q, %v", &b, err)
	}
	got, err := ParseWorld(&b)
	if err != nil || !slices.Equal(got, world) {
		t.Errorf("%v, %v", got, err)
	}
	if err := WriteWorld(&b, []Dependency{{Name: "a\nb"}}); err == nil {
		t.Error("a line break is written")
	}
}

func TestRepositories(t *testing.T) {
	const text = "https://one.test/os\n@edge /srv/repository\n"
	want := []RepositoryLine{{URL: "https://one.test/os"}, {Tag: "edge", URL: "/srv/repository"}}
	got, err := ParseRepositories(strings.NewReader("# comment\n\n" + text))
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
	var b bytes.Buffer
	if err := WriteRepositories(&b, got); err != nil || b.String() != text {
		t.Errorf("%q, %v", &b, err)
	}
	for _, l := range []RepositoryLine{{}, {URL: "a b"}, {URL: "#x"}, {Tag: "a\n", URL: "x"}} {
		if err := WriteRepositories(&b, []RepositoryLine{l}); err == nil {
			t.Errorf("%+v is written", l)
		}
	}
	if _, err := ParseRepositories(strings.NewReader("a b\n")); !errors.Is(err, ErrFormat) {
		t.Errorf("two words: %v", err)
	}
}

func FuzzWorld(f *testing.F) {
	f.Add("busybox\n!openrc tool@edge>=1.2\n")
	f.Fuzz(func(t *testing.T, text string) {
		world, err := ParseWorld(strings.NewReader(text))
		if err != nil {
			return
		}
		again := rewritten(t, func(w io.Writer) error { return WriteWorld(w, world) }, func(r io.Reader) (func(io.Writer) error, error) {
			world, err := ParseWorld(r)
			return func(w io.Writer) error { return WriteWorld(w, world) }, err
		})
		if n := len(strings.Fields(again)); n != len(world) {
			t.Errorf("%q: %d words of %d are left in %q", text, n, len(world), again)
		}
	})
}

func FuzzRepositories(f *testing.F) {
	f.Add("# ours\nhttps://a.test/os\n@edge /srv/edge\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := ParseRepositories(strings.NewReader(text))
		if err != nil {
			return
		}
		rewritten(t, func(w io.Writer) error { return WriteRepositories(w, lines) }, func(r io.Reader) (func(io.Writer) error, error) {
			again, err := ParseRepositories(r)
			if !slices.Equal(lines, again) {
				t.Errorf("%q: %v, and again %v", text, lines, again)
			}
			return func(w io.Writer) error { return WriteRepositories(w, again) }, err
		})
	})
}

func FuzzTriggers(f *testing.F) {
	sum := Checksum{1, 2, 3}
	f.Add(sum.String() + " /usr/lib /etc/*\n" + Checksum{4}.String() + " /x\n")
	read := func(r io.Reader) (func(io.Writer) error, error) {
		x := &Installed{Packages: []*InstalledPackage{{Package: &Package{Checksum: sum}}}}
		return x.WriteTriggers, x.ReadTriggers(r)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if write, err := read(strings.NewReader(text)); err == nil {
			rewritten(t, write, read)
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	pem, err := EncodePublicKey(testRing()["test.rsa.pub"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem)
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := DecodePublicKey(data)
		if err != nil {
			return
		}
		pem, err := EncodePublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := DecodePublicKey(pem); err != nil || !again.Equal(key) {
			t.Errorf("%v, %v", again, err)
		}
	})
}

// rewritten writes what was read, reads that, and writes it again, which must give the same bytes.
func rewritten(t *testing.T, write func(io.Writer) error, read func(io.Reader) (func(io.Writer) error, error)) string {
	t.Helper()
	var first, second bytes.Buffer
	if err := write(&first); err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	write, err := read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatalf("reading what was written: %v\n%s", err, &first)
	}
	if err := write(&second); err != nil || first.String() != second.String() {
		t.Errorf("written again (%v):\n%s\nbefore:\n%s", err, &second, &first)
	}
	return first.String()
}
