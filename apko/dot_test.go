package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"distro.internal/apko/testrepo"
)

// TestDotWeb looks at a graph as a browser does, then interrupts who serves it.
func TestDotWeb(t *testing.T) {
	dir := t.TempDir()
	if err := testrepo.Write(dir, "P:app\nV:2-r0\nT:more <than> it \"seems\"\nD:libx\n\nP:libx\nV:1-r0\n", "x86_64"); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "image.yaml")
	text := "contents:\n  repositories: [\"" + dir + "\"]\n  keyring: [" + filepath.Join(dir, "keys", testrepo.KeyName) + "]\n  packages: [app]\narchs: [x86_64]\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, out, err io.Writer, flags ...string) (exit int) {
		m := machine{out: out, err: err, env: os.Getenv}
		return m.program(append([]string{"dot", config, "--cache-dir", filepath.Join(dir, "cache")}, flags...)...).Run(ctx)
	}
	var graph strings.Builder
	if exit := run(t.Context(), &graph, t.Output()); exit != 0 || !strings.Contains(graph.String(), `"app" -> "libx";`) {
		t.Fatalf("exit code %d:\n%s", exit, &graph)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	says, messages := io.Pipe()
	ended := make(chan int)
	go func() {
		exit := run(ctx, io.Discard, messages, "--web")
		messages.Close()
		ended <- exit
	}()
	line, _ := bufio.NewReader(says).ReadString('\n')
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(line)
	if address == "" {
		t.Fatalf("it says %q and ends with %d", line, <-ended)
	}
	if kind, body := page(t, address+"graph.dot"); !strings.HasPrefix(kind, "text/plain") || body != graph.String() {
		t.Errorf("%s:\n%s\nwant\n%s", kind, body, &graph)
	}
	kind, body := page(t, address)
	_, err := exec.LookPath("dot")
	switch drawn := kind == "image/svg+xml" && strings.Contains(body, "<svg"); {
	case drawn != (err == nil):
		t.Errorf("the program dot: %v; %s:\n%s", err, kind, body)
	case !drawn && body != graph.String():
		t.Errorf("not drawn:\n%s", body)
	}
	interrupt()
	if exit := <-ended; exit != 0 {
		t.Errorf("interrupted: exit code %d", exit)
	}
}

func page(t *testing.T, address string) (kind, body string) {
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, res.Status, err)
	}
	return res.Header.Get("Content-Type"), string(b)
}
