// Package pipelines holds the built-in pipelines, the files that uses: names in a recipe, and the portable programs that
// wasm: names.
//
// The pipelines are YAML. Their scripts are plain POSIX shell: they run under busybox ash, dash and bash. The programs are
// Go, in the folder portable, compiled into one WebAssembly module.
package pipelines

import (
	"embed"
	"errors"
	"io/fs"
)

// Files is the folder of the built-in pipelines: "fetch.yaml", "split/dev.yaml", ...
//
//go:embed *.yaml R autoconf cargo cmake go llvm maven meson npm pecl perl python ruby split test xcover
var Files embed.FS

// Programs are the portable programs by name, each with the version of what it makes of given files and arguments. It
// changes when that changes, and only then: what was built with another version is built again.
var Programs = map[string]int{
	"patch":          1,
	"perl/cleanup":   1,
	"ruby/clean":     1,
	"split/alldocs":  1,
	"split/bin":      1,
	"split/debug":    1,
	"split/dev":      1,
	"split/infodir":  1,
	"split/lib":      1,
	"split/locales":  1,
	"split/manpages": 1,
	"split/static":   1,
	"strip":          1,
}

//go:embed wasm
var modules embed.FS

// Module is the WebAssembly module with all Programs. Which of them it is, it is told by its first argument.
func Module() ([]byte, error) {
	module, err := modules.ReadFile("wasm/portable.wasm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the portable programs were not compiled when this was built: make it with make, or run make pipelines first")
	}
	return module, err
}
