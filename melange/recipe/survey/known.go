package main

import (
	"slices"
	"strings"
)

// classOf is the kind of a difference, by which known knows it. What is not exactly of a known kind is of a class of its own.
func classOf(d difference) string {
	switch {
	case d.what == "environment package" && d.ours == "" && d.idle:
		return "package for nobody"
	case d.what == "environment package" && d.ours == "":
		for _, pipeline := range d.used {
			if slices.Contains(without[pipeline], d.theirs) {
				return "package for " + pipeline
			}
		}
	case d.what == "accounts" && strings.ReplaceAll(d.ours, `"gid":`, "") != d.ours:
		return "group of an account"
	case d.what == "refused" && d.ours == "" && strings.Contains(d.theirs, "variable ") && strings.HasSuffix(d.theirs, " not defined"):
		return "variable made of variables"
	case d.what == "refused" && d.ours == "" && strings.Contains(d.theirs, "expected commit \"expected-commit\""):
		return "commit that is passed on"
	case d.what == "refused" && d.ours == "" && strings.Contains(d.theirs, " not found in type "):
		return "key of ours"
	case d.what == "environment variable" && strings.Contains(d.theirs, "${{") && !strings.Contains(d.ours, "${{"):
		return "variable in the environment"
	case d.what == "subpackage" && d.ours == "" && d.theirs != "there":
		return "subpackage with an if"
	case d.what == "setcap" && d.theirs == "null" && !strings.HasPrefix(d.recipe, d.where+".yaml"):
		return "capabilities in a subpackage"
	case strings.HasPrefix(d.what, "input of split/") && d.name == "package" && d.theirs == "":
		return "package to split"
	}
	return d.what
}

// without are the packages that pipelines of the peer's want, and those of the same name here do without.
var without = map[string][]string{
	"fetch":       {"wget"},
	"split/debug": {"binutils", "scanelf"},
	"strip":       {"binutils", "scanelf"},
}

// known are the classes of differences that are there for a reason.
var known = map[string]string{
	"variable made of variables":   "theirs knows some of the names there, and others by chance",
	"commit that is passed on":     "theirs looks at it before it is one",
	"key of ours":                  "theirs does not know it",
	"variable in the environment":  "theirs knows some of the names there",
	"subpackage with an if":        "theirs prints it as it was written and decides when it builds, with empty variables",
	"capabilities in a subpackage": "theirs forgets them",

	"package for nobody":      "no step of ours runs in the environment",
	"package for fetch":       "ours is fetched before the build begins, from outside",
	"package for split/debug": "ours is a portable program",
	"package for strip":       "ours is a portable program",
	"package to split":        "the origin, which ours names and theirs means",
	"group of an account":     "without one it is that of the account's number; theirs says so when it builds",
}
