package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/chainguard-dev/clog"
)

// Logged returns a context whose logger writes what is at least of the level
// ("debug", "info", "warn", "error") to w, as one line of key=value pairs without
// times: a build's log must not differ between equal builds.
func Logged(ctx context.Context, w io.Writer, level string) (context.Context, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return ctx, fmt.Errorf("log level %q: one of debug, info, warn, error", level)
	}
	handler := slog.NewTextHandler(w, &slog.HandlerOptions{Level: l, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return clog.WithLogger(ctx, clog.New(handler)), nil
}
