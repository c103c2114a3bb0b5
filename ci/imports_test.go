package main

import (
	"os/exec"
	"strings"
	"testing"
)

// mayImport is the shape of the workspace: for each room, the rooms of ours it
// may use. What is not listed may use nothing of ours. A main may use all of its
// product and of shared; only a main uses a build.
var mayImport = map[string]string{
	"shared/apk":              "shared/filetree",
	"shared/cas":              "shared/atomicfile shared/eviction",
	"shared/cas/reapi":        "shared/cas",
	"shared/solve":            "shared/apk",
	"shared/solve/synthetic":  "shared/apk",
	"shared/repository":       "shared/apk shared/cas shared/atomicfile shared/eviction",
	"shared/catalog":          "shared/apk shared/atomicfile shared/cas shared/repository shared/solve",
	"shared/rootfs":           "shared/apk shared/filetree shared/eviction",
	"shared/sbom":             "",
	"shared/attest":           "",
	"shared/ldcache":          "shared/filetree shared/elfobject",
	"melange":                 "shared melange pipelines",
	"melange/recipe":          "shared/document shared/apk shared/sbom pipelines",
	"melange/recipe/survey":   "shared/apk melange/compat melange/recipe pipelines",
	"melange/compat":          "shared/apk melange/recipe",
	"melange/lockfile":        "shared/document",
	"melange/source":          "shared/atomicfile shared/document melange/lockfile melange/recipe",
	"melange/sandbox":         "shared/filetree",
	"melange/plugin":          "shared/atomicfile pipelines",
	"melange/scan":            "shared/filetree shared/elfobject",
	"melange/lint":            "shared/filetree shared/elfobject shared/document",
	"melange/testshell":       "shared/apk shared/filetree",
	"melange/convert":         "shared/document",
	"melange/upstream/survey": "shared/apk melange/recipe melange/source melange/upstream",
	"melange/upstream":        "shared/document shared/apk melange/recipe melange/source",
	"melange/build":           "shared melange/recipe melange/source melange/sandbox melange/plugin melange/scan melange/lint pipelines",
	"melange/build/peer":      "shared/apk",
	"apko":                    "shared apko",
	"apko/image":              "shared/document shared/apk shared/solve shared/cas shared/filetree shared/atomicfile",
	"apko/oci":                "shared/apk shared/filetree shared/cas shared/atomicfile",
	"apko/testrepo":           "shared/apk shared/filetree shared/ldcache/sample",
	"apko/build":              "shared apko/image apko/oci",
	"ci":                      "shared melange apko ci pipelines",
	"ci/record":               "shared/atomicfile",
	"ci/inputs":               "ci/record",
	"ci/graph":                "shared melange/recipe apko/image pipelines ci/inputs ci/record ci/policy",
	"ci/policy":               "shared ci/record",
	"ci/run":                  "",
	"ci/report":               "shared/console shared/atomicfile ci/run ci/policy",
	"ci/stage0":               "shared melange/source",
}

// onlyIn names the modules of others that one room keeps to itself.
var onlyIn = map[string]string{
	"github.com/google/go-containerregistry":   "apko/oci",
	"go.yaml.in/yaml":                          "shared/document",
	"github.com/tetratelabs/wazero":            "melange/plugin",
	"github.com/github/go-spdx":                "ci/policy",
	"github.com/containerd/stargz-snapshotter": "apko/oci",
	"github.com/bazelbuild/remote-apis":        "shared/cas/reapi",
	"google.golang.org/grpc":                   "shared/cas/reapi",
}

const prefix = "distro.internal/"

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`,
		prefix+"shared/...", prefix+"melange/...", prefix+"apko/...", prefix+"ci/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		room := strings.TrimPrefix(words[0], prefix)
		for _, path := range words[1:] {
			if ours, ok := strings.CutPrefix(path, prefix); ok {
				if !allowed(mayImport[room], ours) {
					t.Errorf("%s imports %s", room, ours)
				}
				continue
			}
			for module, keeper := range onlyIn {
				if strings.HasPrefix(path, module) && room != keeper {
					t.Errorf("%s imports %s, which belongs into %s", room, path, keeper)
				}
			}
		}
	}
}

// allowed tells whether a room, or one of the rooms it is in, is in a list.
func allowed(list, room string) bool {
	for word := range strings.FieldsSeq(list) {
		if room == word || strings.HasPrefix(room, word+"/") {
			return true
		}
	}
	return false
}
