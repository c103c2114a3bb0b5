package recipe

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"distro.internal/pipelines"
)

var update = flag.Bool("update", false, "write what is said into the golden files")

// TestMistakes is the language of diagnostics: NAME.yaml is planned, and NAME.want is what the author reads.
func TestMistakes(t *testing.T) {
	const golden = "testdata/mistakes.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	library := NewLibrary(pipelines.Files)
	for i := 0; i+1 < len(archive.Files); i += 2 {
		file, want := archive.Files[i], &archive.Files[i+1]
		t.Run(strings.TrimSuffix(file.Name, ".yaml"), func(t *testing.T) {
			got := mistakesOf(file.Name, file.Data, library) + "\n"
			if *update {
				want.Data = []byte(got)
			}
			if d := cmp.Diff(string(want.Data), got); d != "" {
				t.Errorf("what is said differs (-want +got):\n%s", d)
			}
		})
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(archive), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func mistakesOf(file string, data []byte, library *Library) string {
	r, err := Parse(file, data, ParseOptions{})
	if err != nil {
		return err.Error()
	}
	p, err := r.Plan(PlanOptions{Arch: "x86_64", Library: library, CheckShell: true})
	switch {
	case err != nil:
		return err.Error()
	case len(p.Warnings) > 0:
		return "warning: " + p.Warnings.Error()
	}
	return "nothing"
}
