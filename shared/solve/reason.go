package solve

import "distro.internal/shared/apk"

// A reason is why a package was chosen: the first path from the world to it,
// depth first, where an install_if is a path only when there is no other.
type reason struct {
	by         *pack // nil: the world
	dependency apk.Dependency
	installIf  bool
}

func (c *commit) findReasons() {
	c.reasons = make(map[*pack]reason, len(c.order))
	for _, w := range c.world {
		if !w.conflict {
			c.reach(w.name.chosen.pack, reason{dependency: *w.Dependency})
		}
	}
	for changed := true; changed; {
		changed = false
		for _, k := range c.order {
			if r, complete := c.condition(k); complete {
				changed = c.reach(k, r) || changed
			}
		}
	}
}

// reach gives a package its reason, and what it depends on theirs. It reports
// whether the package had none.
func (c *commit) reach(k *pack, r reason) bool {
	if _, known := c.reasons[k]; known || k == nil {
		return false
	}
	c.reasons[k] = r
	for _, d := range k.depends() {
		if !d.conflict {
			c.reach(d.name.chosen.pack, reason{by: k, dependency: d.dependency()})
		}
	}
	return true
}

// condition returns the last condition of the install_if of k as a reason, if
// there is a reason for all of them.
func (c *commit) condition(k *pack) (r reason, complete bool) {
	for _, d := range k.installIf() {
		if d.conflict {
			continue
		}
		by := d.name.chosen.pack
		if _, known := c.reasons[by]; !known {
			return r, false
		}
		r = reason{by: by, dependency: d.dependency(), installIf: true}
	}
	return r, len(k.installIf()) > 0
}
