package console

import (
	"bytes"
	"context"
	"testing"

	"github.com/chainguard-dev/clog"
)

func TestLogged(t *testing.T) {
	var b bytes.Buffer
	ctx, err := Logged(context.Background(), &b, "info")
	if err != nil {
		t.Fatal(err)
	}
	clog.DebugContext(ctx, "not said")
	clog.InfoContext(ctx, "fetched", "uri", "file:///x y")
	if got, want := b.String(), "level=INFO msg=fetched uri=\"file:///x y\"\n"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	if _, err := Logged(context.Background(), &b, "loud"); err == nil {
		t.Error("an unknown level was taken")
	}
}
