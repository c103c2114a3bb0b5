package repository

import (
	"fmt"
	"testing"

	"distro.internal/shared/apk"
)

// BenchmarkPublishOne adds one package to 3,000.
func BenchmarkPublishOne(b *testing.B) {
	r := &Repository{Dir: b.TempDir(), Keep: 2}
	signer, _ := testKeys()
	r.Signer = signer
	dir := b.TempDir()
	var all []Addition
	for i := range 3000 {
		a, err := writePackage(dir, fmt.Sprint("package", i), "1-r0", "x86_64", "content")
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, a)
	}
	publish(b, r, Change{Add: map[apk.Arch][]Addition{"x86_64": all}})
	n := 0
	for b.Loop() {
		n++
		publish(b, r, Change{Add: map[apk.Arch][]Addition{"x86_64": {add(b, "new", fmt.Sprint(n, "-r0"), "x86_64", "N")}}})
	}
}
