package policy

import (
	"fmt"
	"maps"
	"slices"

	"distro.internal/shared/apk"
)

// versions finds those that go back: apk takes the highest version, and keeps the one that it has. The packages of a
// recipe have one version, and are told of once.
func (j *judge) versions() error {
	back := map[string][]Changed{} // by node
	for _, c := range j.Packages {
		if c.Old != nil && c.New != nil && apk.Compare(c.New.Version, c.Old.Version) < 0 {
			back[c.Node] = append(back[c.Node], c)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(back)) {
		var list []string
		for _, c := range back[node] {
			list = append(list, c.Name)
		}
		first := back[node][0]
		j.report(first, first.Places.Version, Finding{
			What: fmt.Sprintf("the version is %s, and %s is published: %s", first.New.Version, first.Old.Version, names(list)),
			Why:  "apk upgrade keeps the published one",
			Fix:  "raise the version; to go back to what there was before, world generations rollback",
		})
	}
	return nil
}
