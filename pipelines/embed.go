// Package pipelines holds the built-in pipelines, the files that uses: names in a recipe.
//
// It holds YAML and nothing else. Their scripts are plain POSIX shell: they run under busybox ash, dash and bash.
package pipelines

import "embed"

// Files is the folder of the built-in pipelines: "fetch.yaml", "split/dev.yaml", ...
//
//go:embed *.yaml R autoconf cargo cmake go llvm maven meson npm pecl perl python ruby split xcover
var Files embed.FS
