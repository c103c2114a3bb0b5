package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"distro.internal/apko/image"
)

// probeVCS finds the git repository that holds the file and returns its origin and present commit as URL@commit; empty
// when there is none, or no origin.
func probeVCS(file string) (string, error) {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return "", err
	}
	for {
		git, err := gitDir(filepath.Join(dir, ".git"))
		if err == nil {
			return originAt(git)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

// gitDir follows the file that stands in the place of the folder in a worktree.
func gitDir(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil || info.IsDir() {
		return name, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	dir := strings.TrimSpace(strings.TrimPrefix(string(text), "gitdir:"))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(name), dir)
	}
	return dir, nil
}

func originAt(git string) (string, error) {
	common := git
	if text, err := os.ReadFile(filepath.Join(git, "commondir")); err == nil {
		common = filepath.Join(git, strings.TrimSpace(string(text)))
	}
	config, err := os.ReadFile(filepath.Join(common, "config"))
	if err != nil {
		return "", err
	}
	origin := originOf(string(config))
	head, err := os.ReadFile(filepath.Join(git, "HEAD"))
	if err != nil || origin == "" {
		return "", err
	}
	commit := strings.TrimSpace(string(head))
	if ref, ok := strings.CutPrefix(commit, "ref: "); ok {
		if commit, err = resolveRef(common, ref); err != nil || commit == "" {
			return "", err
		}
	}
	return image.Redact(origin) + "@" + commit, nil
}

// originOf is the address of the remote "origin" in a git configuration.
func originOf(config string) string {
	inside := false
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == `[remote "origin"]`
		}
		if key, value, ok := strings.Cut(line, "="); ok && inside && strings.TrimSpace(key) == "url" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// resolveRef is the commit of a branch; empty when it has none yet.
func resolveRef(git, ref string) (string, error) {
	text, err := os.ReadFile(filepath.Join(git, filepath.FromSlash(ref)))
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	packed, err := os.ReadFile(filepath.Join(git, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for line := range strings.Lines(string(packed)) {
		if commit, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref {
			return commit, nil
		}
	}
	return "", err
}
