package solve

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/apk"
	"distro.internal/shared/solve/synthetic"
)

var (
	judge      = flag.String("apk", "", "`program` apk of apk-tools 3, to be asked for its opinion")
	judgeIndex = flag.String("index", "", "`file` APKINDEX or APKINDEX.tar.gz to draw worlds from; empty: a synthetic one")
	judgeArch  = flag.String("arch", "x86_64", "`architecture` of the index")
	judgeSize  = flag.Int("entries", 150000, "`number` of entries of the synthetic index")
	judgeRuns  = flag.Int("worlds", 1000, "`number` of random worlds")
	judgeSeed  = flag.Uint64("seed", 1, "of the random worlds")
)

// TestAgainstAPK asks the real apk about random worlds, if told where it is:
//
//	go test -run TestAgainstAPK -timeout 1h ./solve -apk PROGRAM [-index FILE -arch ARCH]
//
// Both must find the same packages in the same order, or both refuse.
func TestAgainstAPK(t *testing.T) {
	if *judge == "" {
		return
	}
	index := synthetic.Index(*judgeSize, 1)
	if *judgeIndex != "" {
		index = openIndex(t, *judgeIndex)
	}
	court := newCourt(t, apk.Arch(*judgeArch), Repository{Index: index})
	u := Compile([]Repository{{Index: index}}, apk.Arch(*judgeArch))
	worlds := newWorlds(index, *judgeSeed)
	solved, refused, different, packages := 0, 0, 0, 0
	for range *judgeRuns {
		words := worlds.next()
		want, verdict := court.add(words)
		world, err := parseWorld(words...)
		if err != nil {
			t.Fatal(err)
		}
		s, err := u.Solve(world, Options{})
		var got []string
		if err == nil {
			got = verbs(s.Changes)
		}
		switch {
		case err != nil && verdict != nil:
			refused++
		case err == nil && verdict == nil && slices.Equal(got, want):
			solved++
			packages += len(got)
		default:
			different++
			t.Errorf("add %q:\napk: %v\n%s\nhere: %v\n%s", words, verdict, strings.Join(want, "\n"), err, strings.Join(got, "\n"))
		}
	}
	t.Logf("%d entries, %d worlds: %d solved alike (%d packages in all), %d refused by both, %d different",
		len(index.Packages), *judgeRuns, solved, packages, refused, different)
}

// A court is a root in which apk can be asked.
type court struct {
	t    *testing.T
	root string
	arch apk.Arch
}

func newCourt(t *testing.T, arch apk.Arch, repositories ...Repository) *court {
	root := t.TempDir()
	for _, dir := range []string{"etc/apk", "lib/apk/db", "tmp", "var/log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := ""
	for i, r := range repositories {
		file := filepath.Join(root, fmt.Sprintf("index%d.tar.gz", i))
		write(t, file, packIndex(t, r.Index))
		if r.Tag != "" {
			list += "@" + r.Tag + " "
		}
		list += "test:/" + file + "\n"
	}
	write(t, filepath.Join(root, "etc/apk/repositories"), []byte(list))
	write(t, filepath.Join(root, "etc/apk/world"), nil)
	write(t, filepath.Join(root, "lib/apk/db/installed"), nil)
	return &court{t, root, arch}
}

func write(t *testing.T, file string, data []byte) {
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func packIndex(t *testing.T, index *apk.Index) []byte {
	var text, packed bytes.Buffer
	if err := index.Write(&text); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: "APKINDEX", Mode: 0o644, Size: int64(text.Len())})
	if err == nil {
		_, err = w.Write(text.Bytes())
	}
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// add returns what apk would do to add the words to the world of an empty
// root, or the reason of its refusal.
func (c *court) add(words []string) ([]string, error) {
	args := []string{
		"--root", c.root, "--arch", string(c.arch), "--root-tmpfs=no",
		"--no-cache", "--allow-untrusted", "--simulate", "add",
	}
	out, err := exec.Command(*judge, append(args, words...)...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	if _, why, refused := strings.Cut(string(out), "ERROR: "); refused || err != nil {
		return nil, fmt.Errorf("apk: %s", why)
	}
	var steps []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "(") {
			steps = append(steps, strings.TrimSpace(line))
		}
	}
	return steps, nil
}

// openIndex reads an index without a look at its signature.
func openIndex(t testing.TB, file string) *apk.Index {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var index *apk.Index
	if strings.HasSuffix(file, ".tar.gz") {
		index, err = apk.ReadIndex(f, apk.Verify{Insecure: true})
	} else {
		index, err = apk.ParseIndex(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// worlds makes random worlds of what an index has.
type worlds struct {
	*rand.Rand
	packages []*apk.Package
}

func newWorlds(index *apk.Index, seed uint64) *worlds {
	return &worlds{rand.New(rand.NewPCG(seed, 2)), index.Packages}
}

func (w *worlds) next() []string {
	size := 1 + w.IntN(6)
	if w.IntN(10) == 0 {
		size += w.IntN(40)
	}
	taken := map[string]bool{}
	var words []string
	for range size {
		d := w.word(w.packages[w.IntN(len(w.packages))])
		if !taken[d.Name] {
			taken[d.Name] = true
			words = append(words, d.String())
		}
	}
	return words
}

// word returns a dependency on a package, or something of the kind.
func (w *worlds) word(p *apk.Package) apk.Dependency {
	d := apk.Dependency{Name: p.Name}
	switch n := w.IntN(20); {
	case n < 12:
	case n < 14 && len(p.Provides) > 0:
		d.Name = p.Provides[w.IntN(len(p.Provides))].Name
	case n < 15:
		d.Conflict = true
	default:
		ops := []apk.Op{apk.Equal, apk.Less, apk.LessOrEqual, apk.Greater, apk.GreaterOrEqual, apk.Fuzzy, apk.GreaterOrFuzzy, apk.LessOrFuzzy}
		d.Op, d.Version = ops[w.IntN(len(ops))], p.Version
	}
	return d
}
