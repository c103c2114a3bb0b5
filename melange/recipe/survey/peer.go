package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"distro.internal/melange/compat"
	"distro.internal/shared/apk"
)

// A peer is another melange.
type peer struct {
	program string
	folder  string // for what it printed; empty for a folder that goes at the end
	atOnce  int
}

// compiled is what the peer made of a recipe.
type compiled struct {
	config *compat.Configuration // nil when it refused
	reason string                // why it did
}

// compare compares plans with what the peer compiles.
func (s *survey) compare(ctx context.Context, c *comparison, arch apk.Arch, outcomes []outcome) error {
	folder := s.peer.folder
	if folder == "" {
		made, err := os.MkdirTemp("", "compiled-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(made)
		folder = made
	}
	folder = filepath.Join(folder, string(arch))
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	theirs := make([]compiled, len(outcomes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.peer.atOnce)
	for i, o := range outcomes {
		group.Go(func() (err error) {
			theirs[i], err = s.peer.compile(ctx, s.dir, arch, o.file, filepath.Join(folder, o.name()+".json"))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, o := range outcomes {
		c.recipe(arch, o, theirs[i])
	}
	return nil
}

func (o outcome) name() string { return strings.TrimSuffix(o.file, ".yaml") }

// compile reads what the peer printed, once it did.
func (p peer) compile(ctx context.Context, dir string, arch apk.Arch, recipe, printed string) (c compiled, err error) {
	data, err := os.ReadFile(printed)
	if errors.Is(err, fs.ErrNotExist) {
		if data, c.reason, err = p.run(ctx, dir, arch, recipe); c.reason == "" && err == nil {
			err = os.WriteFile(printed, data, 0o666)
		}
	}
	if err != nil || c.reason != "" {
		return c, err
	}
	if err := json.Unmarshal(data, &c.config); err != nil {
		return c, fmt.Errorf("reading what was compiled of %s: %w", recipe, err)
	}
	return c, nil
}

// run has a recipe compiled. The reason is the last that the peer said before it refused.
func (p peer) run(ctx context.Context, dir string, arch apk.Arch, recipe string) (printed []byte, reason string, err error) {
	args := []string{"compile", "--arch", string(arch), "--git-commit", commit, "--log-level", "error", recipe}
	if _, err := os.Stat(filepath.Join(dir, "pipelines")); err == nil {
		args = append(args, "--pipeline-dir", "pipelines")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, p.program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	err = cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return nil, "refused: " + lines[len(lines)-1], nil
	}
	return stdout.Bytes(), "", err
}
