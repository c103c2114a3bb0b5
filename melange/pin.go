package main

import (
	"context"
	"fmt"

	"github.com/chainguard-dev/clog"

	"distro.internal/melange/recipe"
	"distro.internal/melange/source"
)

// pin decides what the sources that recipes leave open are: what is there now, the same for every architecture. The user
// is told what to write into the recipe to get it again.
func pin(ctx context.Context, store *source.Store, plans []*recipe.Plan) ([]*recipe.Plan, error) {
	known := map[string]recipe.Source{}
	pinned := make([]*recipe.Plan, len(plans))
	for i, plan := range plans {
		var err error
		pinned[i], err = plan.Pin(func(src recipe.Source) (recipe.Source, error) {
			name := fmt.Sprintf("%s %q %q %q %q %q", src.Kind, src.URI, src.Branch, src.Tag, src.Module, src.Version)
			now, ok := known[name]
			if !ok {
				var err error
				if now, err = store.Pin(ctx, src); err != nil {
					return src, err
				}
				known[name] = now
				clog.WarnContext(ctx, "a source is not pinned, and may be another tomorrow", "at", src.Pos.String(), "now", digestInput(now))
			}
			src.SHA256, src.Commit, src.Sum = now.SHA256, now.Commit, now.Sum
			return src, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pinned, nil
}

// digestInput is what pins a source, as it is written in a recipe.
func digestInput(s recipe.Source) string {
	switch s.Kind {
	case recipe.SourceGit:
		return "expected-commit: " + s.Commit
	case recipe.SourceModule:
		return "expected-sum: " + s.Sum
	}
	return "expected-sha256: " + s.SHA256
}
