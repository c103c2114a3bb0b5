package policy

import (
	"fmt"

	"distro.internal/shared/apk"
)

// versions finds those that go back: apk takes the highest version, and keeps the one that it has.
func (j *judge) versions() error {
	for _, c := range j.Packages {
		if c.Old == nil || c.New == nil || apk.Compare(c.New.Version, c.Old.Version) >= 0 {
			continue
		}
		j.report(c, c.Places.Version, Finding{
			What: fmt.Sprintf("%s is %s, and %s is published", c.Name, c.New.Version, c.Old.Version),
			Why:  "apk upgrade keeps the published one",
			Fix:  "raise the version; to go back to what there was before, world generations rollback",
		})
	}
	return nil
}
