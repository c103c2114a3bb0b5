package policy

import (
	"fmt"
	"testing"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve"
	"distro.internal/shared/solve/synthetic"
)

// BenchmarkInstallable asks of a repository of 150,000 packages what a change of one of them does, given the compiled
// index of what is published; packages of such an index have no files. The measure is one solution of one package.
func BenchmarkInstallable(b *testing.B) {
	published := solve.Compile([]solve.Repository{{Index: synthetic.Index(150000, 1)}}, "x86_64")
	published.Dependents("") // it links its names once, and is kept so
	origin := ""             // not everything in such an index can be installed
	for i := 4000; origin == ""; i-- {
		name := fmt.Sprintf("origin%d", i)
		if _, err := published.Solve([]apk.Dependency{{Name: name}}, solve.Options{}); err == nil {
			origin = name
		}
	}
	for _, name := range []string{origin + "-libs", core(b, published)} {
		change := changeOf(b, published, name)
		b.Run("change="+name, func(b *testing.B) {
			for b.Loop() {
				c := *change
				c.After = published.Overlay(solve.Repository{Index: &apk.Index{Packages: []*apk.Package{c.Packages[0].New}}})
				if _, err := Judge(Config{}, &c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len((&judge{Change: change}).concerned())), "packages")
		})
	}
	b.Run("solution", func(b *testing.B) {
		for b.Loop() {
			if _, err := published.Solve([]apk.Dependency{{Name: origin}}, solve.Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// core is a package that most others need, of those that can be installed.
func core(b *testing.B, published *solve.Universe) (name string) {
	most := 0
	for i := range 4000 {
		candidate := fmt.Sprintf("origin%d-libs", i)
		found := published.Providers(apk.Dependency{Name: candidate})
		if len(found) == 0 {
			continue
		}
		needed := 0
		for _, d := range found[0].Provides {
			needed += len(published.Dependents(d.Name))
		}
		if needed <= most {
			continue
		}
		if _, err := published.Solve([]apk.Dependency{{Name: candidate}}, solve.Options{}); err == nil {
			name, most = candidate, needed
		}
	}
	b.Logf("%d packages need %s", most, name)
	return name
}

// changeOf makes a package another one that provides the same.
func changeOf(b *testing.B, published *solve.Universe, name string) *Change {
	b.Helper()
	found := published.Providers(apk.Dependency{Name: name})
	if len(found) == 0 {
		b.Fatalf("no %s", name)
	}
	now := *found[0]
	now.Checksum[0]++
	now.Version += "9" // an epoch that is higher
	return &Change{
		Arch: "x86_64", Before: published,
		After:    published.Overlay(solve.Repository{Index: &apk.Index{Packages: []*apk.Package{&now}}}),
		Packages: []Changed{{Name: name, Node: "x86_64/" + name, Recipe: name, Old: found[0], New: &now}},
		Contents: func(*apk.Package) (*Contents, error) { return &Contents{}, nil },
	}
}
