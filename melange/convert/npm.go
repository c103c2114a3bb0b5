package convert

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// npmVersion is what a registry says of one version of a package.
type npmVersion struct {
	Name, Version, Description, Homepage string
	License                              json.RawMessage // a name, or an object with type
	Repository                           json.RawMessage // an address, or an object with url
	Engines                              map[string]string
	Dependencies                         map[string]string
	Dist                                 struct{ Tarball, Integrity string }
}

// NPM makes a recipe of what a registry of npm says of a package: of one version, or of all, of which version is taken; the
// latest when that is empty.
func NPM(metadata []byte, version string) ([]byte, error) {
	var all struct {
		npmVersion
		Tags     map[string]string `json:"dist-tags"`
		Versions json.RawMessage
	}
	if err := decode(metadata, &all, npmKind); err != nil {
		return nil, err
	}
	p := all.npmVersion
	if p.Dist.Tarball == "" {
		versions := map[string]npmVersion{}
		if err := json.Unmarshal(all.Versions, &versions); err != nil {
			return nil, notThat(npmKind)
		}
		if version == "" {
			version = all.Tags["latest"]
		}
		var ok bool
		if p, ok = versions[version]; !ok {
			return nil, fmt.Errorf("there is no version %q of it", version)
		}
	} else if version != "" && version != p.Version {
		return nil, fmt.Errorf("it is about version %s only", p.Version)
	}
	sum, err := integrity(p.Dist.Integrity)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", p.Name, p.Version, err)
	}
	d := &draft{
		name: npmName(p.Name), version: p.Version, epoch: "0",
		description: p.Description, url: p.Homepage, licenses: licenseOr(word(p.License, "type")),
		depends:  []string{"nodejs"},
		packages: []string{"busybox", "nodejs", "npm"},
		update:   watched(append(hosted(word(p.Repository, "url")), p.Homepage)...),
	}
	uri := versioned(p.Dist.Tarball, p.Version)
	if len(p.Dependencies) == 0 {
		d.steps = []step{
			{uses: "fetch", with: []pair{{"uri", uri}, {"expected-sha512", sum}, {"extract", "false"}}},
			{runs: "npm install --global --offline --prefix ${{targets.contextdir}}/usr ./" + path.Base(uri)},
		}
	} else {
		d.notes = append(d.notes, fmt.Sprintf("npm fetches what it needs when it is built, with nothing to hold it to: %s.", strings.Join(sortedKeys(p.Dependencies), ", ")))
		d.steps = []step{{uses: "npm/install", with: []pair{{"package", p.Name}, {"version", "${{package.version}}"}}}}
	}
	if node := p.Engines["node"]; node != "" {
		d.notes = append(d.notes, "It says that it needs Node.js "+node+".")
	}
	return d.text(), nil
}

const npmKind = "an npm package: that has dist with tarball, or versions"

var short = regexp.MustCompile(`^(?:github:)?([\w-]+/[\w.-]+)$`)

// hosted spells out the addresses of repositories that npm lets people shorten.
func hosted(addresses []string) []string {
	for i, a := range addresses {
		if m := short.FindStringSubmatch(a); m != nil {
			addresses[i] = "https://github.com/" + m[1]
		}
	}
	return addresses
}

// npmName is a name without its scope's signs.
func npmName(name string) string {
	return plainName(strings.ReplaceAll(strings.TrimPrefix(name, "@"), "/", "-"))
}

// integrity is the SHA-512 of a file, in hex.
func integrity(text string) (string, error) {
	for part := range strings.FieldsSeq(text) {
		if digest, ok := strings.CutPrefix(part, "sha512-"); ok {
			raw, err := base64.StdEncoding.DecodeString(digest)
			if err == nil && len(raw) == 64 {
				return hex.EncodeToString(raw), nil
			}
		}
	}
	return "", errors.New("the registry has no SHA-512 of its archive")
}

// word reads what is a text, or an object that has the text under a key.
func word(raw json.RawMessage, key string) []string {
	var text string
	if json.Unmarshal(raw, &text) == nil && text != "" {
		return []string{text}
	}
	var object map[string]any
	if json.Unmarshal(raw, &object) == nil {
		if text, ok := object[key].(string); ok {
			return []string{text}
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// firstOf is the first that is not empty.
func firstOf(list []string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
