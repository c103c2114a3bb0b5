package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLayers(t *testing.T) {
	a := start(t, Sandbox{Layers: []string{
		layer(t, map[string]string{"etc/name": "lowest", "etc/low": "low"}),
		layer(t, map[string]string{"etc/name": "middle", "etc/mid": "mid"}),
		layer(t, map[string]string{"etc/name": "highest"}),
	}})
	if out := expect(t, a, "cat", "/etc/name"); out != "highest" {
		t.Errorf("got %q", out)
	}
	if out := expect(t, a, "ls", "/etc"); out != "low\nmid\nname" {
		t.Errorf("got %q", out)
	}
}

// TestReplacedFolder: one that is made where a layer's was removed has nothing of that.
func TestReplacedFolder(t *testing.T) {
	a := start(t, Sandbox{
		Layers: []string{layer(t, map[string]string{"etc/folder/file": "x", "etc/file": "x"})}, Copies: removable(t),
	})
	expect(t, a, "rm", "/etc/folder", ";", "mkdir", "/etc/folder", ";", "rm", "/etc/file", ";", "mkdir", "/etc/file")
	if out := expect(t, a, "ls", "/etc/folder") + expect(t, a, "ls", "/etc/file"); out != "" {
		t.Errorf("there is %q", out)
	}
}

// TestShortNames: kernels before Linux 6.7 take all layers in one short text.
func TestShortNames(t *testing.T) {
	s := Sandbox{
		Layers: []string{probeLayer(native)},
		Upper:  filepath.Join(t.TempDir(), "upper, with: odd name"),
		Mounts: []Mount{
			{Kind: Overlay, Target: "/over", ReadOnly: true, Layers: []string{layer(t, map[string]string{"x": "low"}), layer(t, map[string]string{"x": "high"})}},
			{Kind: Overlay, Target: "/memory", Layers: []string{layer(t, map[string]string{"x": "low"})}},
		},
	}
	for i := range 98 {
		s.Layers = append(s.Layers, layer(t, map[string]string{"etc/number": strconv.Itoa(i)}))
	}
	policy, err := s.policy()
	must(t, err)
	for i := range policy.Lines {
		policy.Lines[i].ShortNames = policy.Lines[i].overlay()
	}
	for range 2 {
		a, err := s.enter(t.Context(), policy)
		must(t, err)
		for _, tc := range [][2]string{
			{"cat /etc/number", "97"}, {"cat /over/x", "high"}, {"write /memory/x y", ""}, {"write /etc/new y", ""},
		} {
			if out, err := probe(t, a, strings.Fields(tc[0])...); err != nil || out != tc[1] {
				t.Errorf("%s: got %q, want %q", tc[0], out, tc[1])
			}
		}
		must(t, a.Close())
	}
	if data, err := os.ReadFile(filepath.Join(s.Upper, "upper/etc/new")); string(data) != "y" {
		t.Errorf("in the upper folder: %q, %v", data, err)
	}
	must(t, Remove(t.Context(), s.Upper))
}

// TestCopies: where there are no overlays it looks the same inside, and what commands write is not the layers'.
func TestCopies(t *testing.T) {
	low := layer(t, map[string]string{
		"etc/name": "low", "etc/low": "low", "was/folder/file": "x", "way": ">/etc", "becomes": "file", "keeps/low": "low",
	})
	must(t, os.Link(filepath.Join(low, "etc/low"), filepath.Join(low, "etc/twin")))
	must(t, os.Chmod(filepath.Join(low, "etc/low"), 0o640))
	high := layer(t, map[string]string{"etc/name": "high", "was/folder": "file now", "way/in": "folder now", "becomes/folder/file": "x", "keeps/high": "high"})
	looks := func(t *testing.T, a *Agent) (text string) {
		for _, dir := range []string{"/etc", "/was", "/way", "/becomes", "/keeps", "/over/etc", "/over/keeps"} {
			var stream bytes.Buffer
			must(t, a.Tar(t.Context(), dir, &stream))
			text += dir + "\n" + strings.Join(listing(t, &stream), "\n") + "\n"
		}
		return text + expect(t, a, "cat", "/etc/name", "/etc/twin", "/was/folder", "/way/in", "/over/etc/name")
	}
	for _, tc := range []struct {
		name    string
		sandbox Sandbox
	}{{"in memory", Sandbox{}}, {"on disk", Sandbox{Copies: removable(t)}}, {"to stay", Sandbox{Upper: filepath.Join(t.TempDir(), "upper")}}} {
		t.Run(tc.name, func(t *testing.T) {
			s := tc.sandbox
			s.Layers = []string{probeLayer(native), low, high}
			s.Mounts = []Mount{{Kind: Overlay, Target: "/over", ReadOnly: true, Layers: []string{low, high}}}
			overlays, err := s.Start(t.Context())
			must(t, err)
			want := looks(t, overlays)
			must(t, overlays.Close())
			policy, err := s.policy()
			must(t, err)
			for i := range policy.Lines {
				policy.Lines[i].Copy = policy.Lines[i].overlay()
			}
			for again := range 2 {
				a, err := s.enter(t.Context(), policy)
				must(t, err)
				if again == 0 || s.Upper == "" {
					if diff := cmp.Diff(want, looks(t, a)); diff != "" {
						t.Error(diff)
					}
				} else if out := expect(t, a, "cat", "/etc/name"); out != "written" {
					t.Errorf("what was written is %q", out)
				}
				expect(t, a, "write", "/etc/name", "written", ";", "write", "/etc/twin", "written", ";", "rm", "/way")
				if out, err := probe(t, a, "write", "/over/etc/name", "x"); err == nil || !strings.Contains(out, "read-only") {
					t.Errorf("%v: %s", err, out)
				}
				must(t, a.Close())
			}
			for name, want := range map[string]string{"etc/name": "low", "etc/twin": "low"} {
				if data, err := os.ReadFile(filepath.Join(low, name)); string(data) != want {
					t.Errorf("the layer's %s is %q, %v", name, data, err)
				}
			}
			if s.Upper != "" {
				must(t, Remove(t.Context(), s.Upper))
			}
		})
	}
}

