package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// probesVariable names the folder with the probes in a run of these tests that another run has started.
const probesVariable = "SANDBOX_TEST_PROBES"

// probes is the folder that holds the probe for each architecture.
var probes string

func TestMain(m *testing.M) {
	Main()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	if probes = os.Getenv(probesVariable); probes != "" {
		return m.Run(), nil
	}
	dir, err := os.MkdirTemp("", "probes")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	for name, arch := range map[string]string{native: runtime.GOARCH, foreign: "arm64"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name, "bin/probe"), "./testdata/probe")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("building the probe: %w\n%s", err, out)
		}
	}
	// A copy for other users, who may not enter the folder of the original. It is made here because a program
	// cannot be executed while it is open for writing in whatever another test just forks.
	if err := copyTests(filepath.Join(dir, "tests")); err != nil {
		return 0, err
	}
	probes = dir
	return m.Run(), nil
}

// The layers in the folder of probes: each has /bin/probe, and nothing else.
const (
	native  = "native"
	foreign = "foreign"
)

func probeLayer(name string) string { return filepath.Join(probes, name) }

func copyTests(name string) error {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o755)
}

// layer makes a folder of files. Content that begins with ">" is a link, a name that ends in "/" is a folder.
func layer(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		file := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		switch {
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(file, 0o755))
		case strings.HasPrefix(text, ">"):
			must(t, os.Symlink(text[1:], file))
		default:
			must(t, os.WriteFile(file, []byte(text), 0o644))
		}
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts an environment of the probe, and above it whatever s says.
func start(t testing.TB, s Sandbox) *Agent {
	t.Helper()
	s.Layers = append([]string{probeLayer(native)}, s.Layers...)
	a, err := s.Start(t.Context())
	must(t, err)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// probe runs a tool in the environment and returns everything it printed.
func probe(t testing.TB, a *Agent, args ...string) (string, error) {
	t.Helper()
	return probeAs(t.Context(), a, Command{Args: args})
}

func probeAs(ctx context.Context, a *Agent, c Command) (string, error) {
	var out bytes.Buffer
	c.Args = append([]string{"/bin/probe"}, c.Args...)
	c.Stdout, c.Stderr = &out, &out
	err := a.Run(ctx, c)
	return strings.TrimSpace(out.String()), err
}

// expect runs a tool that must succeed, and returns what it printed.
func expect(t testing.TB, a *Agent, args ...string) string {
	t.Helper()
	out, err := probe(t, a, args...)
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// oneOf reports whether the text holds one of the alternatives, which "|" separates.
func oneOf(text, alternatives string) bool {
	return slices.ContainsFunc(strings.Split(alternatives, "|"), func(want string) bool { return strings.Contains(text, want) })
}

func TestCommand(t *testing.T) {
	a := start(t, Sandbox{Env: []string{"A=1", "PATH=/bin", "B=2"}})
	t.Run("environment", func(t *testing.T) {
		out, err := probeAs(t.Context(), a, Command{Args: []string{"env"}, Env: []string{"B=3", "C=4"}})
		must(t, err)
		if want := "A=1\nPATH=/bin\nB=3\nC=4"; out != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
	t.Run("path", func(t *testing.T) {
		var out bytes.Buffer
		must(t, a.Run(t.Context(), Command{Args: []string{"probe", "echo", "hello"}, Stdout: &out}))
		if out.String() != "hello\n" {
			t.Errorf("got %q", out.String())
		}
	})
	t.Run("stdin", func(t *testing.T) {
		text := strings.Repeat("0123456789", 100_000)
		out, err := probeAs(t.Context(), a, Command{Args: []string{"stdin"}, Stdin: strings.NewReader(text)})
		must(t, err)
		if out != text {
			t.Errorf("%d bytes came back of %d", len(out), len(text))
		}
	})
	t.Run("streams block", func(t *testing.T) { expect(t, a, "blocking") })
	t.Run("large arguments", func(t *testing.T) {
		text := strings.Repeat("x", 100_000)
		args := []string{"echo", text, text, text, text}
		if out := expect(t, a, args...); len(out) != 400_003 {
			t.Errorf("%d bytes came back", len(out))
		}
	})
	t.Run("identity", func(t *testing.T) {
		if out := expect(t, a, "id"); out != "0 0 true build" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("limits of a process", func(t *testing.T) {
		if out := expect(t, a, "rlimits"); out != "1\n8388608" {
			t.Errorf("got %q", out)
		}
		if out := expect(t, a, "umask"); out != "022" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("first to go without memory", func(t *testing.T) {
		// It is said of a command that runs already: one that is very quick may not have heard.
		until(t, func() bool { return expect(t, a, "self", "cat", "/proc/self/oom_score_adj") == "700" })
	})
	for _, tc := range []struct {
		args []string
		want ExitError
	}{
		{[]string{"exit", "3"}, ExitError{Code: 3}},
		{[]string{"signal", "SIGTERM"}, ExitError{Code: -1, Signal: 15}},
	} {
		_, err := probe(t, a, tc.args...)
		var exit *ExitError
		if !errors.As(err, &exit) || *exit != tc.want {
			t.Errorf("%v: got %#v, want %#v", tc.args, err, tc.want)
		}
	}
}

func TestCommandThatCannotRun(t *testing.T) {
	a := start(t, Sandbox{Layers: []string{layer(t, map[string]string{"bin/text": "no program"})}})
	for _, tc := range []struct {
		c    Command
		want string
	}{
		{Command{Args: []string{"/bin/none"}}, "running /bin/none: exec /bin/none: no such file or directory"},
		{Command{Args: []string{"none"}, Env: []string{"PATH=/bin:/usr/bin"}}, "not found in the PATH"},
		{Command{Args: []string{"/bin/text"}}, "permission denied"},
		{Command{Args: []string{"/bin/probe", "id"}, Dir: "/none"}, "/none: no such file or directory"},
		{Command{}, "without a name"},
	} {
		err := a.Run(t.Context(), tc.c)
		var exit *ExitError
		if err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v, want %q", tc.c.Args, err, tc.want)
		}
	}
	expect(t, a, "echo", "the environment goes on")
}

func TestNothingOutlivesACommand(t *testing.T) {
	a := start(t, Sandbox{})
	expect(t, a, "leave", "sleep", "1h")
	if out := expect(t, a, "ps"); strings.Contains(out, "sleep") {
		t.Errorf("left behind:\n%s", out)
	}
}

// TestSignalsToTheAgent: test suites kill everything they can reach.
func TestSignalsToTheAgent(t *testing.T) {
	a := start(t, Sandbox{})
	for sig := 1; sig <= 31; sig++ {
		expect(t, a, "kill", "1", strconv.Itoa(sig))
		if out, err := probe(t, a, "kill", "-1", strconv.Itoa(sig)); err != nil && !strings.Contains(out, "no such process") {
			t.Errorf("signal %d to all: %v: %s", sig, err, out)
		}
	}
	expect(t, a, "echo", "the environment goes on")
}

// TestManyAtOnce: environments share layers, and nothing else.
func TestManyAtOnce(t *testing.T) {
	const many = 16
	for i := range many {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			a := start(t, Sandbox{})
			expect(t, a, "write", "/name", strconv.Itoa(i))
			if out := expect(t, a, "cat", "/name"); out != strconv.Itoa(i) {
				t.Errorf("got %q", out)
			}
		})
	}
}
