// Package plugin runs portable steps: WebAssembly programs of the WASI kind, with only a workspace to read and write.
//
// It knows modules, machine code made from them, and how one is run so that the same files always become the same
// files. It refuses to know what a step is, what the programs do, and who confines the process that they run in.
//
// A module is compiled once, by whoever plans to run it ([Store.Add]). It runs in a process of its own, which the caller
// starts inside of a sandbox: there are files in a workspace whose owners only exist in there, and what a flaw of the
// engine would give away is no more than what a shell's step has anyway. That process is this program again ([Main],
// started with [Run.Command]); of the workspace's surroundings it has nothing but the store, to read.
//
// What a module finds is the interface that documents call wasi_snapshot_preview1, with
//
//   - the workspace, at the same path as in the sandbox, and no other folder; links that lead out of it lead nowhere,
//     on kernels since Linux 5.19 that have Landlock
//   - the arguments and variables of the [Run], stdout and stderr, and an input that is empty
//   - a clock that stands still at the Epoch, and random numbers that are always the same
//   - no network, no processes, no threads, at most 4 GiB of memory
//
// WASI knows no permissions of files. New folders have mode 0755, new files 0644, and a second interface, of ours, has
// what is needed beyond that:
//
//	//go:wasmimport distro file_mode
//	func fileMode(path string) int32                  // the 12 bits of a mode, or -1; links are not followed
//
//	//go:wasmimport distro set_file_mode
//	func setFileMode(path string, mode uint32) int32  // 0, or -1
//
// Paths are absolute, or relative to the folder that the step works in.
package plugin

import (
	"encoding/json"
	"os"
)

// Run is a module at work.
type Run struct {
	Store  string   // the folder of the [Store], as it is seen inside
	Digest string   // of the module, as [Store.Add] said
	Args   []string // with the program's name as the first
	Env    []string // "key=value"; all that there is
	Root   string   // the workspace, an absolute path
	Dir    string   // where relative paths begin, in Root; made when it is missing
	Epoch  int64    // what the clock says, in seconds
}

// processName is the name and the whole first argument by which the process knows what it is. It is also what ps shows.
const processName = "portable"

// Command is the command line that makes this program the process that runs the module.
func (r Run) Command() ([]string, error) {
	text, err := json.Marshal(r)
	return []string{processName, string(text)}, err
}

// Main takes over when this process is to run a module, and then does not return. Every main whose program starts
// sandboxes must call it before anything else, after sandbox.Main.
func Main() {
	if len(os.Args) == 2 && os.Args[0] == processName {
		os.Exit(serve(os.Args[1]))
	}
}
