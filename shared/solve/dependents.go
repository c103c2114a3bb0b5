package solve

import (
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

// Dependents lists the packages that depend on a name, by their own names: of
// each the newest only, for nobody gets another one unasked. A conflict with the
// name is no dependency.
func (u *Universe) Dependents(name string) []*apk.Package {
	id, ok := u.table.id(name)
	if !ok {
		return nil
	}
	u.table.link()
	var list []*apk.Package
	for _, by := range u.table.dependents.of(id) {
		if e, ok := u.table.newest(by); ok && e.dependsOn(id) {
			list = append(list, e.Package())
		}
	}
	slices.SortFunc(list, func(a, b *apk.Package) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// newest returns the highest version of the package of that very name, of equal ones the first.
func (t *table) newest(name int32) (newest entry, ok bool) {
	for _, r := range t.candidates.of(name) {
		e := t.entry(r.entry)
		if r.provide >= 0 || !e.detail().is(installable) {
			continue
		}
		if !ok || apk.Compare(e.version(), newest.version()) > 0 {
			newest, ok = e, true
		}
	}
	return newest, ok
}

func (e entry) dependsOn(name int32) bool {
	terms := e.terms()
	for i, on := range e.depends() {
		if on == name && !terms[i].conflict() {
			return true
		}
	}
	return false
}
