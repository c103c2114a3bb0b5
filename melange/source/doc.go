// Package source brings what a recipe is built from onto this machine: files
// by digest, git commits, Go modules.
package source
