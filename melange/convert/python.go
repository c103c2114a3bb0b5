package convert

import (
	"fmt"
	"regexp"
	"strings"
)

// Python makes a recipe of what an index of Python packages says of one, in the JSON form that has info and urls.
func Python(metadata []byte) ([]byte, error) {
	var p struct {
		Info struct {
			Name, Version, Summary, License string
			LicenseExpression               string `json:"license_expression"`
			HomePage                        string `json:"home_page"`
			Classifiers                     []string
			RequiresDist                    []string          `json:"requires_dist"`
			ProjectURLs                     map[string]string `json:"project_urls"`
		}
		URLs []struct {
			URL         string
			PackageType string
			Digests     struct{ SHA256 string }
		}
	}
	if err := decode(metadata, &p, pythonKind); err != nil {
		return nil, err
	}
	if p.Info.Name == "" || p.Info.Version == "" {
		return nil, notThat(pythonKind)
	}
	d := &draft{
		name: pythonName(p.Info.Name), version: p.Info.Version, epoch: "0",
		description: p.Info.Summary, url: p.Info.HomePage,
		licenses: licenseOr(pythonLicense(p.Info.LicenseExpression, p.Info.License, p.Info.Classifiers)),
		packages: []string{"build-base", "busybox", "py3-setuptools", "py3-wheel", "python3", "python3-dev"},
		vars:     []pair{{"pypi-package", p.Info.Name}},
	}
	addresses := []string{p.Info.HomePage}
	for _, key := range sortedKeys(p.Info.ProjectURLs) {
		addresses = append(addresses, p.Info.ProjectURLs[key])
	}
	if d.url == "" {
		d.url = firstOf(addresses)
	}
	d.update = watched(addresses...)
	for _, r := range p.Info.RequiresDist {
		name, marker := requirement(r)
		switch {
		case name == "":
			d.notes = append(d.notes, "Not understood: it needs "+r)
		case strings.Contains(marker, "extra"):
		case marker != "":
			d.notes = append(d.notes, fmt.Sprintf("It needs %s only when %s.", pythonName(name), marker))
		default:
			d.depends = append(d.depends, pythonName(name))
		}
	}
	for _, u := range p.URLs {
		if u.PackageType == "sdist" && len(u.Digests.SHA256) == 64 {
			d.steps = []step{
				{uses: "fetch", with: []pair{{"uri", versioned(u.URL, p.Info.Version)}, {"expected-sha256", u.Digests.SHA256}}},
				{uses: "python/build-wheel"},
				{uses: "strip"},
			}
			return d.text(), nil
		}
	}
	return nil, fmt.Errorf("%s %s has no source archive, only what was built already", p.Info.Name, p.Info.Version)
}

const pythonKind = "a Python package: that has info with name and version, and urls"

var separators = regexp.MustCompile(`[-_.]+`)

// pythonName is what a distribution calls a Python package: names that differ in case or separators are one name.
func pythonName(name string) string {
	return "py3-" + separators.ReplaceAllString(strings.ToLower(name), "-")
}

var requirementName = regexp.MustCompile(`^\s*([A-Za-z0-9][A-Za-z0-9._-]*)`)

// requirement splits a line of Python's dependency language; versions are left out.
func requirement(line string) (name, marker string) {
	line, marker, _ = strings.Cut(line, ";")
	if m := requirementName.FindStringSubmatch(line); m != nil {
		name = m[1]
	}
	return name, oneLine(marker)
}

// classified are licences by what classifiers call them.
var classified = map[string]string{
	"MIT License": "MIT", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause", "ISC License (ISCL)": "ISC",
	"Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0", "The Unlicense (Unlicense)": "Unlicense",
	"GNU General Public License v2 (GPLv2)": "GPL-2.0-only", "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
	"GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later", "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
	"GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only", "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
}

var licenseID = regexp.MustCompile(`^[A-Za-z0-9.+-]+$`)

func pythonLicense(expression, text string, classifiers []string) []string {
	if expression != "" {
		return []string{expression}
	}
	for _, c := range classifiers {
		if id := classified[c[strings.LastIndex(c, ":")+1:]]; id != "" {
			return []string{id}
		}
		if id := classified[strings.TrimSpace(c[strings.LastIndex(c, ":")+1:])]; id != "" {
			return []string{id}
		}
	}
	if licenseID.MatchString(text) {
		return []string{text}
	}
	return nil
}
