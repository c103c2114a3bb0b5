// Package source brings what a recipe is built from onto this machine and into
// a workspace, before any step runs: files by digest, git commits, Go modules.
//
// Everything is named by its content and kept, so that it is fetched once, and
// a build that was done can be done again when the origin is gone. Nothing is
// handed out that was not verified, and nothing runs that came with a source:
// archives are unpacked and commits written out here, in Go. Two programs of
// the machine are used: xz, where there is one, and go, for the modules of Go
// programs.
//
// It knows what a recipe says of a source, and nothing else of recipes.
package source
