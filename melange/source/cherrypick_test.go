package source

import (
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestMergeLikeGit: where git merges, the same comes of it here, and what git refuses is refused. Of texts with many equal
// lines git now and then makes something where nothing is made here.
func TestMergeLikeGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("git is what it is compared to, and it is not installed")
	}
	dir := t.TempDir()
	merged, refused := 0, 0
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		var base []string
		for range 3 + r.Intn(20) {
			base = append(base, strconv.Itoa(r.Intn(8)*(1+r.Intn(30)))+"\n")
		}
		texts := []string{strings.Join(base, ""), strings.Join(changed(r, base), ""), strings.Join(changed(r, base), "")}
		for i, name := range []string{"base", "ours", "theirs"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(texts[i]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("git", "merge-file", "-p", "ours", "base", "theirs")
		cmd.Dir = dir
		want, conflict := cmd.Output()
		got, err := merge3(texts[0], texts[1], texts[2])
		switch {
		case err == nil && conflict == nil && got == string(want):
			merged++
		case err != nil && conflict != nil:
			refused++
		case err == nil:
			t.Errorf("seed %d: %q, git makes %q, %v", seed, got, want, conflict)
		}
	}
	if merged < 50 || refused < 50 {
		t.Errorf("%d merged and %d refused: nothing is proven", merged, refused)
	}
}

func changed(r *rand.Rand, lines []string) []string {
	var out []string
	for _, line := range lines {
		switch r.Intn(12) {
		case 0:
		case 1:
			out = append(out, line, strconv.Itoa(r.Intn(4))+"\n")
		case 2:
			out = append(out, strconv.Itoa(r.Intn(4))+"\n")
		default:
			out = append(out, line)
		}
	}
	return out
}

// FuzzMerge: a change and no change are the change, from either side, and so are two equal changes.
func FuzzMerge(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\n")
	f.Add("a\na\na\n", "a\na\na\na")
	f.Fuzz(func(t *testing.T, base, other string) {
		for _, c := range [][3]string{{base, base, other}, {base, other, base}, {base, other, other}} {
			if got, err := merge3(c[0], c[1], c[2]); err != nil || got != other {
				t.Fatalf("%q: %q, %v", c, got, err)
			}
		}
	})
}
