package solve

import (
	"fmt"
	"slices"
	"strings"

	"distro.internal/shared/apk"
)

// A Conflict says why a world has no solution: each Problem is a root of the
// trouble; what merely depends on one is left out.
type Conflict struct{ Problems []Problem }

// A Problem is one thing that can not be had.
type Problem struct {
	Name     string // of the package or of what should be provided
	What     string // "no such package"
	Wanted   []Want
	Rejected []Rejected
	Fix      string // the nearest change to the world that would help; may be empty
}

// A Want is a dependency on what can not be had, or against it.
type Want struct {
	Dependency apk.Dependency
	By         *apk.Package // nil: the world
	Chain      []string     // from the world to By, as "name" or "name-version"
}

// A Rejected package would go by the name, but may not.
type Rejected struct {
	Package *apk.Package
	Why     string
}

func (c *Conflict) Error() string {
	var b strings.Builder
	b.WriteString("no solution:")
	for _, p := range c.Problems {
		fmt.Fprintf(&b, "\n  %s: %s", p.Name, p.What)
		for _, w := range p.Wanted {
			fmt.Fprintf(&b, "\n    wanted: %s", w)
		}
		for _, r := range p.Rejected {
			fmt.Fprintf(&b, "\n    rejected: %s: %s", full(r.Package), r.Why)
		}
		if p.Fix != "" {
			fmt.Fprintf(&b, "\n    fix: %s", p.Fix)
		}
	}
	return b.String()
}

func (w Want) String() string {
	switch {
	case w.By == nil:
		return w.Dependency.String() + " by the world"
	case len(w.Chain) < 2:
		return w.Dependency.String() + " by " + full(w.By)
	}
	return w.Dependency.String() + " by " + full(w.By) + " (" + strings.Join(w.Chain, " -> ") + ")"
}

func full(p *apk.Package) string { return p.Name + "-" + string(p.Version) }

// A rejection is why a package was taken out of the choice.
type rejection struct {
	kind       rejectionKind
	by         *pack
	dependency *dep
	name       *name
	claimant   *name
}

// rejection returns why the package was closed, if it was.
func (k *pack) rejection() rejection {
	if k.rejected == 0 {
		return rejection{}
	}
	return k.problem.rejections[k.rejected-1]
}

type rejectionKind int8

const (
	notRejected  rejectionKind = iota
	byConstraint               // it does not fit a dependency of by; nil: of the world
	byDependency               // its own dependency can not be fulfilled
	byClaim                    // name has to go to someone who also goes by claimant
	byRival                    // name went to by
)

// A failure is what is wrong with a package that was chosen all the same.
type failure struct {
	kind  failureKind
	name  *name
	other *pack
	dep   *dep // of the package
}

// failure returns what is wrong with having chosen the package, if anything is.
func (k *pack) failure() failure {
	if k.failed == nil {
		return failure{}
	}
	return *k.failed
}

type failureKind int8

const (
	noFailure      failureKind = iota
	chosenClosed               // everything that goes by its name was rejected
	chosenUntagged             // it is only in a repository that nobody asked for
	providedTwice              // other goes by name too
	unfulfilled                // what was chosen does not fulfil dep
	needsFailed                // dep leads to a failure
)

const maxRejected = 8 // that an explanation lists for one name

// checkWorld refuses what can not even be looked for.
func (c *commit) checkWorld() error {
	var problems []Problem
	for _, w := range c.world {
		want := []Want{{Dependency: *w.Dependency}}
		switch {
		case !w.Dependency.Valid():
			problems = append(problems, Problem{Name: w.Name, What: fmt.Sprintf("%q is not a version", w.Version), Wanted: want})
		case w.Tag != "" && w.tags == 0:
			problems = append(problems, Problem{Name: w.Name, What: fmt.Sprintf("no repository has the tag @%s", w.Tag), Wanted: want})
		}
	}
	if problems == nil {
		return nil
	}
	return &Conflict{problems}
}

// explain finds the roots of the failures.
func (c *commit) explain(world []apk.Dependency, u *Universe) *Conflict {
	e := &explanation{commit: c, world: world, universe: u, told: map[*name]bool{}}
	for _, n := range c.unmet {
		e.tell(n, e.unmetName(n))
	}
	for _, k := range c.order {
		if k.failure().kind == providedTwice {
			e.tell(e.rivals(k))
		}
	}
	for _, k := range c.order {
		if n, p := e.failedPack(k); n != nil {
			e.tell(n, p)
		}
	}
	return &Conflict{e.problems}
}

type explanation struct {
	*commit
	world    []apk.Dependency
	universe *Universe
	problems []Problem
	told     map[*name]bool
}

func (e *explanation) tell(n *name, p Problem) {
	if !e.told[n] {
		e.told[n] = true
		if p.Wanted == nil {
			p.Wanted = []Want{e.firstWant(n)}
		}
		e.problems = append(e.problems, p)
	}
}

