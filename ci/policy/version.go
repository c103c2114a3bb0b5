package policy

import (
	"fmt"
	"strconv"
	"strings"

	"distro.internal/shared/apk"
)

// apk takes the highest version, and of equal ones the one that it has. So a
// package whose version goes back, or whose content changes under its version,
// comes to images and to new machines, and to no machine that has it already.
// A recipe's epoch is what is published: nobody counts on it for deciding what
// to build, but who serves machines that upgrade has to raise it.

// versions finds those that go back.
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

// releases finds other content under a version that is published. The packages of a recipe have one version.
func (j *judge) releases() error {
	var of []Changed // the first of each recipe
	together := map[string][]string{}
	if err := j.each(func(c Changed, old, now *Contents) {
		if c.Old == nil || c.New == nil || c.New.Version != c.Old.Version || old.Payload == now.Payload {
			return
		}
		if together[c.Node] == nil {
			of = append(of, c)
		}
		together[c.Node] = append(together[c.Node], c.Name)
	}); err != nil {
		return err
	}
	for _, c := range of {
		j.report(c, c.Places.Version, Finding{
			What: fmt.Sprintf("%s is published with other content: %s", c.Old.Version, names(together[c.Node])),
			Why:  "images and new machines get it; apk upgrade on a machine that has this version does not",
			Fix:  nextEpoch(c.Old.Version),
		})
	}
	return nil
}

// nextEpoch is what makes a version a higher one.
func nextEpoch(v apk.Version) string {
	i := strings.LastIndex(string(v), "-r")
	if i < 0 {
		return "raise the version"
	}
	n, err := strconv.Atoi(string(v)[i+2:])
	if err != nil {
		return "raise the version"
	}
	return fmt.Sprintf("epoch: %d", n+1)
}
