package build

import (
	"bytes"
	"testing"
)

func FuzzRecord(f *testing.F) {
	r := &Record{
		Package: RecordedRecipe{Name: "hello", Version: "1.0", Epoch: 2, Commit: "<c>"},
		Record: Recorded{
			Arch: "aarch64", BuildArch: "x86_64", Time: 5, BuildPlan: "b", PackagesPlan: "p",
			Files: []RecordedFile{{"a.patch", "0/0"}}, Root: []RecordedPackage{{"sh", "1-r0", "Q1x"}}, Sysroot: []RecordedPackage{{"libc", "2-r0", "Q1y"}},
		},
	}
	text, err := r.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"package": {"name": "a"}, "record": {"arch": "x86_64", "root": []}}`))
	f.Add([]byte("package:\n  name: of another builder\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRecord(text)
		if err != nil {
			return
		}
		first, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRecord(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s became %s (%v)", first, second, err)
		}
	})
}