func (e *explanation) unmetName(n *name) Problem {
	p := Problem{Name: n.text, Wanted: e.wants(func(d dep) bool { return d.name == n && !d.conflict })}
	if len(n.candidates) == 0 {
		p.What = "no such package"
		if near := e.universe.nearest(n.text); near != "" {
			p.Fix = "did you mean " + near + "?"
			return p
		}
		p.Fix = e.nearestFix(p.Wanted)
		return p
	}
	p.What = "it is only provided, and by nobody who may be chosen unasked"
	var names []string
	for _, c := range n.candidates {
		if !slices.Contains(names, c.name.text) {
			names = append(names, c.name.text)
		}
	}
	p.Fix = "add one of these to the world: " + strings.Join(names, ", ")
	return p
}

// failedPack returns the name that is to blame for the failure of k; none if
// that is told elsewhere.
func (e *explanation) failedPack(k *pack) (*name, Problem) {
	f := k.failure()
	switch f.kind {
	case chosenClosed:
		if e.told[k.rejection().name] {
			return nil, Problem{}
		}
		return e.closedPack(k)
	case chosenUntagged:
		return k.name, Problem{
			Name:   k.name.text,
			What:   full(k.Package()) + " is only in a repository that has to be asked for",
			Wanted: e.wants(k.isConcernedBy),
			Fix:    "ask for " + k.name.text + "@" + e.firstTag(k),
		}
	case unfulfilled:
		got := f.dep.name.chosen.pack
		if got == nil || got != k && got.failed != nil {
			return nil, Problem{} // told there
		}
		p := Problem{Name: f.dep.name.text}
		p.What = fmt.Sprintf("%s depends on %s, but %s is to be installed", full(k.Package()), f.dep, full(got.Package()))
		p.Wanted = e.wants(func(d dep) bool { return d.name == f.dep.name })
		p.Fix = e.nearestFix(p.Wanted)
		return f.dep.name, p
	}
	return nil, Problem{}
}

// closedPack looks for the name that is to blame for k having been closed.
func (e *explanation) closedPack(k *pack) (*name, Problem) {
	n, user, d := k.name, (*pack)(nil), dep{}
	for range e.entryCount() { // a circle ends somewhere too
		cause := k.cause()
		if cause.name == nil {
			break
		}
		n, user, d = cause.name, k, cause
		i := slices.IndexFunc(n.candidates, func(c candidate) bool { return fits(d, k, c) && c.cause().name != nil })
		if i < 0 {
			break
		}
		k = n.candidates[i].pack
	}
	p := Problem{Name: n.text, What: "nothing that goes by this name fits"}
	if len(n.candidates) == 0 {
		return n, e.unmetName(n)
	}
	p.Wanted = e.wants(func(o dep) bool { return o.name == n || k.name == n && k.isConcernedBy(o) })
	if user != nil && !slices.Contains(e.order, user) {
		p.Wanted = append(p.Wanted, Want{Dependency: d.dependency(), By: user.Package()})
	}
	p.Rejected = e.rejected(n, user, d)
	p.Fix = e.nearestFix(p.Wanted)
	return n, p
}

// cause returns the dependency for which a package was closed.
func (k *pack) cause() dep {
	if r := k.rejection(); r.kind == byDependency {
		return *r.dependency
	}
	return dep{}
}

// rivals returns the name that k was given though another package has it.
func (e *explanation) rivals(k *pack) (*name, Problem) {
	f := k.failure()
	p := Problem{Name: f.name.text, What: e.twice(k)}
	p.Wanted = e.wants(func(d dep) bool { return k.isConcernedBy(d) || f.other.isConcernedBy(d) })
	p.Fix = e.nearestFix(p.Wanted)
	return f.name, p
}

func (e *explanation) twice(k *pack) string {
	f := k.failure()
	switch {
	case f.other == k:
		return fmt.Sprintf("%s conflicts with itself: it is %s more than once", full(k.Package()), f.name.text)
	case f.other == nil:
		return fmt.Sprintf("%s is needed, and must not be there", f.name.text)
	}
	return fmt.Sprintf("both %s and %s are %s", full(k.Package()), full(f.other.Package()), f.name.text)
}

// isConcernedBy reports whether d names the package in any way.
func (k *pack) isConcernedBy(d dep) bool {
	return k != nil && (d.name == k.name || slices.ContainsFunc(k.provides(), func(v dep) bool { return v.name == d.name }))
}

// wants lists the dependencies of the world and of what was chosen.
func (e *explanation) wants(of func(dep) bool) []Want {
	var list []Want
	for _, w := range e.commit.world {
		if !w.broken && of(w.dep) {
			list = append(list, Want{Dependency: *w.Dependency})
		}
	}
	for _, k := range e.order {
		for _, d := range k.depends() {
			if of(d) && !(d.conflict && fits(d, k, d.name.chosen)) {
				list = append(list, Want{Dependency: d.dependency(), By: k.Package(), Chain: e.chain(k)})
			}
		}
	}
	return list
}

// firstWant is what made a name wanted, by something not chosen in the end.
func (e *explanation) firstWant(n *name) Want {
	w := Want{Dependency: apk.Dependency{Name: n.text}}
	if n.wantedBy != nil {
		w.By, w.Chain = n.wantedBy.Package(), e.chain(n.wantedBy)
	}
	return w
}

