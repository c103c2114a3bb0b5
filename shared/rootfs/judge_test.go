//go:build judge

// These tests ask the real apk-tools 3. They need its binary, named by the
// environment variable APK, and root, since packages have owners.

package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"distro.internal/shared/apk"
	"distro.internal/shared/filetree"
)

// apkAdd lets apk install packages one after the other, without scripts, into a new root.
func apkAdd(t *testing.T, files ...string) (root string, err error) {
	t.Helper()
	root = t.TempDir()
	for i, file := range files {
		args := []string{"add", "--root", root, "--arch", "x86_64", "--allow-untrusted", "--no-network", "--no-scripts", file}
		if i == 0 {
			args = append(args, "--initdb")
		}
		if out, err := exec.Command(os.Getenv("APK"), args...).CombinedOutput(); err != nil {
			t.Logf("%s", out)
			return root, err
		}
	}
	return root, nil
}

// deviations are the rules in which we are not like apk, on purpose.
var deviations = map[string]string{
	"equal content":                          "nobody loses anything, and recipes rely on it",
	"equal links":                            "as above",
	"directory over a link, file kept":       "apk compares names alone, and so one file gets lost through the link",
	"directory over a link, file in dispute": "as above",
}

// leftBehind is what apk leaves besides what is installed.
var leftBehind = []string{"usr/lib/apk/db/scripts.tar.gz", "var/log", "var/log/apk.log"}

// TestJudgeFileRules lets apk decide who gets a file.
func TestJudgeFileRules(t *testing.T) {
	for _, c := range fileRules {
		if deviations[c.name] != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			root, err := apkAdd(t, writePackage(t, c.first), writePackage(t, c.second))
			if refused := strings.HasPrefix(c.want, "packages conflict"); refused != (err != nil) {
				t.Errorf("apk: %v; we: %s", err, c.want)
			} else if b, _ := os.ReadFile(filepath.Join(root, "f")); err == nil && string(b) != c.want {
				t.Errorf("apk: f holds %q, want %q", b, c.want)
			}
		})
	}
}

// TestJudgeDatabase compares the tree and the database with what apk leaves.
func TestJudgeDatabase(t *testing.T) {
	specs := []string{layout,
		"tool 2-r1 origin=o trigger=/usr/lib\nusr/bin/tool T\nusr/bin/tool2 == usr/bin/tool\nusr/bin/t -> tool\netc/tool.conf x\n",
		"tool-doc 2-r1 origin=o\nusr/share/doc/tool T\nusr/bin/tool T'\n",
		"other 1-r0 replaces=tool\netc/tool.conf y\nvar/lib/other/\nlib/other/x X\nbin/other O\n",
	}
	var files []string
	var packages []Opened
	s := Store{Dir: t.TempDir()}
	for _, spec := range specs {
		files = append(files, writePackage(t, spec))
		l, err := s.Unpack(t.Context(), files[len(files)-1], anything)
		if err != nil {
			t.Fatal(err)
		}
		o, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, o)
	}
	root, err := apkAdd(t, files...)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := filetree.Scan(root, filetree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	assembled, err := Assemble(packages, AssembleOptions{Database: Database{Arch: "x86_64"}})
	if err != nil {
		t.Fatal(err)
	}
	ours := assembled.Tree
	for e := range theirs.All() {
		o, ok := ours.Lookup(e.Path)
		switch {
		case slices.Contains(leftBehind, e.Path):
		case !ok:
			t.Errorf("only apk has %s %s", e.Mode, e.Path)
		case o.Mode != e.Mode || o.UID != e.UID || o.GID != e.GID || o.HardLink != e.HardLink || o.Link != e.Link:
			t.Errorf("%s: apk has %s %d:%d %s, we have %s %d:%d %s", e.Path, e.Mode, e.UID, e.GID, e.Link, o.Mode, o.UID, o.GID, o.Link)
		}
	}
	if d := cmp.Diff(content(t, theirs, apk.InstalledFile), content(t, ours, apk.InstalledFile)); d != "" {
		t.Errorf("database: apk - ours +\n%s", d)
	}
}

// TestJudgeReadsOurs lets apk look at a root that we assembled.
func TestJudgeReadsOurs(t *testing.T) {
	packages := openAll(t, layout, "tool 2-r1 trigger=/usr/lib\nusr/bin/tool T\nusr/bin/tool2 == usr/bin/tool\nusr/bin/t -> tool\n")
	world, err := apk.ParseDependencies("layout tool")
	if err != nil {
		t.Fatal(err)
	}
	assembled, err := Assemble(packages, AssembleOptions{Database: Database{Arch: "x86_64", World: world}})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := filetree.Extract(assembled.Tree, root, filetree.ExtractOptions{Owner: true}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"info", "layout\ntool\n"},
		{"info --who-owns /usr/bin/tool2", "/usr/bin/tool2 is owned by tool-2-r1\n"},
		{"audit --system", ""},
		{"fix --no-network --no-scripts --simulate", "OK"},
		{"del --no-network --no-scripts tool", "OK"},
	} {
		args := append([]string{"--root", root}, strings.Fields(c.args)...)
		out, err := exec.Command(os.Getenv("APK"), args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) || (c.want == "" && len(out) > 0) {
			t.Errorf("apk %s: %v\n%s", c.args, err, out)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "usr/bin/tool")); err == nil {
		t.Error("apk did not remove the tool")
	}
}
