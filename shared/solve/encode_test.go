package solve

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve/synthetic"
)

// compileText compiles repositories from the text of their indexes.
func compileText(t testing.TB, list []Repository) *Universe {
	c := NewCompiler("x86_64", 0)
	var entries apk.Entries
	for _, r := range list {
		var text strings.Builder
		if err := r.Index.Write(&text); err != nil {
			t.Fatal(err)
		}
		r.Index = nil
		c.Begin(r)
		for from := range strings.SplitAfterSeq(text.String(), "\n\n") {
			if err := entries.Read(from); err != nil {
				t.Fatal(err)
			}
			c.Add(entries.List)
		}
	}
	return c.Universe()
}

// reread writes a universe and reads it back.
func reread(t testing.TB, u *Universe) *Universe {
	var b bytes.Buffer
	if err := u.Encode(&b); err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b.Bytes(), bytes.NewReader(b.Bytes()), u.Repositories(), u.arch)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// TestEncode checks that a universe answers alike whether it was compiled from
// packages, from text, or read back; and that one can lie over it.
func TestEncode(t *testing.T) {
	for seed := range uint64(100) {
		l := draw(seed + 1<<21)
		base, over := l.repositories(), Repository{Index: l.index()}
		made := Compile(base, "x86_64")
		read := reread(t, compileText(t, base))
		madeOver, readOver := made.Overlay(over), read.Overlay(over)
		for range 4 {
			world := l.world(base)
			for _, u := range [][2]*Universe{{made, read}, {madeOver, readOver}} {
				want, err1 := u[0].Solve(world, Options{})
				got, err2 := u[1].Solve(world, Options{})
				if render(got, err2) != render(want, err1) {
					t.Fatalf("seed %d, world %v:\nread: %v\nmade: %v", seed, world, render(got, err2), render(want, err1))
				}
				if err1 != nil {
					continue
				}
				for i := range want.Packages {
					w, g := want.Packages[i], got.Packages[i]
					if w.Reason != g.Reason || w.Repository != g.Repository || w.Tag != g.Tag || w.Checksum != g.Checksum {
						t.Fatalf("seed %d, world %v: read %+v, made %+v", seed, world, g, w)
					}
				}
			}
		}
	}
}

// TestMerge checks that repositories which were compiled one by one make the
// same universe as together.
func TestMerge(t *testing.T) {
	for seed := range uint64(100) {
		l := draw(seed + 1<<22)
		list := l.repositories()
		if seed%2 == 0 { // some of what one has another has as well
			list = append(list, Repository{Index: &apk.Index{Packages: list[0].Index.Packages[len(list[0].Index.Packages)/2:]}})
		}
		whole := compileText(t, list)
		c := NewCompiler("x86_64", 0)
		for i, r := range list {
			alone := compileText(t, []Repository{{Index: r.Index}})
			if i%2 == 0 {
				alone = reread(t, alone)
			}
			c.Begin(Repository{Name: r.Name, Tag: r.Tag, Unavailable: r.Unavailable})
			if err := c.Merge(alone); err != nil {
				t.Fatal(err)
			}
		}
		merged := reread(t, c.Universe())
		for range 4 {
			world := l.world(list)
			want, err1 := whole.Solve(world, Options{})
			got, err2 := merged.Solve(world, Options{})
			if render(got, err2) != render(want, err1) {
				t.Fatalf("seed %d, world %v:\nmerged: %v\nwhole: %v", seed, world, render(got, err2), render(want, err1))
			}
			if err1 != nil {
				continue
			}
			for i := range want.Packages {
				w, g := want.Packages[i], got.Packages[i]
				if w.Reason != g.Reason || w.Repository != g.Repository || w.Tag != g.Tag || !reflect.DeepEqual(w.Package, g.Package) {
					t.Fatalf("seed %d, world %v: merged %+v, whole %+v", seed, world, g, w)
				}
			}
		}
	}
}

// TestEncodedPackages checks that nothing of a package is lost, and that it is
// the same one whenever it is asked for.
func TestEncodedPackages(t *testing.T) {
	p := &apk.Package{
		Name: "a", Version: "1.2-r0", Arch: "x86_64", Description: "an a", URL: "https://a.example", License: "MIT",
		Origin: "o", Maintainer: "m", Commit: "c0ffee", BuildDate: 12, Size: 3, InstalledSize: 4, ProviderPriority: 5,
		Depends:  []apk.Dependency{{Name: "b", Op: apk.GreaterOrEqual, Version: "1"}, {Name: "c", Conflict: true}},
		Provides: []apk.Dependency{{Name: "d", Op: apk.Equal, Version: "2"}}, Checksum: apk.Checksum{1},
	}
	list := []Repository{{Index: &apk.Index{Packages: []*apk.Package{p}}}}
	u := reread(t, compileText(t, list))
	d := apk.Dependency{Name: "d", Op: apk.Equal, Version: "2"}
	got := u.Providers(d)
	if len(got) != 1 || got[0] != u.Providers(d)[0] {
		t.Fatalf("providers: %v, then %v", got, u.Providers(d))
	}
	var x, y strings.Builder
	for b, p := range map[*strings.Builder]*apk.Package{&x: p, &y: got[0]} {
		if err := (&apk.Index{Packages: []*apk.Package{p}}).Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if x.String() != y.String() {
		t.Errorf("got\n%swant\n%s", y.String(), x.String())
	}
}

// TestDecodeCut checks that what is cut off is refused, wherever that is.
func TestDecodeCut(t *testing.T) {
	var b bytes.Buffer
	list := []Repository{{Index: synthetic.Index(20, 1)}}
	if err := compileText(t, list).Encode(&b); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() {
		if _, err := Decode(b.Bytes()[:n], bytes.NewReader(b.Bytes()), list, "x86_64"); err == nil {
			t.Fatalf("%d of %d bytes are taken for the whole", n, b.Len())
		}
	}
	if _, err := Decode(append(b.Bytes(), 0), bytes.NewReader(b.Bytes()), list, "x86_64"); err == nil {
		t.Error("a byte too many is taken for nothing")
	}
}
