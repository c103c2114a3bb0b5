// Package source brings what a recipe is built from onto this machine and into
// a workspace, before any step runs: files by digest, git commits, Go modules,
// and what the lock files of npm, cargo and pip name.
//
// Everything is named by its content and kept, so that it is fetched once, and
// a build that was done can be done again when the origin is gone. Nothing is
// handed out that was not verified, and nothing runs that came with a source:
// archives are unpacked and commits written out here, in Go. Programs of the
// machine are used where they are: xz; go, for the modules of Go programs; and
// npm, pip and cargo, who are asked what registry they are configured for.
//
// It knows what a recipe says of a source, and nothing else of recipes.
package source
