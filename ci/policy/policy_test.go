package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"distro.internal/shared/apk"
	"distro.internal/shared/document"
	"distro.internal/shared/solve"
)

func texts(words string) []document.String {
	var list []document.String
	for _, w := range strings.Fields(words) {
		list = append(list, document.Text(w))
	}
	return list
}

// TestLicensePolicy tells what is refused of expressions.
func TestLicensePolicy(t *testing.T) {
	for _, c := range []struct{ allow, deny, expression, refused string }{
		{"", "", "AGPL-3.0-only", ""},
		{"MIT", "", "MIT", ""},
		{"mit", "", "MIT", ""},
		{"MIT", "", "MIT AND ISC", "ISC"},
		{"MIT", "", "MIT OR ISC", ""},
		{"MIT", "", "ISC OR (MIT AND Zlib)", "ISC, Zlib"},
		{"MIT Zlib", "", "ISC OR (MIT AND Zlib)", ""},
		{"BSD-*", "", "BSD-3-Clause AND BSD-2-Clause", ""},
		{"", "AGPL-*", "AGPL-3.0-or-later OR MIT", ""},
		{"", "AGPL-*", "AGPL-3.0-or-later AND MIT", "AGPL-3.0-or-later"},
		{"GPL-*", "GPL-3.0*", "GPL-3.0-only", "GPL-3.0-only"},
		{"GPL-2.0-*", "", "GPL-2.0-only WITH GCC-exception-2.0", ""},
		{"Apache-2.0", "", "Apache-2.0 WITH LLVM-exception OR NCSA", ""},
		{"MIT", "", "LicenseRef-mine", "LicenseRef-mine"},
		{"MIT LicenseRef-*", "", "LicenseRef-mine AND MIT", ""},
	} {
		j := &judge{}
		j.Licenses.Allow, j.Licenses.Deny = texts(c.allow), texts(c.deny)
		if got := j.refused(c.expression); got != c.refused {
			t.Errorf("allow %q, deny %q: of %s refused: %q, want %q", c.allow, c.deny, c.expression, got, c.refused)
		}
	}
}

// TestConcerned tells whose solution is asked for anew when a package changes.
func TestConcerned(t *testing.T) {
	parse := func(text string) *apk.Package { // NAME-VERSION [needs ...] [provides ...]
		words := strings.Fields(text)
		name, version, _ := strings.Cut(words[0], "-")
		p := &apk.Package{Name: name, Version: apk.Version(version), Arch: "x86_64", InstalledSize: 1}
		list := &p.Depends
		for _, w := range words[1:] {
			switch w {
			case "needs":
				list = &p.Depends
			case "provides":
				list = &p.Provides
			default:
				d, err := apk.ParseDependency(w)
				if err != nil {
					t.Fatal(err)
				}
				*list = append(*list, d)
			}
		}
		return p
	}
	published := []string{
		"lib-1.0-r0 provides so:lib.so.1=1 pc:lib=1.0", "other-1-r0 provides pc:lib=0.9 cmd:o=1-r0",
		"any-1-r0 needs lib", "so-1-r0 needs so:lib.so.1", "pin-1-r0 needs lib=1.0-r0", "floor-1-r0 needs lib>=1.0-r0", "dev-1-r0 needs pc:lib",
		"app-1-r0 needs pin", "far-1-r0 needs any", "older-1-r0 needs lib<1.1",
	}
	for change, want := range map[string]string{
		"lib-1.0-r0 provides so:lib.so.1=1 pc:lib=1.0":             "",
		"lib-1.0-r1 provides so:lib.so.1=1 pc:lib=1.0":             "app dev lib pin", // pc:lib is also other's
		"lib-1.1-r0 provides so:lib.so.1=1 pc:lib=1.1":             "app dev lib older pin",
		"lib-0.9-r0 provides so:lib.so.1=1 pc:lib=1.0":             "app dev floor lib pin",
		"lib-1.0-r1 provides so:lib.so.2=1 pc:lib=1.0":             "any app dev far floor lib older pin so",
		"lib-1.0-r1 needs other provides so:lib.so.1=1 pc:lib=1.0": "any app dev far floor lib older pin so",
		"app-1-r1 needs pin":                                       "app",
	} {
		index := &apk.Index{}
		for _, text := range published {
			index.Packages = append(index.Packages, parse(text))
		}
		u := solve.Compile([]solve.Repository{{Index: index}}, "x86_64")
		now := parse(change)
		c := &Change{Before: u, After: u.Overlay(solve.Repository{Index: &apk.Index{Packages: []*apk.Package{now}}})}
		for _, p := range index.Packages {
			if p.Name == now.Name {
				c.Packages = append(c.Packages, Changed{Name: p.Name, Old: p, New: now})
			}
		}
		if got := strings.Join((&judge{Change: c}).concerned(), " "); got != want {
			t.Errorf("%s: %s, want %s", change, got, want)
		}
	}
}

// TestUnknownLicense holds words against the true list.
func TestUnknownLicense(t *testing.T) {
	for expression, want := range map[string]string{
		"MIT": "", "GPL-2.0-or-later WITH Classpath-exception-2.0": "", "LGPL-2.1+": "", "LicenseRef-own": "",
		"GPLv2": "GPLv2", "MIT AND BSD": "BSD", "MIT OR (Zlib AND Apache)": "Apache",
	} {
		if got := unknownLicense(expression); got != want {
			t.Errorf("%s: unknown %q, want %q", expression, got, want)
		}
	}
}

// TestDifferences tells what programs miss that were linked with a library.
func TestDifferences(t *testing.T) {
	old := []Symbol{
		{Name: "data", Data: true, Size: 8}, {Name: "f", Version: "V1"}, {Name: "f", Version: "V2", Default: true},
		{Name: "gone"}, {Name: "moved", Version: "V1", Default: true}, {Name: "same"}, {Name: "turned"},
	}
	now := []Symbol{
		{Name: "data", Data: true, Size: 16}, {Name: "f", Version: "V1"}, {Name: "f", Version: "V2"}, {Name: "f", Version: "V3", Default: true},
		{Name: "moved", Version: "V2", Default: true}, {Name: "new"}, {Name: "same"}, {Name: "turned", Data: true},
	}
	var got []string
	for _, d := range differences(old, now) {
		got = append(got, strings.TrimSpace(d.symbol.String()+" "+d.how))
	}
	want := []string{"data is a variable of 16 bytes and was of 8", "gone", "moved@@V1", "turned is a function and was a variable, or the other way round"}
	if !slices.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

// FuzzContents reads what may be anything, and what is read is written again as it was.
func FuzzContents(f *testing.F) {
	f.Add((&Contents{}).Encode())
	f.Add((&Contents{
		Files:   []File{{"usr/lib/liba.so.1", 0o755, true}, {"etc", 1<<31 | 0o755, false}},
		Objects: []Object{{"usr/lib/liba.so.1", "liba.so.1", []string{"libc.so.6"}, []Symbol{{"a", "V1", true, true, 8}}, []Symbol{{Name: "puts"}}}},
	}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeContents(b)
		if err != nil {
			return
		}
		again, err := DecodeContents(c.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, again); d != "" {
			t.Error(d)
		}
	})
}
