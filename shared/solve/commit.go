package solve

// The commit order. What has been chosen is written down depth first: the
// world in order, every package after what it depends on, and a package that
// comes along by its install_if as soon as the last of its conditions is
// written down. What is installed and was not chosen is removed before the
// package that takes its place, or when the last one that needs it goes.
//
// This pass also finds what propagation could not see: a dependency that what
// was chosen does not fulfil, and so all who depend on a package with a failure.

type commitState struct {
	handled bool  // the commit has come by
	gone    bool  // its installed package is removed
	holder  *pack // the installed package of this very name
	needed  *name // the name under which it is installed, own or provided in a version
	users   int   // how many installed packages depend on it
}

type commit struct {
	*search
	solution Solution
	order    []*pack
	reasons  map[*pack]reason
}

func (c *commit) run() {
	c.recordInstalled()
	for _, k := range c.problem.installed {
		c.removeUnneeded(k)
	}
	for i := range c.world {
		c.follow(nil, &c.world[i].dep)
	}
	for _, k := range c.problem.installed {
		c.visit(k.name)
	}
	c.findReasons()
}

func (c *commit) recordInstalled() {
	for _, k := range c.problem.installed {
		k.name.holder, k.name.needed = k, k.name
		c.candidatesOf(k.name)
		for _, d := range k.provides() {
			c.candidatesOf(d.name)
			if d.version != "" {
				d.name.needed = k.name
			}
		}
	}
	for _, k := range c.problem.installed {
		k.addUsers()
	}
}

func (k *pack) addUsers() {
	for _, d := range k.depends() {
		if !d.conflict && d.name.needed != nil {
			d.name.needed.users++
		}
	}
}

func (c *commit) dropUsers(k *pack) {
	for _, d := range k.depends() {
		if d.conflict || d.name.needed == nil {
			continue
		}
		if d.name.needed.users--; d.name.needed.users == 0 && d.name.holder != nil {
			c.remove(d.name.holder)
		}
	}
}

// removeUnneeded removes an installed package that nobody installed needs and
// whose name went to nobody. Where it went to another package, that one's
// turn will come.
func (c *commit) removeUnneeded(k *pack) {
	if k.name.users == 0 && k.name.chosen.pack == nil {
		c.remove(k)
	}
}

// follow writes down what a dependency led to.
func (c *commit) follow(by *pack, d *dep) {
	k := d.name.chosen.pack
	if !fits(*d, by, d.name.chosen) {
		c.fail(by, failure{kind: unfulfilled, dep: d})
	}
	c.visit(d.name)
	if k != nil && k.failed != nil {
		c.fail(by, failure{kind: needsFailed, dep: d})
	}
}

func (c *commit) visit(n *name) {
	if n.handled {
		return
	}
	c.makeRoom(n)
	k := n.chosen.pack
	if k == nil || k.committed {
		return
	}
	k.committed = true
	c.makeRoom(k.name)
	for _, d := range k.provides() {
		c.makeRoom(d.name)
	}
	old := k.name.holder
	c.eachWaiting(old, c.removeStranded)
	for i := range k.depends() {
		c.follow(k, &k.depends()[i])
	}
	c.write(old, k)
	c.eachWaiting(k, c.comeAlong)
	k.addUsers()
	if old != nil {
		c.dropUsers(old)
	}
}

// makeRoom removes what is installed under a name and is not to be any more.
func (c *commit) makeRoom(n *name) {
	if n.handled {
		return
	}
	n.handled = true
	if n.holder != nil && (n.chosen.pack == nil || n.chosen.name != n) {
		c.remove(n.holder)
	}
	for _, k := range n.candidates { // what is installed is expanded
		if k.name.holder == k.pack && k.name.chosen.pack == nil {
			c.remove(k.pack)
		}
	}
}

func (c *commit) eachWaiting(k *pack, do func(*name)) {
	if k == nil {
		return
	}
	for _, w := range c.waiting.of(k.name.id) {
		do(c.nameOf(w))
	}
	for _, d := range k.provides() {
		for _, w := range c.waiting.of(d.name.id) {
			do(c.nameOf(w))
		}
	}
}

// comeAlong writes down the package of a name if its install_if is complete.
func (c *commit) comeAlong(n *name) {
	k := n.chosen.pack
	if k == nil || n.order == 0 || n.handled {
		return
	}
	for _, d := range k.installIf() {
		if !d.conflict && !d.name.handled || !fits(d, k, d.name.chosen) {
			return
		}
	}
	c.visit(n)
}

// removeStranded removes a package that came along with one that has gone.
func (c *commit) removeStranded(n *name) {
	k := n.holder
	if k == nil || n.chosen.pack != nil || n.handled || n.gone {
		return
	}
	for _, d := range k.installIf() {
		if d.name.gone && d.name.chosen.pack == nil {
			c.removeUnneeded(k)
			return
		}
	}
}

func (c *commit) remove(k *pack) {
	n := k.name
	if k.committed || n.chosen.pack != nil && n.chosen.name == n {
		return
	}
	n.gone, k.committed = true, true
	c.removeDependents(k, n)
	for _, d := range k.provides() {
		c.removeDependents(k, d.name)
	}
	c.eachWaiting(k, c.removeStranded)
	c.write(k, nil)
	c.dropUsers(k)
}

// removeDependents removes what is installed and has a dependency on n that k
// fulfils.
func (c *commit) removeDependents(k *pack, n *name) {
	for _, user := range c.dependents.of(n.id) {
		for _, u := range c.candidatesOf(c.nameOf(user)) {
			if !u.is(installed) {
				continue
			}
			for _, d := range u.depends() {
				if k.fulfils(u.pack, d) {
					c.remove(u.pack)
				}
			}
		}
	}
}

// fulfils reports whether d, a dependency of by, names k and accepts it.
func (k *pack) fulfils(by *pack, d dep) bool {
	if d.name == k.name {
		return fits(d, nil, candidate{k, k.entry.version()})
	}
	for _, v := range k.provides() {
		if v.name == d.name {
			return fits(d, by, candidate{k, v.version})
		}
	}
	return false
}

// write writes down one step: from one package of a name to another.
func (c *commit) write(from, to *pack) {
	change := Change{}
	if from != nil {
		change.Old, change.OldTag = from.Package(), c.oldTag(from)
	}
	if to != nil {
		change.New, change.NewTag = to.Package(), c.tagOf(to)
		change.Reinstall = to.flags&Reinstall != 0
		c.order = append(c.order, to)
	}
	if from != to || change.Reinstall || change.OldTag != change.NewTag {
		c.solution.Changes = append(c.solution.Changes, change)
	}
}

// tagOf returns the tag under which a package was chosen.
func (c *commit) tagOf(k *pack) string {
	allowed := k.tagsAllowed & k.had
	for i, t := range c.u.tags {
		if allowed&(1<<i) != 0 {
			return t
		}
	}
	return ""
}

func (c *commit) finish() *Solution {
	for _, k := range c.order {
		r := c.reasons[k]
		chosen := Chosen{Package: k.Package(), Repository: int(k.repository), Tag: c.tagOf(k)}
		chosen.Reason.Dependency, chosen.Reason.InstallIf = r.dependency, r.installIf
		if r.by != nil {
			chosen.Reason.By = r.by.name.text
		}
		c.solution.Packages = append(c.solution.Packages, chosen)
	}
	for _, w := range c.world {
		if w.broken {
			c.solution.Dropped = append(c.solution.Dropped, *w.Dependency)
		}
	}
	return &c.solution
}
