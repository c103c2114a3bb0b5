package policy

import (
	"cmp"
	"fmt"

	"distro.internal/shared/apk"
	"distro.internal/shared/console"
	"distro.internal/shared/solve"
)

// What is usual, where the workspace says nothing.
const (
	packageGrowth = "25%"
	imageGrowth   = "10%"
)

// grew tells whether something became too big.
func (j *judge) grew(old, now int64, limit string) bool {
	most, _ := percent(limit)
	least, _ := size(j.Growth.Least.Value)
	return now-old >= least && float64(now-old)*100 > float64(old)*most
}

func growth(old, now int64) string {
	text := fmt.Sprintf("from %s to %s", console.Bytes(old), console.Bytes(now))
	if old > 0 {
		text += fmt.Sprintf(", by %d%%", (now-old)*100/old)
	}
	return text
}

func (j *judge) sizes() error {
	limit := cmp.Or(j.Growth.Package.Value, packageGrowth)
	for _, c := range j.Packages {
		if c.Old != nil && c.New != nil && j.grew(c.Old.InstalledSize, c.New.InstalledSize, limit) {
			j.report(c, at(c), Finding{
				What: fmt.Sprintf("%s grew %s", c.Name, growth(c.Old.InstalledSize, c.New.InstalledSize)),
				Why:  "the limit is " + limit,
			})
		}
	}
	return nil
}

func (j *judge) imageSizes() error {
	limit := cmp.Or(j.Growth.Image.Value, imageGrowth)
	for _, image := range j.Images {
		old, err := installedSize(image.Before, image.WorldBefore)
		if err != nil {
			continue // told by another check, or no image before
		}
		now, err := installedSize(image.After, image.World)
		if err != nil || !j.grew(old, now, limit) {
			continue
		}
		j.add(image.Pos, Finding{
			Nodes: []string{image.Node}, Recipe: image.Name,
			What: fmt.Sprintf("the image grew %s", growth(old, now)), Why: "the limit is " + limit,
		})
	}
	return nil
}

// installedSize is of all that a world comes to.
func installedSize(u *solve.Universe, world []apk.Dependency) (int64, error) {
	s, err := u.Solve(world, solve.Options{})
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range s.Packages {
		sum += p.InstalledSize
	}
	return sum, nil
}
