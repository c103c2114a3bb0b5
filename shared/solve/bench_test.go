package solve

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"distro.internal/shared/apk"
)

var benchEntries = flag.Int("bench-entries", 150000, "`number` of entries that the benchmarks work on")

// benchWorld is a world of some size that has a solution.
func benchWorld(tb testing.TB, u *Universe, size int) []apk.Dependency {
	g := rand.New(rand.NewPCG(3, uint64(size)))
	origins := *benchEntries / (versions * 3)
	var world []apk.Dependency
	for len(world) < size {
		more := setWorld(world, dependency("origin%d", g.IntN(origins)))
		if _, err := u.Solve(more, Options{}); err == nil {
			world = more
		}
	}
	return world
}

// cpu reports the processor time per operation, collector and all, which on a
// busy machine says more than the wall clock does.
func cpu(b *testing.B) func() {
	start := processorTime(b)
	return func() {
		b.ReportMetric(float64(processorTime(b)-start)/float64(b.N)/1e6, "cpu-ms/op")
	}
}

func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkCompile(b *testing.B) {
	index := synthetic(*benchEntries, 1)
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		Compile([]Repository{{Index: index}}, "x86_64")
	}
}

func BenchmarkSolve(b *testing.B) {
	u := Compile([]Repository{{Index: synthetic(*benchEntries, 1)}}, "x86_64")
	for _, size := range []int{1, 10, 50} {
		world := benchWorld(b, u, size)
		b.Run(fmt.Sprintf("world=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			defer cpu(b)()
			n := 0
			for b.Loop() {
				s, err := u.Solve(world, Options{})
				if err != nil {
					b.Fatal(err)
				}
				n = len(s.Packages)
			}
			b.ReportMetric(float64(n), "packages")
		})
	}
}

// BenchmarkOverlay is what a planner does for each build: its own few packages
// over the big index.
func BenchmarkOverlay(b *testing.B) {
	u := Compile([]Repository{{Index: synthetic(*benchEntries, 1)}}, "x86_64")
	world := benchWorld(b, u, 10)
	local := Repository{Index: &apk.Index{Packages: []*apk.Package{
		{Name: "origin1-libs", Version: "9-r0", Provides: []apk.Dependency{dependency("so:liborigin1.so.2=9")}},
	}}}
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		if _, err := u.Overlay(local).Solve(world, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParallel solves over one universe from all cores.
func BenchmarkParallel(b *testing.B) {
	u := Compile([]Repository{{Index: synthetic(*benchEntries, 1)}}, "x86_64")
	world := benchWorld(b, u, 10)
	var once sync.Once
	b.ReportAllocs()
	defer cpu(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := u.Solve(world, Options{}); err != nil {
				once.Do(func() { b.Error(err) })
			}
		}
	})
}

func BenchmarkProviders(b *testing.B) {
	u := Compile([]Repository{{Index: synthetic(*benchEntries, 1)}}, "x86_64")
	d := dependency("so:liborigin1.so.2")
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		if len(u.Providers(d)) == 0 {
			b.Fatal("nobody")
		}
	}
}
