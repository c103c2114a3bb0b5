package main

import "strings"

// classOf is the kind of a difference, by which known knows it. What is not exactly of a known kind is of a class of its own.
func classOf(d difference) string {
	switch {
	case d.what == "owner's name" && d.ours == ":":
		return "owner's name"
	case strings.HasPrefix(d.name, "var/lib/db/sbom/") && d.what == "content":
		return "bill of materials"
	case d.what == "control" && d.name == ".melange.yaml":
		return "record of the build"
	case d.what == "kind" && d.theirs == "0" && d.ours == "1", d.what == "target" && d.theirs == "" && d.ours != "":
		return "hard link"
	case d.what == "mode" && strings.HasPrefix(d.ours, "5 ") && strings.HasSuffix(d.ours, strings.TrimPrefix(d.theirs, "5 ")):
		return "special bits of a folder"
	case d.pkg == "quirks-if-1-r0.apk" && d.theirs == "not there":
		return "subpackage with an if"
	case d.pkg == "quirks-setcap-1-r0.apk" && d.what == "xattrs" && d.theirs == "map[]":
		return "capabilities in a subpackage"
	case d.pkg == "quirks-1-r0.apk" && d.name == "usr/share/triplet" && d.what == "content":
		return "variables in the environment"
	case d.pkg == "scans-module-variables-4.5-r6.apk" && d.what == "field" && d.theirs == "":
		return "variables of a module"
	case d.what == "lint" && d.theirs == "found" && (d.name == "lddcheck" || d.name == "pkgconf"):
		return "tests of a finished package"
	case d.what == "lint" && d.name == "strip" && d.ours == "found":
		return "sections for debuggers"
	case d.what == "lint" && d.pkg == "lints-pythons-1-r0.apk" && strings.HasPrefix(d.name, "python/"):
		return "several Pythons"
	case d.what == "lint" && d.pkg == "lints-sbom-below-1-r0.apk" && d.name == "empty":
		return "folders of bills of materials"
	case d.what == "test" && d.name == "verdicts-not-the-owner" && d.theirs == string(failed):
		return "user who owns the system"
	case d.what == "field":
		return "field " + d.name + fieldCase(d)
	}
	return d.what
}

// fieldCase tells the known case of a field from any other.
func fieldCase(d difference) string {
	known := false
	switch d.name {
	case "size", "datahash":
		known = true
	case "maintainer":
		known = d.theirs == "unknown" && d.ours == ""
	case "license":
		known = strings.Contains(d.theirs, "\n") && !strings.Contains(d.ours, "\n")
	case "provider_priority":
		known = d.theirs == "0" && d.ours == ""
	case "triggers":
		known = d.theirs == d.ours+" "
	case "# vendored":
		known = d.ours == ""
	}
	if known {
		return ""
	}
	return ", otherwise"
}

// known are the classes of differences that are there for a reason.
var known = map[string]string{
	"subpackage with an if":        "theirs decides it with empty variables, and never makes the package",
	"capabilities in a subpackage": "theirs forgets them",
	"variables in the environment": "theirs leaves most as they are written",

	"tests of a finished package":   "what a test does is no part of ours; when a package is built, the linters know",
	"variables of a module":         "pkg-config expands them in Requires, theirs gives up",
	"sections for debuggers":        "theirs looks for sections that nothing makes",
	"several Pythons":               "theirs says it three times, ours once: python/multiple",
	"folders of bills of materials": "theirs takes all below the folder for such bills",

	"user who owns the system": "theirs has one id only, so that all files are the user's under whom a test runs",

	"order of strings": "what strip leaves is the same, but for the order of names in the tables of strings",

	"owner's name":             "ours says numbers only: a name would win over them on a system that gives it another number",
	"bill of materials":        "the documents are compared by validators; theirs gives all packages of one version one namespace, and has no licences in order",
	"record of the build":      "theirs repeats the recipe with paths of the machine in every package, ours is what rebuild needs",
	"hard link":                "theirs becomes a second copy of the file",
	"special bits of a folder": "theirs loses sticky and setgid bits",
	"field size":               "theirs counts folders as the disk of the build does, so that it differs from machine to machine",
	"field datahash":           "of a data section that holds all of the above",
	"field maintainer":         "theirs is a namespace nobody gave",
	"field license":            "ours is one expression; of several lines an index keeps the first only",
	"field provider_priority":  "0 is what it is without the field",
	"field triggers":           "theirs ends in a space",
	"field # vendored":         "a comment that nothing reads",
}
