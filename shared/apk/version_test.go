package apk

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// Besides our own table this runs the one of apk-tools, test/unit/version.data,
// where the variable APK_VERSION_DATA names it.
func TestVersions(t *testing.T) {
	tables := []string{"testdata/versions.txt"}
	if name := os.Getenv("APK_VERSION_DATA"); name != "" {
		tables = append(tables, name)
	}
	for _, name := range tables {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines, cases := bufio.NewScanner(f), 0
		for n := 1; lines.Scan(); n++ {
			line, _, _ := strings.Cut(lines.Text(), "#")
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			cases++
			if !versionCase(line) {
				t.Errorf("%s:%d: %s: does not hold", name, n, line)
			}
		}
		t.Logf("%s: %d cases", name, cases)
	}
}

func versionCase(line string) bool {
	a, rest, three := strings.Cut(line, " ")
	op, b, three2 := strings.Cut(rest, " ")
	if !three || !three2 {
		if v, not := strings.CutPrefix(line, "!"); not {
			return !Version(v).Valid()
		}
		return Version(line).Valid()
	}
	op, not := strings.CutPrefix(op, "!")
	return Op(op).Match(Version(a), Version(b)) != not
}

var benchVersions = []Version{
	"1.2.3-r0", "1.2.10-r1", "4.09_rc1-r3", "20240101", "8.2.0015", "1.0_alpha_pre2", "0.1~abcdef0-r0", "3.10.18-r1",
}

func BenchmarkCompare(b *testing.B) {
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		Compare(benchVersions[i&7], benchVersions[(i>>3)&7])
		i++
	}
}

func BenchmarkValid(b *testing.B) {
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		benchVersions[i&7].Valid()
		i++
	}
}

func FuzzVersion(f *testing.F) {
	for _, v := range benchVersions {
		f.Add(string(v), "1.2")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := Version(a), Version(b)
		if c, d := Compare(x, y), Compare(y, x); c != -d {
			t.Errorf("compare %q, %q: %d one way and %d the other", a, b, c, d)
		}
		if Compare(x, x) != 0 {
			t.Errorf("%q is not as old as itself", a)
		}
		if x.Valid() && !Fuzzy.Match(x, x) {
			t.Errorf("%q does not begin with itself", a)
		}
	})
}
