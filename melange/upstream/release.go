package upstream

import (
	"regexp"
	"slices"
	"strings"

	"distro.internal/melange/recipe"
	"distro.internal/shared/apk"
	"distro.internal/shared/document"
)

// rules say which names that upstream gives to its states are releases, and of which version.
type rules struct {
	prefix, contains         string // of what names must be
	stripPrefix, stripSuffix string
	separator                string
	transforms               []transform
	ignored                  []*regexp.Regexp
	prereleases              bool
}

type transform struct {
	match   *regexp.Regexp
	replace string
}

// rulesOf reads the rules of an update: block that are the same for all who are asked.
func rulesOf(u recipe.Update) (rules, error) {
	r := rules{separator: u.VersionSeparator.Value, prereleases: u.EnablePrereleaseTags}
	var errs document.ErrorList
	compile := func(t document.String) *regexp.Regexp {
		re, err := regexp.Compile(t.Value)
		if err != nil {
			errs.Add(t.Pos, "", "not a regular expression: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return re
	}
	for _, t := range u.VersionTransform {
		r.transforms = append(r.transforms, transform{compile(t.Match), t.Replace.Value})
	}
	for _, t := range u.IgnoreRegexPatterns {
		r.ignored = append(r.ignored, compile(t))
	}
	return r, errs.Err()
}

// filter adds what is said of a git repository's tags.
func (r rules) filter(f recipe.TagFilter, old document.String) rules {
	r.prefix, r.contains = f.TagFilterPrefix.Value, f.TagFilterContains.Value
	if r.prefix == "" {
		r.prefix = old.Value
	}
	r.stripPrefix, r.stripSuffix = f.StripPrefix.Value, f.StripSuffix.Value
	return r
}

// Why a name is no release.
const (
	otherName   = "name is not asked for"
	ignoredName = "name is ignored"
	prerelease  = "pre-release"
	noVersion   = "not a version"
)

// early are words for what is not finished.
var early = regexp.MustCompile(`(?i)(^|[^a-z])(alpha|beta|rc|pre|preview|dev|devel|nightly|snapshot|canary|milestone|test)([^a-z]|$)|[0-9](a|b|rc)[0-9]`)

// versioned is a number after a v, of which not every recipe cares to say that it is no part of the version.
var versioned = regexp.MustCompile(`^v[0-9]`)

// suffix is the end of an unfinished version, in upstreams' ways.
var suffix = regexp.MustCompile(`(?i)[-._~+]?(alpha|beta|pre|rc)[-._]?([0-9]*)$`)

// version is what a name says; or why it does not.
func (r rules) version(name string) (v apk.Version, why string) {
	if !strings.HasPrefix(name, r.prefix) || !strings.Contains(name, r.contains) {
		return "", otherName
	}
	text := strings.TrimSuffix(strings.TrimPrefix(name, r.stripPrefix), r.stripSuffix)
	if r.separator != "" {
		text = strings.ReplaceAll(text, r.separator, ".")
	}
	for _, t := range r.transforms {
		text = t.match.ReplaceAllString(text, t.replace)
	}
	if versioned.MatchString(text) {
		text = text[1:]
	}
	if slices.ContainsFunc(r.ignored, func(re *regexp.Regexp) bool { return re.MatchString(name) || re.MatchString(text) }) {
		return "", ignoredName
	}
	if early.MatchString(name) {
		if !r.prereleases {
			return "", prerelease
		}
		text = suffix.ReplaceAllStringFunc(text, func(s string) string {
			m := suffix.FindStringSubmatch(s)
			return "_" + strings.ToLower(m[1]) + m[2]
		})
	}
	if v = apk.Version(text); !v.Valid() || strings.Contains(text, "-r") {
		return "", noVersion
	}
	return v, ""
}

// choose takes the latest of the releases, or with next the one that comes after the current.
func choose(names []name, r rules, current apk.Version, next bool) (best Release, ignored map[string]int) {
	ignored = map[string]int{}
	for _, n := range names {
		v, why := r.version(n.text)
		if why == "" && n.early && !r.prereleases {
			why = prerelease
		}
		found := Release{Version: v, Name: n.text}
		switch {
		case why != "":
			ignored[why]++
		case best.Version == "":
			best = found
		case next && apk.Compare(best.Version, current) > 0:
			if apk.Compare(v, current) > 0 && apk.Compare(v, best.Version) < 0 {
				best = found
			}
		case apk.Compare(v, best.Version) > 0:
			best = found
		}
	}
	return best, ignored
}

// A Release is a version with what upstream calls it.
type Release struct {
	Version apk.Version `json:"version"`
	Name    string      `json:"name"`
	Commit  string      `json:"commit,omitempty"` // of what has no name of its own
}