// chain leads from the world to k.
func (e *explanation) chain(k *pack) []string {
	var chain []string
	for k != nil && len(chain) < len(e.order) {
		chain = append(chain, full(k.Package()))
		r := e.reasons[k]
		k = r.by
	}
	chain = append(chain, "world")
	slices.Reverse(chain)
	return chain
}

// rejected lists who goes by n and why user, who asks for d, can not have it.
func (e *explanation) rejected(n *name, user *pack, d dep) []Rejected {
	var list []Rejected
	for _, c := range n.candidates {
		why := c.whyRejected()
		if user != nil && c.rejection().kind == notRejected && !fits(d, user, c) {
			why = fmt.Sprintf("%s wants %s", full(user.Package()), d)
		}
		list = append(list, Rejected{c.Package(), why})
	}
	slices.SortStableFunc(list, func(a, b Rejected) int { return apk.Compare(b.Package.Version, a.Package.Version) })
	return list[:min(len(list), maxRejected)]
}

func (k *pack) whyRejected() string {
	r := k.rejection()
	switch {
	case !k.is(installable):
		return k.whyUninstallable()
	case r.kind == byConstraint && r.by == nil:
		return fmt.Sprintf("the world wants %s", r.dependency)
	case r.kind == byConstraint:
		return fmt.Sprintf("%s wants %s", full(r.by.Package()), r.dependency)
	case r.kind == byDependency:
		return fmt.Sprintf("its dependency %s can not be fulfilled", r.dependency)
	case r.kind == byClaim:
		return fmt.Sprintf("%s has to go to a package that is %s too", r.name.text, r.claimant.text)
	case r.kind == byRival && r.by != nil:
		return fmt.Sprintf("%s is %s already", full(r.by.Package()), r.name.text)
	case r.kind == byRival:
		return fmt.Sprintf("%s must not be there", r.name.text)
	case !k.is(available | installed):
		return "its repository can not be reached"
	}
	return "it was not looked at any more"
}

func (k *pack) whyUninstallable() string {
	for _, d := range k.Package().Depends {
		if d.Op != apk.Any && !d.Valid() || d.Tag != "" {
			return fmt.Sprintf("its dependency %q can not be read", d)
		}
	}
	return fmt.Sprintf("it is built for %s", k.Package().Arch)
}

func (e *explanation) firstTag(k *pack) string {
	for i, t := range e.u.tags {
		if k.tags&(1<<i) != 0 {
			return t
		}
	}
	return ""
}

// nearestFix tries the dependencies of the world that the wants stem from: any
// version, then without.
func (e *explanation) nearestFix(wants []Want) string {
	roots := e.roots(wants)
	for _, i := range roots {
		if e.world[i].Op == apk.Any || e.world[i].Conflict {
			continue
		}
		world := slices.Clone(e.world)
		world[i].Op, world[i].Version = apk.Any, ""
		if e.solvable(world) {
			return fmt.Sprintf("there is a solution with %s in place of %s in the world", world[i], e.world[i])
		}
	}
	for _, i := range roots {
		if rest := slices.Delete(slices.Clone(e.world), i, i+1); len(rest) > 0 && e.solvable(rest) {
			return fmt.Sprintf("there is a solution without %s in the world", e.world[i])
		}
	}
	return ""
}

func (e *explanation) solvable(world []apk.Dependency) bool {
	c := &commit{search: &search{problem: e.universe.pose(world, e.options, nil)}}
	c.search.run()
	c.run()
	return c.failures == 0
}

const maxRoots = 8 // solving is cheap, but not free

// roots returns the dependencies of the world from which the wants stem, by
// position.
func (e *explanation) roots(wants []Want) []int {
	var roots []int
	for _, w := range wants {
		root := w.Dependency.Name
		if w.By != nil {
			root = e.rootOf(w.By)
		}
		i := slices.IndexFunc(e.world, func(d apk.Dependency) bool { return d.Name == root })
		if i >= 0 && !slices.Contains(roots, i) && len(roots) < maxRoots {
			roots = append(roots, i)
		}
	}
	return roots
}

// rootOf returns the name of the world that led to the package.
func (e *explanation) rootOf(p *apk.Package) string {
	i := slices.IndexFunc(e.order, func(k *pack) bool { return k.Package() == p })
	if i < 0 {
		return ""
	}
	for k, steps := e.order[i], 0; steps <= len(e.order); steps++ {
		r := e.reasons[k]
		if r.by == nil {
			return r.dependency.Name
		}
		k = r.by
	}
	return ""
}

// nearest returns the package name that is most like one that is not there:
// at most two letters off, or one that only has something before or behind it.
func (u *Universe) nearest(text string) string {
	best, least := "", 3
	for e := range u.table.each {
		if d := distance(text, e.name(), least); d < least {
			best, least = e.name(), d
		}
	}
	return best
}

// distance counts the letters to insert, remove or change to get from a to b,
// but not beyond limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit || len(a) < 3 {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
			least = min(least, row[j+1])
		}
		if least >= limit {
			return limit
		}
	}
	return row[len(b)]
}