// removable is a folder for copies, where overlays may leave what only a sandbox can remove.
func removable(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "copies")
	t.Cleanup(func() { must(t, Remove(context.Background(), dir)) })
	return dir
}

func TestLongName(t *testing.T) {
	dir := layer(t, nil)
	long := filepath.Join(t.TempDir(), strings.Repeat(strings.Repeat("x", 200)+"/", 3))
	must(t, os.MkdirAll(long, 0o755))
	must(t, os.WriteFile(filepath.Join(long, "file"), []byte("far away"), 0o644))
	a := start(t, Sandbox{Layers: []string{dir, long}})
	if out := expect(t, a, "cat", "/file"); out != "far away" {
		t.Errorf("got %q", out)
	}
}

func TestTooManyLayers(t *testing.T) {
	layers := make([]string, overlayLayers+1)
	for i := range layers {
		layers[i] = "/"
	}
	_, err := (&Sandbox{Layers: layers}).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "501 layers; the kernel allows 500") {
		t.Errorf("got %v", err)
	}
}

func TestLayersStayAsTheyAre(t *testing.T) {
	dir := layer(t, map[string]string{"etc/name": "before", "etc/gone": "x"})
	a := start(t, Sandbox{Layers: []string{dir}})
	expect(t, a, "write", "/etc/name", "after")
	expect(t, a, "rm", "/etc/gone")
	expect(t, a, "write", "/new", "x")
	for name, want := range map[string]string{"etc/name": "before", "etc/gone": "x"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("a file was written to a layer")
	}
}

// TestUpper: what a failed build wrote can be entered again, and be deleted, whoever owns it.
func TestUpper(t *testing.T) {
	upper := filepath.Join(t.TempDir(), "upper")
	s := Sandbox{Layers: []string{layer(t, map[string]string{"old": "x"})}, Upper: upper}
	for i := range 3 {
		a := start(t, s)
		if i > 0 {
			if out := expect(t, a, "cat", "/home/note"); out != "made in run "+strconv.Itoa(i-1) {
				t.Errorf("got %q", out)
			}
		}
		expect(t, a, "mkdir", "/home")
		expect(t, a, "write", "/home/note", "made in run "+strconv.Itoa(i))
		expect(t, a, "chmod", "000", "/home")
		if idCount() > 1 {
			expect(t, a, "chown", "1000", "1000", "/home")
		}
		must(t, a.Close())
	}
	must(t, Remove(t.Context(), upper, filepath.Join(upper, "missing")))
	if _, err := os.Stat(upper); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}

// idCount is how many ids there are inside.
func idCount() int {
	m, err := callerMapping()
	if err != nil {
		return 0
	}
	n := 0
	for _, r := range m.uids {
		n += r.Size
	}
	return n
}

