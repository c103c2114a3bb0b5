package rootfs

import (
	"fmt"
	"strings"
	"testing"

	"distro.internal/shared/apk"
)

// environment writes n packages of m files each, as large environments have them.
func environment(b *testing.B, n, m int) []string {
	files := make([]string, n)
	for i := range files {
		var spec strings.Builder
		fmt.Fprintf(&spec, "p%d 1-r0\n", i)
		for j := range m {
			fmt.Fprintf(&spec, "usr/lib/d%d/p%d-f%d content of %d\n", j%7, i, j, j)
		}
		files[i] = writePackage(b, spec.String())
	}
	return files
}

func unpackFiles(b *testing.B, s Store, files []string) []Layer {
	layers := make([]Layer, len(files))
	for i, f := range files {
		var err error
		if layers[i], err = s.Unpack(b.Context(), f, anything); err != nil {
			b.Fatal(err)
		}
	}
	return layers
}

// BenchmarkWarm is what the start of a build costs when its 60 packages are unpacked and were composed
// before; opened, when their files have to be looked at, because they were composed otherwise.
func BenchmarkWarm(b *testing.B) {
	files := environment(b, 60, 50)
	s := Store{Dir: b.TempDir()}
	var sums []apk.Checksum
	compose := func() {
		sums = nil
		layers := unpackFiles(b, s, files)
		for _, l := range layers {
			sums = append(sums, l.Package.Checksum)
		}
		if _, err := s.Compose(b.Context(), layers, Compose{Arch: "x86_64"}); err != nil {
			b.Fatal(err)
		}
	}
	compose()
	b.Run("looked up", func(b *testing.B) {
		for b.Loop() {
			if _, ok := s.Composed(sums, Compose{Arch: "x86_64"}); !ok {
				b.Fatal("is not there")
			}
		}
	})
	b.Run("opened", func(b *testing.B) {
		for b.Loop() {
			compose()
		}
	})
}

// BenchmarkComposeCold is a new combination of 150 unpacked packages with 30,000 files.
func BenchmarkComposeCold(b *testing.B) {
	s := Store{Dir: b.TempDir()}
	layers := unpackFiles(b, s, environment(b, 150, 200))
	n := 0
	for b.Loop() {
		n++
		o := Compose{Arch: "x86_64", Accounts: Accounts{Users: []User{{Name: fmt.Sprint("u", n), UID: 2000 + n}}}}
		if _, err := s.Compose(b.Context(), layers, o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	file := environment(b, 1, 5000)[0]
	for b.Loop() {
		if _, err := (Store{Dir: b.TempDir()}).Unpack(b.Context(), file, anything); err != nil {
			b.Fatal(err)
		}
	}
}
