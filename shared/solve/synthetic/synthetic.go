// Package synthetic makes indexes of any size to measure and to test solvers
// with. It knows what the index of a large distribution is like, and nothing of
// any real one.
package synthetic

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"

	"distro.internal/shared/apk"
)

// Index makes an index of the shape of a large distribution: origins in
// many versions, each with subpackages; libraries known by soname, commands,
// documentation and services that come along by themselves, alternatives for
// the same command, and a few conflicts. Equal seeds give equal indexes.
func Index(entries int, seed uint64) *apk.Index {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), index: &apk.Index{}}
	origins := max(entries/(versions*3), 3)
	for i := range origins {
		g.origin(i)
	}
	g.index.Packages = g.index.Packages[:min(len(g.index.Packages), entries)]
	return g.index
}

const versions = 12 // of each origin

type generator struct {
	*rand.Rand
	index *apk.Index
}

func (g *generator) origin(i int) {
	name := fmt.Sprintf("origin%d", i)
	depends := g.dependsOf(i)
	for v := range versions {
		version := apk.Version(fmt.Sprintf("%d.%d.%d-r%d", 1+v/6, v%6, g.IntN(10), g.IntN(4)))
		soname := fmt.Sprintf("so:lib%s.so.%d", name, 1+v/6)
		main := apk.Package{
			Name: name, Version: version,
			Depends:  append(depends, dependency("so:lib%s.so.%d", name, 1+v/6)),
			Provides: []apk.Dependency{dependency("cmd:%s=%s", name, version)},
		}
		if i%17 == 0 { // one of several that may be the shell
			main.Provides = append(main.Provides, dependency("cmd:sh%d", i%5))
			main.ProviderPriority = i % 3 * 10
		}
		if i%29 == 0 && i > 0 {
			main.Depends = append(main.Depends, dependency("!origin%d", g.IntN(i)))
		}
		g.add(main)
		g.add(apk.Package{
			Name: name + "-libs", Version: version,
			Depends:  g.libraries(i),
			Provides: []apk.Dependency{dependency("%s=%d.%d", soname, 1+v/6, v%6)},
		})
		switch i % 3 {
		case 0:
			g.add(apk.Package{Name: name + "-dev", Version: version,
				Depends:  []apk.Dependency{dependency("%s=%s", name, version), dependency("%s-libs=%s", name, version)},
				Provides: []apk.Dependency{dependency("pc:%s=%d.%d", name, 1+v/6, v%6)}})
		case 1:
			g.add(apk.Package{Name: name + "-doc", Version: version,
				InstallIf: []apk.Dependency{dependency("docs"), dependency("%s=%s", name, version)}})
		case 2:
			g.add(apk.Package{Name: name + "-openrc", Version: version,
				InstallIf: []apk.Dependency{dependency("origin1"), dependency("%s=%s", name, version)}})
		}
	}
	if i == 0 {
		g.add(apk.Package{Name: "docs", Version: "1-r0"})
	}
}

// dependsOf makes dependencies on commands and packages with lower numbers.
func (g *generator) dependsOf(i int) []apk.Dependency {
	deps := g.libraries(i)
	for range g.IntN(4) {
		on := g.lower(i)
		switch g.IntN(8) {
		case 0:
			deps = append(deps, dependency("origin%d>1.2", on))
		case 1:
			deps = append(deps, dependency("origin%d<2.3", on))
		case 2:
			deps = append(deps, dependency("cmd:sh%d", on%5))
		case 3:
			deps = append(deps, dependency("origin%d~2", on))
		default:
			deps = append(deps, dependency("cmd:origin%d", on))
		}
	}
	return deps
}

func (g *generator) libraries(i int) []apk.Dependency {
	var deps []apk.Dependency
	for range g.IntN(4) {
		deps = append(deps, dependency("so:liborigin%d.so.2", g.lower(i)))
	}
	return deps
}

// lower returns a number below i, more often a low one: everything needs libc.
func (g *generator) lower(i int) int {
	f := g.Float64()
	return int(f * f * f * float64(i))
}

func (g *generator) add(p apk.Package) {
	p.Arch, p.InstalledSize, p.Size = "x86_64", 1, 1
	p.Checksum = sha1.Sum(fmt.Appendf(nil, "%s-%s", p.Name, p.Version))
	p.Depends = append([]apk.Dependency(nil), p.Depends...)
	p.Description = "what " + p.Name + " is good for, in a sentence of common length"
	p.URL, p.License = "https://"+p.Name+".example.org/", "Apache-2.0 AND MIT"
	p.Origin, _, _ = strings.Cut(p.Name, "-")
	p.BuildDate = 1700000000 + int64(len(g.index.Packages))
	p.Commit = hex.EncodeToString(p.Checksum[:])
	g.index.Packages = append(g.index.Packages, &p)
}

func dependency(format string, args ...any) apk.Dependency {
	d, err := apk.ParseDependency(fmt.Sprintf(format, args...))
	if err != nil {
		panic(err)
	}
	return d
}
