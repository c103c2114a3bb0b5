package build

import (
	"path"

	"distro.internal/melange/recipe"
)

// shell is how a step that is a script is run. Where it runs is an argument, never a part of the text, so that no name of a
// folder is ever read as a command. The shell stops at the first failure, wherever in a pipe. That the last command of a
// script is a condition that does not hold is none: what is there to the end has succeeded.
//
// With trace it says each command before it runs it.
//
// The empty line before the end is for scripts that end in a backslash, which would take the next line for their own.
func shell(s recipe.Step, trace bool) []string {
	dir := s.Dir
	if !path.IsAbs(dir) {
		dir = path.Join(recipe.Workspace, dir)
	}
	begin := "set -eo pipefail; mkdir -p \"$0\"; cd \"$0\"\n"
	if trace {
		begin += "set -x\n"
	}
	return []string{"/bin/sh", "-c", begin + s.Script + "\n\nexit 0\n", dir}
}
