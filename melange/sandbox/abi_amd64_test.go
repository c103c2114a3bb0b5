package sandbox

import (
	"strings"
	"testing"
)

// TestForeignABI: the numbers of the machine's other ABIs mean other calls, which the filter does not know.
func TestForeignABI(t *testing.T) {
	a := start(t, Sandbox{})
	if _, err := probe(t, a, "i386"); err == nil || !strings.Contains(err.Error(), "bad system call") {
		t.Errorf("a call of the 32-bit ABI: %v", err)
	}
	if out, err := probe(t, a, "x32"); err == nil || !strings.Contains(out, "not implemented") {
		t.Errorf("a call of the x32 ABI: %v", out)
	}
}
