package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load writes the files and loads the first one.
func load(t *testing.T, files ...string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		file := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Load(filepath.Join(dir, files[0]))
}

func TestMerge(t *testing.T) {
	c, err := load(t,
		"image.yaml", `
include: parts/base.yaml
contents: {packages: [b], repositories: [https://example.org/two/]}
cmd: own
environment: {A: own}
accounts: {users: [{username: own, uid: 2}]}
archs: [amd64]
entrypoint: {command: own}
`,
		"parts/base.yaml", `
include: deeper.yaml
contents: {packages: [a], repositories: [https://example.org/one]}
cmd: included
work-dir: /included
vcs-url: https://example.org@1
environment: {A: included, B: included}
accounts: {run-as: included, users: [{username: included, uid: 1}]}
archs: [arm64, riscv64]
entrypoint: {type: service-bundle, services: {x: y}}
`,
		"parts/deeper.yaml", `{volumes: [/v], stop-signal: SIGQUIT}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Contents:    Contents{Packages: []string{"a", "b"}, Repositories: []string{"https://example.org/one", "https://example.org/two"}},
		Entrypoint:  Entrypoint{Command: "own"},
		Cmd:         "own",
		StopSignal:  "SIGQUIT",
		WorkDir:     "/included",
		Environment: map[string]string{"A": "own", "B": "included"},
		Accounts: Accounts{RunAs: "included", Users: []User{
			{"included", 1, 1, "/bin/sh", "/home/included"}, {"own", 2, 2, "/bin/sh", "/home/own"},
		}},
		Archs:   c.Archs,
		VCS:     "https://example.org@1",
		Volumes: []string{"/v"},
		Files:   c.Files,
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	if len(c.Archs) != 1 || c.Archs[0] != "x86_64" {
		t.Errorf("archs %v", c.Archs)
	}
}

// What does not make another image has no part in the digest.
func TestDigest(t *testing.T) {
	digest := func(text string) string {
		c, err := load(t, "image.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const text = "contents: {packages: [a], build_repositories: [x], keyring: [/here/k.pub]}\nenvironment: {A: b, B: c}\n"
	first := digest(text)
	for name, same := range map[string]string{
		"comment":          "# hello\n" + text,
		"architectures":    text + "archs: [amd64]\n",
		"build repository": strings.Replace(text, "[x]", "[y]", 1),
		"folder of a key":  strings.Replace(text, "/here", "/there", 1),
		"order of keys":    strings.Replace(text, "A: b, B: c", "B: c, A: b", 1),
	} {
		if digest(same) != first {
			t.Errorf("%s changed the digest", name)
		}
	}
	for name, other := range map[string]string{
		"package":     strings.Replace(text, "[a]", "[b]", 1),
		"environment": strings.Replace(text, "A: b", "A: c", 1),
		"repository":  strings.Replace(text, "{packages", "{repositories: ['https://x'], packages", 1),
		"path":        text + "paths: [{path: /x, type: directory}]\n",
		"mode":        text + "paths: [{path: /x, type: directory, permissions: 0o755}]\n",
	} {
		if digest(other) == first {
			t.Errorf("%s did not change the digest", name)
		}
	}
}

func TestWorld(t *testing.T) {
	c := &Config{Contents: Contents{Packages: []string{"a", "b=1", "a"}}, Entrypoint: Entrypoint{Type: ServiceBundle}}
	world, err := c.World()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range world {
		got = append(got, d.String())
	}
	if diff := cmp.Diff([]string{"a", "b=1", "s6"}, got); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@h/x":       "https://h/x",
		"@edge https://u@h/x":   "@edge https://h/x",
		"./packages":            "./packages",
		"https://h/x?y=z":       "https://h/x?y=z",
		"@local /srv/packages":  "@local /srv/packages",
		"https://u:p%40q@h:8/x": "https://h:8/x",
	} {
		if got := Redact(in); got != want {
			t.Errorf("Redact(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"":                     nil,
		"a  b":                 {"a", "b"},
		`a 'b c' "d e"`:        {"a", "b c", "d e"},
		`a\ b "c\"d" "e\f" ''`: {"a b", `c"d`, `e\f`, ""},
		`x='1 2'y`:             {"x=1 2y"},
	} {
		got, err := splitWords(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("splitWords(%q): %v (-want +got):\n%s", in, err, diff)
		}
	}
	for _, bad := range []string{`'a`, `"a`, `a\`} {
		if got, err := splitWords(bad); err == nil {
			t.Errorf("splitWords(%q) = %q", bad, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("contents: {packages: [a, b=1], keyring: [k]}\npaths: [{path: /x, type: directory, permissions: 0o1777}]\narchs: [amd64]"))
	f.Add([]byte("include: image.yaml"))
	f.Add([]byte("entrypoint: {type: service-bundle, services: {a: 'b \"c'}}\naccounts: {users: [{username: a, uid: 1}]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(t.TempDir(), "image.yaml")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file)
		if err != nil {
			return
		}
		// What was accepted can be decided.
		if _, err := c.World(); err != nil {
			t.Error(err)
		}
		if _, _, err := c.Command(); err != nil {
			t.Error(err)
		}
		if _, err := c.Digest(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzLock(f *testing.F) {
	lock := &Lock{Version: LockVersion, Contents: LockContents{Packages: []LockPackage{{
		Name: "a", Version: "1-r0", Architecture: "x86_64", URL: "r/x86_64/a-1-r0.apk", Checksum: "Q1" + strings.Repeat("A", 27) + "=",
		Data: LockSection{"bytes=1-2", "sha256-x"},
	}}}}
	var b bytes.Buffer
	if err := lock.Encode(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLock(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := l.Encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := parseLock(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if l.Digest() != again.Digest() {
			t.Error("written and read again, the lock is another one")
		}
	})
}
