package sbom

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// purl spells a package URL: pkg:kind/namespace/name@version?qualifiers. Qualifiers are pairs of key and value; one
// with an empty value is left out.
func purl(kind, namespace, name, version string, qualifiers ...string) string {
	var b strings.Builder
	b.WriteString("pkg:" + kind)
	for part := range strings.SplitSeq(strings.Trim(namespace, "/"), "/") {
		if part != "" {
			b.WriteString("/" + purlEscape(part))
		}
	}
	b.WriteString("/" + purlEscape(name))
	if version != "" {
		b.WriteString("@" + purlEscape(version))
	}
	var pairs []string
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if qualifiers[i+1] != "" {
			pairs = append(pairs, qualifiers[i]+"="+purlEscape(qualifiers[i+1]))
		}
	}
	slices.Sort(pairs)
	if len(pairs) > 0 {
		b.WriteString("?" + strings.Join(pairs, "&"))
	}
	return b.String()
}

// purlEscape leaves what a package URL may hold as it is, and a colon, as the specification asks.
func purlEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isAlnum(c) || strings.IndexByte(".-_~:", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func purlRef(locator string) Reference { return Reference{"PACKAGE-MANAGER", "purl", locator} }

// location is what SPDX accepts as a place to download from, without credentials.
func location(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return noAssertion
	}
	u.User = nil
	return u.String()
}