func TestMounts(t *testing.T) {
	shared := layer(t, map[string]string{"file": "shared"})
	a := start(t, Sandbox{
		Layers: []string{layer(t, map[string]string{"etc/conf": "of the root", "way": ">/real", "real/": ""})},
		Mounts: []Mount{
			{Source: shared, Target: "/home/build"},
			{Source: shared, Target: "/way/in"},
			{Source: filepath.Join(shared, "file"), Target: "/etc/conf", ReadOnly: true},
			{Source: filepath.Join(shared, "file"), Target: "/new/conf"},
			{Kind: Tmpfs, Target: "/home/build/cache"},
			{Kind: Overlay, Target: "/sysroot", ReadOnly: true, Layers: []string{
				layer(t, map[string]string{"lib/a": "low", "lib/b": "low"}), layer(t, map[string]string{"lib/a": "high"})}},
			{Kind: Overlay, Target: "/single", ReadOnly: true, Layers: []string{layer(t, map[string]string{"x": "single"})}},
			{Kind: Overlay, Target: "/scratch", Layers: []string{layer(t, map[string]string{"x": "lower"})}},
		},
	})
	for _, tc := range [][2]string{
		{"cat /home/build/file", "shared"}, {"cat /etc/conf", "shared"}, {"cat /new/conf", "shared"}, {"cat /real/in/file", "shared"},
		{"cat /sysroot/lib/a", "high"}, {"cat /sysroot/lib/b", "low"}, {"cat /single/x", "single"},
		{"write /home/build/made inside", ""}, {"write /home/build/cache/x x", ""}, {"write /scratch/x upper", ""}, {"cat /scratch/x", "upper"},
	} {
		if out := expect(t, a, strings.Fields(tc[0])...); out != tc[1] {
			t.Errorf("%s: got %q, want %q", tc[0], out, tc[1])
		}
	}
	for _, command := range []string{"write /etc/conf x", "write /sysroot/lib/a x", "write /single/x x"} {
		if out, err := probe(t, a, strings.Fields(command)...); err == nil || !strings.Contains(out, "read-only") {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
	if data, err := os.ReadFile(filepath.Join(shared, "made")); err != nil || string(data) != "inside" {
		t.Errorf("outside: %q, %v", data, err)
	}
	if entries, _ := os.ReadDir(filepath.Join(shared, "cache")); len(entries) > 0 {
		t.Errorf("the memory's files are outside: %v", entries)
	}
}

func TestRefusedDescriptions(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		s    Sandbox
		want string
	}{
		{Sandbox{}, "without layers"},
		{Sandbox{Layers: []string{"relative"}}, "not an absolute path"},
		{Sandbox{Layers: []string{dir}, Upper: "relative"}, "not an absolute path"},
		{Sandbox{Layers: []string{dir}, Env: []string{"X"}}, "has no value"},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Source: "x", Target: "/x"}}}, "not an absolute path"},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Source: dir, Target: "/x/../y"}}}, "not a clean absolute path"},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Source: dir, Target: "/"}}}, "not a clean absolute path"},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Kind: "magic", Target: "/x"}}}, "not known"},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Kind: Overlay, Target: "/x"}}}, "needs layers"},
		{Sandbox{Layers: []string{dir}, Emulators: map[string]string{"vax": "/bin/vax"}}, "not known"},
		{Sandbox{Layers: []string{dir + "/missing"}}, dir + "/missing: "},
		{Sandbox{Layers: []string{dir}, Mounts: []Mount{{Source: dir + "/missing", Target: "/x"}}}, "bind " + dir + "/missing at /x: open_tree: no such file"},
	} {
		a, err := tc.s.Start(t.Context())
		if err == nil {
			a.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %q", err, tc.want)
		}
	}
}

// TestTar: what is packaged is what a step made, not how it lies on the disk.
func TestTar(t *testing.T) {
	workspace := t.TempDir()
	a := start(t, Sandbox{Mounts: []Mount{{Source: workspace, Target: "/home/build"}}})
	const out = "/home/build/melange-out/pkg/"
	for _, command := range []string{
		"mkdir " + out + "usr/bin", "write " + out + "usr/bin/tool x", "chmod 4755 " + out + "usr/bin/tool",
		"link " + out + "usr/bin/tool " + out + "usr/bin/zlink", "symlink tool " + out + "usr/bin/alias",
		"write " + out + "usr/bin/serve x", "setcap " + out + "usr/bin/serve", "mkdir " + out + "var/tmp", "chmod 1777 " + out + "var/tmp",
		"setxattr " + out + "usr user.note hello", "write " + out + "secret x", "chmod 000 " + out + "secret",
	} {
		expect(t, a, strings.Fields(command)...)
	}
	owner := "0:0"
	if idCount() > 1 {
		owner = "33:44"
		expect(t, a, "chown", "33", "44", out+"var/tmp")
	}
	var stream bytes.Buffer
	must(t, a.Tar(t.Context(), out, &stream))
	want := []string{
		"secret 0 0:0",
		"usr/ 755 0:0 SCHILY.xattr.user.note",
		"usr/bin/ 755 0:0",
		"usr/bin/alias 777 0:0 -> tool",
		"usr/bin/serve 644 0:0 SCHILY.xattr.security.capability",
		"usr/bin/tool 4755 0:0",
		"usr/bin/zlink 4755 0:0 = usr/bin/tool",
		"var/ 755 0:0",
		"var/tmp/ 1777 " + owner,
	}
	if got := listing(t, &stream); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := a.Tar(t.Context(), "/missing", io.Discard); err == nil || !strings.Contains(err.Error(), "/missing") {
		t.Errorf("got %v", err)
	}
	if err := a.Tar(t.Context(), out, &brokenWriter{}); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v", err)
	}
	expect(t, a, "echo", "the environment goes on")
}

type brokenWriter struct{}

func (*brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("no room") }

func listing(t *testing.T, r io.Reader) []string {
	t.Helper()
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return lines
		}
		must(t, err)
		line := fmt.Sprintf("%s %o %d:%d", h.Name, h.Mode, h.Uid, h.Gid)
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "SCHILY") {
				line += " " + key
			}
		}
		switch h.Typeflag {
		case tar.TypeLink:
			line += " = " + h.Linkname
		case tar.TypeSymlink:
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
	}
}
