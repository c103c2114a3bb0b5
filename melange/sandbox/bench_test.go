package sandbox

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkStart is from a description to the end of a first command, and to nothing being left.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{1, 60, 150, 300} {
		layers := []string{probeLayer(native)}
		for i := range n - 1 {
			layers = append(layers, layer(b, map[string]string{
				fmt.Sprintf("usr/lib/lib%d.so", i): "x", fmt.Sprintf("usr/share/doc/p%d/copyright", i): "x", fmt.Sprintf("usr/bin/tool%d", i): "x",
			}))
		}
		for _, kind := range []string{"memory", "disk"} {
			b.Run(fmt.Sprintf("layers=%d/upper=%s", n, kind), func(b *testing.B) {
				s := Sandbox{Layers: layers}
				if kind == "disk" {
					s.Upper = filepath.Join(b.TempDir(), "upper")
					defer Remove(context.Background(), s.Upper)
				}
				for b.Loop() {
					a, err := s.Start(b.Context())
					must(b, err)
					must(b, a.Run(b.Context(), Command{Args: []string{"/bin/probe", "echo"}}))
					must(b, a.Close())
				}
			})
		}
	}
}

// BenchmarkStep is one more command in a running environment; bare is the same program without a sandbox.
func BenchmarkStep(b *testing.B) {
	a := start(b, Sandbox{})
	b.Run("sandbox", func(b *testing.B) {
		for b.Loop() {
			must(b, a.Run(context.Background(), Command{Args: []string{"/bin/probe", "echo"}}))
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			must(b, bare().Run())
		}
	})
}

func bare() *exec.Cmd { return exec.Command(filepath.Join(probeLayer(native), "bin/probe"), "echo") }
