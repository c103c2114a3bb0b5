package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp"

	"distro.internal/shared/document"
)

// expressions are a package's licences with their places: those of the recipe, or what the package says where the recipe
// says it in other words.
func expressions(c Changed) []Licensed {
	if len(c.Places.Licenses) > 0 {
		return c.Places.Licenses
	}
	if c.New.License == "" {
		return nil
	}
	return []Licensed{{c.Places.Name, c.New.License}}
}

// licenses holds the expressions against SPDX's list. LicenseRef-NAME is what SPDX has for those that are not on it.
func (j *judge) licenses() error {
	for _, c := range j.Packages {
		if c.New == nil {
			continue
		}
		for _, l := range expressions(c) {
			valid, _ := spdxexp.ValidateLicenses([]string{l.Expression})
			if valid || licensedBefore(c) {
				continue
			}
			f := Finding{
				What: fmt.Sprintf("%q is not made of licences on SPDX's list", l.Expression),
				Why:  "scanners and bills of materials take it for a licence that nobody knows",
				Fix:  "name it as SPDX does, or LicenseRef-NAME when SPDX has no name for it",
			}
			if word := unknownLicense(l.Expression); word != "" {
				f.What = fmt.Sprintf("%q is not a licence on SPDX's list", word)
			}
			j.report(c, l.Pos, f)
		}
	}
	return nil
}

// licensedBefore tells of a package that is published under the same terms.
func licensedBefore(c Changed) bool {
	return c.Old != nil && c.Old.License == c.New.License
}

var licenseWords = strings.NewReplacer("(", " ", ")", " ", "+", " ")

// identifiers are the licences of an expression, as they are written.
func identifiers(expression string) []string {
	var list []string
	exception := false
	for _, word := range strings.Fields(licenseWords.Replace(expression)) {
		switch {
		case slices.Contains([]string{"AND", "OR", "WITH"}, strings.ToUpper(word)):
			exception = strings.ToUpper(word) == "WITH"
		case exception:
			exception = false
		default:
			list = append(list, word)
		}
	}
	return list
}

// unknownLicense is the first identifier that is at fault.
func unknownLicense(expression string) string {
	for _, id := range identifiers(expression) {
		if valid, _ := spdxexp.ValidateLicenses([]string{id}); !valid {
			return id
		}
	}
	return ""
}

// licensePolicy holds the expressions against what the workspace allows. Of alternatives one is enough.
func (j *judge) licensePolicy() error {
	if len(j.Licenses.Allow)+len(j.Licenses.Deny) == 0 {
		return nil
	}
	for _, c := range j.Packages {
		if c.New == nil {
			continue
		}
		for _, l := range expressions(c) {
			if refused := j.refused(l.Expression); refused != "" && !licensedBefore(c) {
				j.report(c, l.Pos, Finding{
					What: fmt.Sprintf("the workspace does not allow %s", refused),
					Why:  "licenses: in its file says so",
					Fix:  "leave the package out, or except it with a reason",
				})
			}
		}
	}
	return nil
}

// refused is what keeps an expression from being allowed, "" when it is.
func (j *judge) refused(expression string) string {
	var allowed, refused []string
	for _, id := range identifiers(expression) {
		if j.allows(id) {
			allowed = append(allowed, id)
		} else {
			refused = append(refused, id)
		}
	}
	if len(refused) == 0 {
		return ""
	}
	if ok, err := satisfied(expression, allowed); err == nil && ok {
		return ""
	}
	return names(refused)
}

// satisfied tells whether some licences are enough for an expression. Exceptions only add rights, and are passed over.
func satisfied(expression string, allowed []string) (bool, error) {
	if len(allowed) == 0 {
		return false, nil
	}
	var words []string
	fields := strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(expression))
	for i := 0; i < len(fields); i++ {
		if strings.ToUpper(fields[i]) == "WITH" {
			i++
			continue
		}
		words = append(words, fields[i])
	}
	return spdxexp.Satisfies(strings.Join(words, " "), allowed)
}

// allows tells whether the workspace allows a licence. What is denied is not, whatever else is said.
func (j *judge) allows(id string) bool {
	matches := func(s document.String) bool {
		ok, _ := path.Match(strings.ToLower(s.Value), strings.ToLower(id))
		return ok
	}
	if slices.ContainsFunc(j.Licenses.Deny, matches) {
		return false
	}
	return len(j.Licenses.Allow) == 0 || slices.ContainsFunc(j.Licenses.Allow, matches)
}
