package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// license turns the licence of a package, as people write it, into an SPDX expression and the texts that it needs. What
// is no expression ("see COPYING", "GPL2 or later") becomes one LicenseRef whose text is what was written.
func license(written string) (string, []ExtractedLicense) {
	written = strings.TrimSpace(written)
	if written == "" {
		return noAssertion, nil
	}
	p := licenseParser{tokens: licenseTokens(written)}
	if !p.expression() || len(p.tokens) > 0 {
		sum := sha256.Sum256([]byte(written))
		ref := "LicenseRef-" + hex.EncodeToString(sum[:8])
		return ref, []ExtractedLicense{{ID: ref, Text: written, Name: written}}
	}
	var texts []ExtractedLicense
	slices.Sort(p.refs)
	for _, ref := range slices.Compact(p.refs) {
		texts = append(texts, ExtractedLicense{ID: ref, Text: noAssertion, Name: strings.TrimPrefix(ref, "LicenseRef-")})
	}
	return strings.Join(licenseTokens(written), " "), texts
}

// IsExpression says whether a licence, as people write it, is an SPDX expression.
func IsExpression(written string) bool {
	p := licenseParser{tokens: licenseTokens(written)}
	return p.expression() && len(p.tokens) == 0
}

// licenseRefs lists the LicenseRefs in an expression.
func licenseRefs(expression string) []string {
	var refs []string
	for _, token := range licenseTokens(expression) {
		if strings.HasPrefix(token, "LicenseRef-") {
			refs = append(refs, token)
		}
	}
	return refs
}

// apart puts blanks around parentheses.
var apart = strings.NewReplacer("(", " ( ", ")", " ) ")

func licenseTokens(s string) []string { return strings.Fields(apart.Replace(s)) }

// licenseParser is the grammar of SPDX 2.3, annex D: terms joined by AND and OR, a term being an identifier with an
// optional exception, or an expression in parentheses.
type licenseParser struct {
	tokens []string
	refs   []string
	depth  int
}

func (p *licenseParser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *licenseParser) accept(token string) bool {
	if p.next() != token || token == "" {
		return false
	}
	p.tokens = p.tokens[1:]
	return true
}

func (p *licenseParser) expression() bool {
	if p.depth++; p.depth > 50 {
		return false
	}
	defer func() { p.depth-- }()
	for p.term() {
		if !p.accept("AND") && !p.accept("OR") {
			return true
		}
	}
	return false
}

func (p *licenseParser) term() bool {
	if p.accept("(") {
		return p.expression() && p.accept(")")
	}
	if !p.identifier() {
		return false
	}
	return !p.accept("WITH") || p.identifier()
}

func (p *licenseParser) identifier() bool {
	token := p.next()
	switch token {
	case "", "AND", "OR", "WITH", "(", ")":
		return false
	}
	for i := range len(strings.TrimSuffix(token, "+")) {
		if c := token[i]; !isAlnum(c) && c != '.' && c != '-' {
			return false
		}
	}
	if strings.HasPrefix(token, "LicenseRef-") {
		p.refs = append(p.refs, token)
	}
	p.tokens = p.tokens[1:]
	return true
}
