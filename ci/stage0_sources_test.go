package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"distro.internal/shared/repository"
)

// TestStage0Sources asks Debian's archive itself for one source package that the workspace's list has and one that it has
// not: of the first nothing is new that no recipe fetches, of the second everything is.
func TestStage0Sources(t *testing.T) {
	access, err := repository.AccessFrom(func(string) string { return "" })
	must(t, err)
	var out, said bytes.Buffer
	s := surroundings{stdout: &out, stderr: &said, cache: t.TempDir(), config: t.TempDir(), access: access}
	if code := execute(t.Context(), s, []string{"stage0", "sources", "-C", "..", "--json", "dash"}); code != 0 {
		t.Fatalf("exit code %d: %s", code, &said)
	}
	var found sourcesObject
	must(t, json.Unmarshal(out.Bytes(), &found))
	if !slices.ContainsFunc(found.New, func(o sourceObject) bool { return strings.HasPrefix(o.Debian, "pool/main/d/dash/dash_") }) {
		t.Errorf("dash is not found: %s", &out)
	}
	for _, o := range found.New {
		if !strings.Contains(o.Debian, "/dash/") && o.URI == "" {
			t.Errorf("%s is told, and nobody fetches it", o.Debian)
		}
	}
	if code := execute(t.Context(), s, []string{"stage0", "sources", "-C", "..", "no-such-source"}); code != 1 || !strings.Contains(said.String(), "there is no source package of this name") {
		t.Errorf("exit code %d: %s", code, &said)
	}
}
