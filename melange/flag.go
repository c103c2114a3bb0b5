package main

// elsewhere tells what is there in place of flags that other melanges have, and that Makefiles of distributions give.
var elsewhere = map[string]string{
	"runner":               "there is one sandbox, which needs no other program: leave it out",
	"cleanup":              "nothing is left behind in any case: leave it out",
	"rm":                   "nothing is left behind unless --keep says so: leave it out",
	"debug-runner":         "--keep=always leaves the workspace, melange shell --kept NAME enters it",
	"workspace-dir":        "--keep=always leaves the workspace, melange shell --kept NAME enters it",
	"empty-workspace":      "--source-dir names an empty folder",
	"cache-source":         "--source-mirror names folders and servers that have sources by digest",
	"cpumodel":             "no machine is emulated whose model could be chosen: leave it out",
	"generate-index":       "packages and index are published in one step: leave it out",
	"create-build-log":     "what was built is what is printed",
	"dependency-log":       "melange scan PACKAGE.apk... tells what packages need and provide",
	"fail-on-lint-warning": "--lint-require names the linters whose findings are errors",
	"strip-origin-name":    "a package of no origin would be built by nobody: leave it out",
	"persist-lint-results": "melange lint --json prints what was found",
	"trace":                "world writes traces of what it builds",
	"scan-type":            "--deep looks in all folders",
	"workdir":              "sources are taken from --cache-dir",
	"format":               "one expression is written for all that is found",
	"comments":             "they are printed unless --diff is given",
	"diff":                 "differences are printed in any case",
	"log-policy":           "--log-level",
}
