package solve

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve/synthetic"
)

// benchIndex is the one that the flags of the judge ask for.
func benchIndex(tb testing.TB) *apk.Index {
	if *judgeIndex != "" {
		return openIndex(tb, *judgeIndex)
	}
	return synthetic.Index(*judgeSize, 1)
}

func benchUniverse(tb testing.TB) *Universe {
	return Compile([]Repository{{Index: benchIndex(tb)}}, apk.Arch(*judgeArch))
}

// benchWorld is a world of some size that has a solution.
func benchWorld(tb testing.TB, u *Universe, size int) []apk.Dependency {
	g := rand.New(rand.NewPCG(3, uint64(size)))
	packages := benchIndex(tb).Packages
	var world []apk.Dependency
	for len(world) < size {
		more := setWorld(world, apk.Dependency{Name: packages[g.IntN(len(packages))].Name})
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
	index := benchIndex(b)
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		Compile([]Repository{{Index: index}}, apk.Arch(*judgeArch))
	}
}

func BenchmarkSolve(b *testing.B) {
	u := benchUniverse(b)
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
	u := benchUniverse(b)
	world := benchWorld(b, u, 10)
	local := Repository{Index: &apk.Index{}}
	for _, d := range world { // the newest of each, once more
		newest := *u.Providers(d)[0]
		newest.Checksum = apk.Checksum{}
		local.Index.Packages = append(local.Index.Packages, &newest)
	}
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
	u := benchUniverse(b)
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
	u := benchUniverse(b)
	d := benchWorld(b, u, 1)[0]
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		if len(u.Providers(d)) == 0 {
			b.Fatal("nobody")
		}
	}
}
